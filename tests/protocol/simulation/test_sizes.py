"""What the simulator charges for a message is what the real envelope weighs."""

import pytest

from protocol.base.entropy import SeededEntropy
from protocol.simulation.sizes import envelope_bytes
from protocol.wire import codec
from protocol.wire.envelope import Sealer
from protocol.wire.messages import Gossip, GossipReply, Head, Message, Rumour
from tests.protocol.identity.conftest import NOW, World
from tests.protocol.wire.samples import EXAMPLES


def real_bytes(message: Message) -> int:
    world = World.make("sizes")
    sender, recipient = world.ring(), world.ring()
    head, tail = codec.encode(message)
    sealer = Sealer(world.verifier.network, sender, SeededEntropy("sizes"))
    return sum(map(len, sealer.seal(world.descriptor(recipient), head, tail, now=NOW, ttl_s=10.0)))


@pytest.mark.parametrize("message", EXAMPLES, ids=codec.kind_name)
def test_every_kind(message: Message) -> None:
    assert envelope_bytes(message) == real_bytes(message)


@pytest.mark.parametrize("seed", range(60))
def test_gossip_of_every_size(seed: int) -> None:
    """The one kind whose size is worked out by a formula: every field at the borders of msgpack's lengths."""
    draw = SeededEntropy(f"gossip {seed}")

    def number(bits: int) -> int:
        return draw.below(1 << draw.below(bits + 1))

    descriptors = tuple(draw.token(1 + draw.below(700)) for _ in range(draw.below(17)))
    rumours = tuple(Rumour(draw.token(16), number(62), draw.below(4)) for _ in range(draw.below(40)))
    heads = tuple(
        Head(draw.token(16), number(52), draw.token(32), draw.below(32), draw.token(8), draw.uniform() * 1e6)
        for _ in range(draw.below(20))
    )
    tasks = tuple(draw.token(16) for _ in range(draw.below(40)))
    kind = Gossip if seed % 2 else GossipReply
    message = kind(number(63), descriptors, rumours, heads, tasks)
    assert envelope_bytes(message) == real_bytes(message)
