"""A mask seed opens for its trustee, in its round, as its contributor's, and in no other way."""

from typing import Any

import pytest

from protocol.base.errors import Refusal, Refused
from protocol.base.limits import MAX_SEALED_SEED
from protocol.identity.keys import KemSuite, hybrid_available
from protocol.identity.sealing import open_seed, seal, seal_seed
from tests.protocol.identity.conftest import NOW, World

SEED = bytes(range(32))
SUITES = [KemSuite.X25519, *([KemSuite.HYBRID] if hybrid_available() else [])]


@pytest.fixture(params=SUITES, ids=lambda suite: suite.name)
def sealed(request: pytest.FixtureRequest, world: World) -> dict[str, Any]:
    """A seed sealed to a trustee, its ring, and the four ids."""
    ring = world.ring(request.param)
    ids = {
        "network": world.verifier.network, "round": b"r" * 16, "contributor": b"c" * 16, "trustee": ring.peer_id,
    }  # fmt: skip
    return {"ring": ring, "ids": ids, "text": seal_seed(ring, world.descriptor(ring), SEED, **ids)}


def refused(ring: Any, text: bytes, ids: dict[str, Any]) -> bool:
    with pytest.raises(Refused) as caught:
        open_seed(ring, text, **ids)
    return caught.value.reason is Refusal.BAD_SEAL


def test_the_trustee_opens_it(sealed: dict[str, Any]) -> None:
    assert open_seed(sealed["ring"], sealed["text"], **sealed["ids"]) == SEED
    length = {KemSuite.X25519: 80, KemSuite.HYBRID: 1168}[sealed["ring"].suite]
    assert len(sealed["text"]) == length <= MAX_SEALED_SEED


def test_nobody_else_opens_it(sealed: dict[str, Any], world: World) -> None:
    other = world.ring(sealed["ring"].suite)
    assert refused(other, sealed["text"], sealed["ids"])
    assert refused(other, sealed["text"], sealed["ids"] | {"trustee": other.peer_id})


@pytest.mark.parametrize("what", ["network", "round", "contributor", "trustee"])
def test_it_is_bound_to_all_four_ids(sealed: dict[str, Any], what: str) -> None:
    """Else a seed could be moved to another round, or passed off as somebody else's."""
    assert refused(sealed["ring"], sealed["text"], sealed["ids"] | {what: b"x" * 16})


def test_ids_cannot_be_shifted_into_each_other(sealed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="ids have 16 bytes"):
        open_seed(
            sealed["ring"], sealed["text"], **sealed["ids"] | {"round": b"r" * 15, "contributor": b"rc" * 8 + b"c"}
        )


def test_a_text_sealed_for_another_purpose_is_no_seed(sealed: dict[str, Any]) -> None:
    """Whatever it is bound to: a domain tag stands in front."""
    key = sealed["ring"].current
    text = seal(key.public_bytes, key.suite, SEED, b"".join(sealed["ids"].values()))
    assert refused(sealed["ring"], text, sealed["ids"])


def test_no_byte_of_it_can_be_changed(sealed: dict[str, Any]) -> None:
    text = sealed["text"]
    for at in {0, len(text) // 2, len(text) - 40, len(text) - 1}:
        changed = bytearray(text)
        changed[at] ^= 1
        assert refused(sealed["ring"], bytes(changed), sealed["ids"])
    for short in (b"", text[:-1], text + b"\0"):
        assert refused(sealed["ring"], short, sealed["ids"])


def test_it_opens_while_the_replaced_key_is_kept_and_not_after(sealed: dict[str, Any]) -> None:
    ring = sealed["ring"]
    ring.rotate(NOW + 3600)
    assert open_seed(ring, sealed["text"], **sealed["ids"]) == SEED
    ring.prune(NOW + 1e6)
    assert refused(ring, sealed["text"], sealed["ids"])


def test_the_same_seed_is_never_sealed_to_the_same_text(sealed: dict[str, Any], world: World) -> None:
    again = seal_seed(sealed["ring"], world.descriptor(sealed["ring"]), SEED, **sealed["ids"])
    assert again != sealed["text"]


def test_what_is_no_seed_or_not_for_this_trustee_is_an_error_of_ours(world: World) -> None:
    ring, other = world.ring(), world.ring()
    ids: dict[str, Any] = {"network": bytes(16), "round": bytes(16), "contributor": bytes(16)}
    with pytest.raises(ValueError, match="32 bytes"):
        seal_seed(ring, world.descriptor(ring), SEED[:-1], trustee=ring.peer_id, **ids)
    with pytest.raises(ValueError, match="not the trustee's"):
        seal_seed(ring, world.descriptor(ring), SEED, trustee=other.peer_id, **ids)


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(32), b"\1" + bytes(31)])
def test_a_key_that_nothing_can_be_sealed_to_is_refused(public: bytes) -> None:
    """Lengths that are wrong, and points of low order, under which everybody could open."""
    with pytest.raises(Refused) as caught:
        seal(public, KemSuite.X25519, SEED, b"info")
    assert caught.value.reason is Refusal.BAD_SEAL
