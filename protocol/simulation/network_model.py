"""Parameters of a network: presets, and a parser from plain data.

Neighbours: ``network`` is one world's state of such a model; ``figures`` holds what is measured.
Invariants: frozen; times in seconds, rates in bytes per second, chances between 0 and 1.

Measured: the time and the success share of setting up a connection between two smartphones (``figures``).  Modelled,
as round numbers of the usual order of magnitude: all latencies, losses, bandwidths, and the NAT table.  A lost message
is one whose connection has gone silent, not a packet: those TCP sends again by itself.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from protocol.base.errors import ConfigurationError
from protocol.base.printing import shown
from protocol.simulation.distributions import Constant, Distribution, Exponential, Lognormal, field_of
from protocol.simulation.figures import SETUP_FAILED_S, SETUP_SUCCEEDED_S, SETUP_SUCCESS_SHARE
from protocol.simulation.plain import Table

_NONE, _MILLISECOND, _PATIENCE = Constant(0.0), Constant(0.001), Constant(10.0)


class NatClass(IntEnum):
    """How a peer's router treats what comes from outside (behaviours as in RFC 4787)."""

    OPEN = 0
    """A public address, or a forwarded port."""
    CONE = 1
    """Endpoint-independent mapping, address- and port-dependent filtering: holes can be punched."""
    SYMMETRIC = 2
    """Address- and port-dependent mapping: the port that others see cannot be told beforehand."""
    BLOCKED = 3
    """Only what was begun inside; nothing that somebody else asks for, so not even an introduction."""


CAN_DIAL = (
    (True, True, True, False),
    (True, True, False, False),
    (True, False, False, False),
    (True, False, False, False),
)
"""``CAN_DIAL[dialler][dialled]``: anybody dials an open peer; an open peer reaches one behind a cone or symmetric NAT
by asking it, through an introducer, to dial back; two cones punch holes (RFC 5128, section 3.3); a symmetric NAT's port
cannot be guessed behind a filter that depends on ports.  A connection that stands serves both directions, whoever
dialled: so a blocked peer is reached once it has dialled."""


@dataclass(frozen=True, slots=True)
class NatShares:
    """What share of peers is in each class; the shares add up to 1."""

    open: float
    cone: float
    symmetric: float
    blocked: float

    def class_at(self, at: float) -> NatClass:
        """The class at a point of [0, 1) divided by the shares."""
        for nat, width in (
            (NatClass.OPEN, self.open),
            (NatClass.CONE, self.cone),
            (NatClass.SYMMETRIC, self.symmetric),
        ):
            if at < width:
                return nat
            at -= width
        return NatClass.BLOCKED


@dataclass(frozen=True, slots=True)
class Connections:
    """Set-up of a connection, when two peers talk for the first time in a session of either."""

    setup_s: Distribution = _NONE
    """Until it stands; messages wait."""
    success: float = 1.0
    """The chance that it does, where NAT lets it; a pair that failed stays unreachable for the session of either."""
    failure_s: Distribution = _PATIENCE
    """Until the dialler gives up."""
    nat: NatShares | None = None
    """None: everybody can dial everybody."""


@dataclass(frozen=True, slots=True)
class NetworkModel:
    """Parameters of a network.  The default is ideal: a millisecond, nothing lost, no limit."""

    latency_s: Distribution = _MILLISECOND
    """Base latency of a pair of peers, one way; drawn once for each pair."""
    jitter_s: Distribution = _NONE
    """Added to it, drawn for each message."""
    loss: float = 0.0
    """The chance that a message is lost."""
    resend_s: float | None = None
    """How long its sender takes to notice and to send it again; None: never.  The presets have what the daemon's
    transport waits for an acknowledgement."""
    duplication: float = 0.0
    """The chance that a message arrives twice."""
    up_bytes_per_s: Distribution | None = None
    """A peer's uplink, drawn once for each peer; None: no limit.  Below 1 byte per second counts as 1."""
    down_bytes_per_s: Distribution | None = None
    """A peer's downlink, likewise."""
    interleaved_bytes: int = 16 * 2**10
    """A message up to this size takes its time, but does not queue: it passes between the packets of others."""
    silence_s: Distribution = _PATIENCE
    """How long a sender waits for somebody who is not there, cut off, or across a partition."""
    connections: Connections | None = None
    """None: no set-up, everybody reaches everybody."""


UNACKNOWLEDGED_S = 10.0
"""As ``peer.transport.client.ClientLimits.unacknowledged_s``."""

MEASURED_SETUP = Connections(SETUP_SUCCEEDED_S, SETUP_SUCCESS_SHARE, SETUP_FAILED_S)
"""Set-up between two smartphones, as measured."""

PRESETS: dict[str, NetworkModel] = {
    "ideal": NetworkModel(),
    "lan": NetworkModel(
        latency_s=Lognormal(0.0005, 0.3),
        jitter_s=Exponential(0.0002),
        up_bytes_per_s=Constant(100e6),
        down_bytes_per_s=Constant(100e6),
        silence_s=Constant(5.0),
    ),
    "wan": NetworkModel(
        latency_s=Lognormal(0.04, 0.6),
        jitter_s=Exponential(0.005),
        loss=0.001,
        resend_s=UNACKNOWLEDGED_S,
        up_bytes_per_s=Lognormal(2.5e6, 0.7),
        down_bytes_per_s=Lognormal(10e6, 0.7),
    ),
    "smartphones": NetworkModel(
        latency_s=Lognormal(0.06, 0.6),
        jitter_s=Exponential(0.02),
        loss=0.005,
        resend_s=UNACKNOWLEDGED_S,
        up_bytes_per_s=Lognormal(1.25e6, 0.8),
        down_bytes_per_s=Lognormal(4e6, 0.8),
        silence_s=Constant(15.0),
        connections=MEASURED_SETUP,
    ),
}
"""``ideal``; ``lan``: a gigabit switch; ``wan``: homes and servers of one continent; ``smartphones``: phones on Wi-Fi
and LTE, with the measured set-up."""


def parse(data: object, place: str) -> NetworkModel:
    """The network that plain data names: a preset's name, or a table of ``preset`` (``ideal`` if left out) and the
    fields of ``NetworkModel`` that differ from it.

    ``connections`` is ``"none"``, ``"measured"`` or a table of the fields of ``Connections`` that differ from those of
    its ``preset`` (``"measured"``; if left out, everything succeeds at once); its ``nat`` a table of shares.
    Raises ``ConfigurationError`` with all mistakes; ``place`` names the data in them.
    """
    problems: list[str] = []
    table = Table({"preset": data} if isinstance(data, str) else data, place, problems)
    base = PRESETS[table.word("preset", tuple(PRESETS), "ideal") or "ideal"]
    model = replace(
        base,
        latency_s=_distribution(table, "latency_s", base.latency_s),
        jitter_s=_distribution(table, "jitter_s", base.jitter_s),
        loss=table.number("loss", base.loss, most=1.0),
        resend_s=_resend(table, base.resend_s),
        duplication=table.number("duplication", base.duplication, most=1.0),
        up_bytes_per_s=field_of(table, "up_bytes_per_s", base.up_bytes_per_s, positive=True),
        down_bytes_per_s=field_of(table, "down_bytes_per_s", base.down_bytes_per_s, positive=True),
        interleaved_bytes=table.whole("interleaved_bytes", base.interleaved_bytes),
        silence_s=_distribution(table, "silence_s", base.silence_s),
        connections=_connections(table, base.connections),
    )
    table.close()
    if table.ok and model.loss + model.duplication > 1:
        table.say(f"{place}: loss and duplication add up to more than 1")
    if problems:
        raise ConfigurationError(problems)
    return model


def _distribution(table: Table, key: str, default: Distribution) -> Distribution:
    return field_of(table, key, default) or default


def _resend(table: Table, default: float | None) -> float | None:
    """``"never"``, or seconds."""
    if table.get("resend_s") == "never":
        return None
    return table.number("resend_s") if "resend_s" in table else default


def _connections(table: Table, default: Connections | None) -> Connections | None:
    data: Any = table.get("connections")
    match data:
        case None:
            return default
        case "none":
            return None
        case "measured":
            return MEASURED_SETUP
        case str():
            table.say(f'{table.at("connections")} must be "none", "measured" or a table, not {shown(data)}')
            return default
    inner = Table(data, table.at("connections"), table.problems)
    if not inner.ok:
        return default
    base = MEASURED_SETUP if inner.word("preset", ("none", "measured"), "none") == "measured" else Connections()
    found = Connections(
        setup_s=_distribution(inner, "setup_s", base.setup_s),
        success=inner.number("success", base.success, most=1.0),
        failure_s=_distribution(inner, "failure_s", base.failure_s),
        nat=_nat(inner) if inner.get("nat") is not None else None,
    )
    inner.close()
    return found


def _nat(table: Table) -> NatShares:
    inner = Table(table.get("nat"), table.at("nat"), table.problems)
    shares = [inner.number(nat.name.lower(), 0.0, most=1.0) for nat in NatClass]
    inner.close()
    if inner.ok and abs(sum(shares) - 1) > 1e-9:
        inner.say(f"{inner.place}: the shares add up to {sum(shares):g}, not 1")
    return NatShares(*shares)
