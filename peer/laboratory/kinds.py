"""What one run of an experiment can be: kinds by name.

Neighbours: ``experiment`` has parameters checked by a kind, ``work`` runs it; each kind is a module of its own.
Invariants: a kind holds no state; a run depends on its parameters and its seed alone; kinds import what is heavy when
they run.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from peer.laboratory.availability import Availability
from peer.laboratory.convergence import Convergence
from peer.laboratory.exposure import Exposure
from peer.laboratory.network import Network
from peer.laboratory.overhead import Overhead

Value = int | float | str | bool | None
Row = dict[str, Value]
"""One line of results by column; a figure that is not there, or not finite, is None."""


class Kind(Protocol):
    """What one run does."""

    @property
    def name(self) -> str:
        """As experiment files say it."""

    @property
    def axes(self) -> tuple[str, ...]:
        """Columns that tell where on a curve a row stands (a time, a step); other figures are measured there.

        Columns of text tell rows apart without being named here.
        """

    def check(self, parameters: Mapping[str, Any], place: str) -> list[str]:
        """All mistakes in the parameters, one sentence each; ``place`` names them in sentences."""

    def run(self, parameters: Mapping[str, Any], seed: int) -> list[Row]:
        """One run of checked parameters; several rows for a curve.  May be called in any process, any number of times.

        What it raises fails this run alone.
        """


@runtime_checkable
class ReadsFiles(Protocol):
    """A kind whose parameters may name files.

    They are read once, where the experiment is started: ``check`` and ``run`` find the texts by name under the
    additional parameter ``texts``, so that a run does the same wherever it is done.
    """

    def files(self, parameters: Mapping[str, Any]) -> list[str]:
        """The files that the parameters name, relative to the experiment's."""


SCENARIO = Network()
"""What a single scenario is of, step by step."""
KINDS: dict[str, Kind] = {kind.name: kind for kind in (Availability(), Convergence(), Exposure(), SCENARIO, Overhead())}
