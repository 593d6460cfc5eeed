"""The kind ``availability``: which share of the peers a model of churn keeps online, hour by hour.

Neighbours: ``kinds`` lists it; ``protocol.simulation.churn`` has the models.
Invariants: those of a kind.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from protocol.base.errors import ConfigurationError
from protocol.simulation import churn
from protocol.simulation.plain import Table

if TYPE_CHECKING:
    from peer.laboratory.kinds import Row

MAX_PEERS = 1_000_000
MAX_HOURS = 24 * 366
HOUR_S = 3600.0


class Availability:
    """Parameters: ``churn`` (a name or a table, see ``churn.parse``), ``peers`` (100), ``hours`` (24).

    Rows: ``hour``; ``online``, the share of the peers that are online at that hour; ``begun``, sessions that a peer
    began, on average, in the hour before.
    """

    name = "availability"
    axes = ("hour",)

    def files(self, parameters: Mapping[str, Any]) -> list[str]:
        """The trace's."""
        return churn.files(parameters.get("churn"))

    def check(self, parameters: Mapping[str, Any], place: str) -> list[str]:
        """All mistakes."""
        problems: list[str] = []
        table = Table(parameters, place, problems)
        peers = table.whole("peers", 100, least=1, most=MAX_PEERS)
        table.whole("hours", 24, least=1, most=MAX_HOURS)
        known = None
        try:
            known = churn.parse(table.get("churn", "always"), f"{place}.churn", 0, table.get("texts")).population
        except ConfigurationError as error:
            problems += error.problems
        if table.ok and known is not None and known < peers:
            table.say(f"{table.at('peers')} is {peers}, but the trace of {table.at('churn')} has {known}")
        table.close()
        return problems

    def run(self, parameters: Mapping[str, Any], seed: int) -> "list[Row]":
        """One population's life."""
        peers, hours = parameters.get("peers", 100), parameters.get("hours", 24)
        model = churn.parse(parameters.get("churn", "always"), "churn", seed, parameters.get("texts"))
        online, begun = [0] * (hours + 1), [0] * (hours + 1)
        for peer in range(peers):
            for begin, end in model.sessions(peer):
                if begin > hours * HOUR_S:
                    break
                first = -int(-begin // HOUR_S)
                begun[first] += begin > 0
                for hour in range(first, hours + 1):
                    if hour * HOUR_S >= end:
                        break
                    online[hour] += 1
        return [
            {"hour": hour, "online": online[hour] / peers, "begun": begun[hour] / peers} for hour in range(hours + 1)
        ]
