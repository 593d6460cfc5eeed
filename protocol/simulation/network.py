"""The network of a world: when a message arrives, or when its sender learns that it cannot.

Neighbours: the world calls ``Network.send`` for every message; ``network_model`` holds the parameters and presets.
Invariants: one seed and one sequence of calls give one sequence of deliveries; what a peer is given (place, bandwidth,
NAT) depends on the seed and its index alone; memory grows with peers and live connections, not with pairs.

Model: a pair of peers has a base latency, the same both ways, drawn once; each message adds jitter, so messages may
overtake each other, as separate requests do.  A message takes ``size / min(up, down)`` seconds, and long ones of one
peer queue behind each other at both ends, first fit in the order in which they were sent; a short one
(``interleaved_bytes``) passes between the packets of long ones.  A lost message has used its sender's uplink.  Where it
is sent again (``resend_s``), up to ``TRIES`` times in all, its sender knows in the end; elsewhere nobody does.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from itertools import chain, repeat
from typing import NamedTuple

from protocol.simulation.distributions import BLOCK, Constant, Distribution, Uniform
from protocol.simulation.network_model import CAN_DIAL, Connections, NatClass, NetworkModel
from protocol.simulation.streams import generator, number, share

_PLACES = 4096
"""Base latencies in the table that a pair of peers picks from: the middles of so many equal shares."""
_LEAST_BYTES_PER_S = 1.0
_FIRST_BLOCK = 16
TRIES = 4
"""As ``peer.transport.client`` makes them."""


class Delivery(NamedTuple):
    """What becomes of one message (a plain tuple, because one is made for every message).

    No arrival and no failure: lost in silence.
    """

    arrivals: tuple[float, ...]
    """Times at which the whole message is with the recipient: none, one, or two (doubled on its way)."""
    failed_at: float | None = None
    """When the sender learns that the message was not delivered; there is no arrival then.

    The measured failures include a few of hours: that a sender has less patience is the world's part.
    """


LOST = Delivery(())


class Lane:
    """One direction of a peer's link: the times at which it is taken, from now on."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._ends: list[float] = []

    def reserve(self, now: float, earliest: float, seconds: float) -> float:
        """Take the first free ``seconds`` that begin at ``earliest`` or later; returns their end."""
        starts, ends = self._starts, self._ends
        while ends and ends[0] <= now:
            del starts[0], ends[0]
        begin = earliest
        i = bisect_right(ends, begin)
        while i < len(starts) and starts[i] < begin + seconds:
            begin = ends[i]
            i += 1
        end = begin + seconds
        joins_left = i > 0 and ends[i - 1] == begin
        joins_right = i < len(starts) and starts[i] == end
        if joins_left and joins_right:
            ends[i - 1] = ends[i]
            del starts[i], ends[i]
        elif joins_left:
            ends[i - 1] = end
        elif joins_right:
            starts[i] = begin
        else:
            starts.insert(i, begin)
            ends.insert(i, end)
        return end


class _Peer:
    """What the network knows of one peer."""

    __slots__ = ("down", "down_s_per_byte", "failed", "nat", "ready", "tag", "up", "up_s_per_byte")

    def __init__(self, index: int, model: NetworkModel, seed: int) -> None:
        self.tag = number(seed, "place", index) | 1
        self.up_s_per_byte = _seconds_per_byte(model.up_bytes_per_s, seed, "up", index)
        self.down_s_per_byte = _seconds_per_byte(model.down_bytes_per_s, seed, "down", index)
        nat = model.connections.nat if model.connections else None
        self.nat = nat.class_at(share(seed, "nat", index)) if nat else NatClass.OPEN
        self.fresh()

    def fresh(self) -> None:
        """As at the begin of a session."""
        self.up = Lane()
        self.down = Lane()
        self.ready: dict[int, float] = {}
        """When the connection with another peer stands, of all that stand or are being set up."""
        self.failed: dict[int, float] = {}
        """When the newest attempt was given up, of all peers with which a connection failed in this session."""


class _Peers(dict[int, _Peer]):
    """Peers by index, made when first spoken of."""

    def __init__(self, model: NetworkModel, seed: int) -> None:
        self._model = model
        self._seed = seed

    def __missing__(self, index: int) -> _Peer:
        peer = self[index] = _Peer(index, self._model, self._seed)
        return peer


class Network:
    """The state of one world's network.  Times are virtual seconds and never go back; peers are indices from 0."""

    def __init__(self, model: NetworkModel, seed: int, public: int = 0) -> None:
        """``public``: peers below this index have public addresses: connections with them stand at once."""
        self.model = model
        self._public = public
        self._peers = _Peers(model, seed)
        self._bases = _bases(model.latency_s)
        self._jitter = _draws(model.jitter_s, seed, "jitter")
        self._chance = _draws(Uniform(0.0, 1.0), seed, "loss")
        self._setup_chance = _draws(Uniform(0.0, 1.0), seed, "set-up")
        connections = model.connections or Connections()
        self._setup_s = _draws(connections.setup_s, seed, "set-up time")
        self._failure_s = _draws(connections.failure_s, seed, "failure time")
        self._silence_s = _draws(model.silence_s, seed, "silence")
        self._groups: dict[int, int] | None = None
        self._cuts: dict[int, int] = {}
        self._lossless = model.loss == 0 and model.duplication == 0
        self._limited = model.up_bytes_per_s is not None or model.down_bytes_per_s is not None

    # --- messages ---------------------------------------------------------------------------------------------

    def send(self, now: float, sender: int, recipient: int, nbytes: int) -> Delivery:
        """What becomes of a message of ``nbytes`` that ``sender`` sends now; both are taken to be online.

        The world decides at the time of arrival whether the recipient is still there.
        """
        if (self._cuts or self._groups is not None) and not self.connected(sender, recipient):
            return self.no_answer(now)
        model, source, target = self.model, self._peers[sender], self._peers[recipient]
        start = now
        if model.connections is not None:
            ready = source.ready.get(recipient)
            if ready is None:
                ready, failed_at = self._set_up(now, sender, recipient, model.connections)
                if failed_at is not None:
                    return Delivery((), failed_at)
            if ready > start:
                start = ready
        # Products of odd random numbers are as good as random in their middle bits, and the same both ways.
        base = self._bases[source.tag * target.tag >> 40 & (_PLACES - 1)]
        latency = base + self._jitter()
        for _ in range(TRIES):
            arrival = start + latency
            if self._limited:
                arrival = self._transfer(now, start, latency, source, target, nbytes)
            if self._lossless:
                return Delivery((arrival,))
            chance = self._chance()
            if chance >= model.loss:
                if chance < model.loss + model.duplication:
                    return Delivery((arrival, arrival + base + self._jitter()))
                return Delivery((arrival,))
            if model.resend_s is None:
                return LOST
            start += model.resend_s
        return Delivery((), start)

    def no_answer(self, now: float) -> Delivery:
        """What becomes of a message to somebody who is not there: its sender gives up after ``model.silence_s``."""
        return Delivery((), now + self._silence_s())

    def _transfer(self, now: float, start: float, latency: float, source: _Peer, target: _Peer, nbytes: int) -> float:
        """When the last byte arrives."""
        up, down = nbytes * source.up_s_per_byte, nbytes * target.down_s_per_byte
        if nbytes <= self.model.interleaved_bytes:
            return start + latency + max(up, down)
        sent = source.up.reserve(now, start, up)
        received = target.down.reserve(now, sent - up + latency, down)
        return max(sent + latency, received)

    # --- connections ------------------------------------------------------------------------------------------

    def peer_started(self, peer: int) -> None:
        """A session of this peer begins: no connection of an earlier one stands, none has failed, nothing queues."""
        self._forget(peer)

    def peer_stopped(self, peer: int) -> None:
        """A session of this peer is over: its connections are gone."""
        self._forget(peer)

    def _forget(self, index: int) -> None:
        peer = self._peers[index]
        for other in peer.ready:
            self._peers[other].ready.pop(index, None)
        for other in peer.failed:
            self._peers[other].failed.pop(index, None)
        peer.fresh()

    def _set_up(self, now: float, sender: int, recipient: int, connections: Connections) -> tuple[float, float | None]:
        """Set up a connection: when it stands, and when the sender learns that it never will."""
        source, target = self._peers[sender], self._peers[recipient]
        if sender < self._public or recipient < self._public:
            source.ready[recipient] = target.ready[sender] = now
            return now, None
        if not CAN_DIAL[source.nat][target.nat]:
            return now, now + self._failure_s()
        failed_at = source.failed.get(recipient)
        if failed_at is None and self._setup_chance() < connections.success:
            ready = now + self._setup_s()
            source.ready[recipient] = target.ready[sender] = ready
            return ready, None
        if failed_at is None or failed_at <= now:
            # Whoever tries a hopeless pair again waits again; whoever tries while an attempt is going on joins it.
            failed_at = now + self._failure_s()
            source.failed[recipient] = target.failed[sender] = failed_at
        return now, failed_at

    # --- partitions and cuts ----------------------------------------------------------------------------------

    def partition(self, groups: Sequence[Collection[int]]) -> None:
        """From now on only peers of the same group reach each other; all in no group form one more.

        Replaces the partition before.  What is on its way still arrives; connections stand again after ``heal``.
        """
        self._groups = {peer: number for number, group in enumerate(groups) for peer in group}

    def heal(self) -> None:
        """End the partition."""
        self._groups = None

    def cut(self, peer: int) -> None:
        """From now on nobody reaches this peer, nor it anybody, until as many calls of ``mend``."""
        self._cuts[peer] = self._cuts.get(peer, 0) + 1

    def mend(self, peer: int) -> None:
        """Take back one ``cut``."""
        left = self._cuts.pop(peer, 0) - 1
        if left > 0:
            self._cuts[peer] = left

    def connected(self, one: int, other: int) -> bool:
        """Whether neither partition nor cut stands between two peers (NAT and failed set-ups apart)."""
        if self._cuts and (one in self._cuts or other in self._cuts):
            return False
        return self._groups is None or self._groups.get(one, -1) == self._groups.get(other, -1)


@lru_cache(maxsize=16)
def _bases(latency_s: Distribution) -> list[float]:
    """The table of base latencies; worlds of one kind share it."""
    return [latency_s.quantile((i + 0.5) / _PLACES) for i in range(_PLACES)]


def _seconds_per_byte(rate: Distribution | None, seed: int, label: str, index: int) -> float:
    return 0.0 if rate is None else 1.0 / max(rate.quantile(share(seed, label, index)), _LEAST_BYTES_PER_S)


def _draws(distribution: Distribution, seed: int, label: str) -> Callable[[], float]:
    """As ``Distribution.sampler``, from the stream of a label.

    The stream is made with the first draw, and blocks grow: in small worlds there are few draws, or none.
    """
    if isinstance(distribution, Constant):
        return repeat(distribution.value).__next__

    def blocks() -> Iterator[list[float]]:
        rng, size = generator(seed, label), _FIRST_BLOCK
        while True:
            yield distribution.draw(rng, size).tolist()
            size = min(2 * size, BLOCK)

    return chain.from_iterable(blocks()).__next__
