"""What a peer remembers of its network from one run to the next."""

from pathlib import Path

import pytest

from peer.session import MAX_FORMER
from peer.storage import Storage
from tests.peer.running import Homes, running

TWO_HOURS = 7200.0
NOBODY = "127.0.0.1:9"


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    return Homes(tmp_path)


async def seeds_of_a_run(home: Path) -> list[str]:
    """Whom it asks, in a run that meets nobody."""
    async with running(home, f'[peer]\nlisten = "127.0.0.1:0"\npreset = "local"\nseeds = ["{NOBODY}"]\n') as peer:
        assert peer.daemon.session is not None
        asked = peer.daemon.session._seeds()
        assert await peer.stop() == 0
    return asked


async def remember(home: Path, raw: list[bytes] | None = None) -> list[bytes]:
    storage = await Storage.open(home / "state.db")
    try:
        if raw is not None:
            await storage.save_descriptors(raw)
        return await storage.load_descriptors()
    finally:
        await storage.close()


async def test_members_of_before_are_asked_like_seeds(homes: Homes) -> None:
    """Also if their descriptors have expired meanwhile, by this machine's clock at least."""
    home = homes.make("home")
    assert await seeds_of_a_run(home) == [NOBODY]
    expired = homes.describe("expired", "127.0.0.1:10", age_s=TWO_HOURS)
    future = homes.describe("future", "127.0.0.1:11", age_s=-TWO_HOURS)
    at_the_seed = homes.describe("at the seed", NOBODY)
    kept = await remember(home, [expired.raw, future.raw, b"of another version", at_the_seed.raw])
    assert len(kept) == 4
    for _ in range(2):
        assert await seeds_of_a_run(home) == [NOBODY, "127.0.0.1:10", "127.0.0.1:11"]
    many = [homes.describe(f"{i}", f"127.0.0.1:{100 + i}", age_s=TWO_HOURS).raw for i in range(MAX_FORMER + 5)]
    await remember(home, many)
    assert len(await seeds_of_a_run(home)) == 1 + MAX_FORMER


async def test_a_run_that_meets_nobody_forgets_nobody(homes: Homes) -> None:
    home = homes.make("home")
    kept = await remember(home, [homes.describe("other", "127.0.0.1:10", age_s=TWO_HOURS).raw])
    await seeds_of_a_run(home)
    assert await remember(home) == kept
