"""The daemon by itself: what it remembers of its network from one run to the next."""

import asyncio
import time
from pathlib import Path

import pytest

from peer.config import load_config
from peer.daemon import MAX_FORMER, Daemon, Hooks, run_peer
from peer.entropy import SystemEntropy
from peer.home import create_home, open_home
from peer.storage import Storage
from protocol.identity.admission import Authority, JoinToken, admit, issue_token
from protocol.identity.descriptor import Descriptor, make_descriptor
from protocol.identity.keys import KemSuite, Keyring, SigningKey

TWO_HOURS = 7200.0
NOBODY = "127.0.0.1:9"


@pytest.fixture
def token() -> JoinToken:
    authority = Authority(SigningKey.from_seed(SystemEntropy().token(32)))
    return issue_token(authority, time.time() - TWO_HOURS, 86_400.0, (), SystemEntropy())


@pytest.fixture
def home(tmp_path: Path, token: JoinToken) -> Path:
    signing = SigningKey.from_seed(SystemEntropy().token(32))
    chain = admit(token, signing.public_bytes, time.time())
    config = f'[peer]\nlisten = "127.0.0.1:0"\npreset = "local"\nseeds = ["{NOBODY}"]\n'
    create_home(tmp_path / "home", seed=signing.seed, chain=chain.encode(), config=config)
    return tmp_path / "home"


def member(token: JoinToken, address: str, age_s: float) -> Descriptor:
    """Another member, as it described itself ``age_s`` ago, for half an hour."""
    then = time.time() - age_s
    keyring = Keyring(SigningKey.from_seed(SystemEntropy().token(32)), KemSuite.X25519, SystemEntropy())
    keyring.rotate(then)
    chain = admit(token, keyring.signing.public_bytes, then)
    return make_descriptor(
        keyring, chain, addresses=(address,), capabilities=(), incarnation=1, now=then, lifetime_s=1800.0
    )


async def seeds_of_a_run(home: Path) -> list[str]:
    """Whom it asks, in a run that meets nobody."""
    up: asyncio.Queue[Daemon] = asyncio.Queue()
    with open_home(home) as opened:
        running = asyncio.create_task(run_peer(load_config(home, {}), opened, hooks=Hooks(ready=up.put_nowait)))
        daemon = await asyncio.wait_for(up.get(), 20.0)
        asked = daemon._seeds()
        daemon.stop()
        assert await running == 0
    return asked


async def remember(home: Path, raw: list[bytes] | None = None) -> list[bytes]:
    storage = await Storage.open(home / "state.db")
    try:
        if raw is not None:
            await storage.save_descriptors(raw)
        return await storage.load_descriptors()
    finally:
        await storage.close()


async def test_members_of_before_are_asked_like_seeds(home: Path, token: JoinToken) -> None:
    """Also if their descriptors have expired meanwhile, by this machine's clock at least."""
    assert await seeds_of_a_run(home) == [NOBODY]
    expired, future = member(token, "127.0.0.1:10", TWO_HOURS), member(token, "127.0.0.1:11", -TWO_HOURS)
    kept = await remember(home, [expired.raw, future.raw, b"of another version", member(token, NOBODY, 0.0).raw])
    for _ in range(2):
        assert await seeds_of_a_run(home) == [NOBODY, "127.0.0.1:10", "127.0.0.1:11"]
    many = [member(token, f"127.0.0.1:{100 + i}", TWO_HOURS).raw for i in range(MAX_FORMER + 5)]
    await remember(home, many)
    assert len(await seeds_of_a_run(home)) == 1 + MAX_FORMER
    assert kept


async def test_a_run_that_meets_nobody_forgets_nobody(home: Path, token: JoinToken) -> None:
    kept = await remember(home, [member(token, "127.0.0.1:10", TWO_HOURS).raw])
    await seeds_of_a_run(home)
    assert await remember(home) == kept
