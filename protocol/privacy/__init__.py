"""Privacy: when a peer may contribute, what a round's traffic tells a coalition, and what is recorded of a round.

Neighbours: ``aggregation`` asks ``guard`` before anything leaves a node; ``record`` is what a node of a public-data
task reports about a round, which ``peer.audit`` writes down and checks; ``leakage`` is the exact engine behind the
audit, the tests of the guard, and ``exposure``, which the user's leakage command and experiments ask.
Invariants: everything here is a value or a pure function; nothing here is needed to take part in a round except
``guard``.

- ``guard``: the contribution rule and the publication rule.
- ``leakage``: which single values and which sums a coalition learns, by the theorem (components of the mask graph)
  and, independently, by linear algebra.
- ``record``: one peer's part in one round, with its secrets: for public data only.
- ``description``: from the records of a round to what ``leakage`` wants to know of it.
- ``exposure``: what a share of corrupt peers learns: of a shape, in closed form, by Monte Carlo and exactly; or of one
  described round.
"""
