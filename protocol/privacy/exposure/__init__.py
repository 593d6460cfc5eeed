"""How much a share of corrupt peers learns: of a shape of tree under failures, and of a described round.

Neighbours: ``leakage`` is the exact engine below it; the user's leakage command and experiments call ``study`` and
``round_exposure``.  It knows shapes as plain numbers, so that it stands beside ``aggregation`` and not above it.

- ``tree``: a shape, any other tree, and what may happen to a partial on its way.
- ``theory``: expected numbers in closed form.
- ``montecarlo``: random trees by the batch, and the sizes of the components that a coalition sees.
- ``exact``: every coalition of a small tree by linear algebra; also for protocols with a clause broken.
- ``recorded``: one described round.
- ``study``: the three engines side by side.

Definitions, the same in all engines.  Every peer is corrupt with probability q, independently of everything else; all
corrupt peers pool what they see.  A partial that its node sends is *lost* with probability f (it reaches nobody, as
when the node dies first), else *late* with probability l (its parent holds it and does not combine it), else *on time*.
Every node follows the contribution rule; one that may not contribute says nothing, and its subtree is left out.

- A contributor is *published* when its value is inside the total that the root publishes.
- A contributor has *arrived* when its own vector reached its parent, combined or not (the root: when it published).
  Nobody can learn anything of another one.  Whoever is published has arrived.
- An honest contributor is *exposed* when its value, alone, follows from the corrupt peers' view of the round.
- The *share exposed* among the published (or the arrived) is the expected number of exposed honest ones over the
  expected number of honest ones: the probability that a contributor which is honest is exposed.
- Its *component* is its connected component of the mask graph on the honest contributors: the anonymity set whose sum
  is all that is learned; or *hidden*, when not even that is.
"""

from protocol.privacy.exposure.exact import Exact, by_algebra
from protocol.privacy.exposure.montecarlo import MonteCarlo, monte_carlo
from protocol.privacy.exposure.recorded import RoundExposure, round_exposure
from protocol.privacy.exposure.study import Study, study
from protocol.privacy.exposure.theory import Theory, closed_form
from protocol.privacy.exposure.tree import Faults, Shape, Tree

__all__ = [
    "Exact",
    "Faults",
    "MonteCarlo",
    "RoundExposure",
    "Shape",
    "Study",
    "Theory",
    "Tree",
    "by_algebra",
    "closed_form",
    "monte_carlo",
    "round_exposure",
    "study",
]
