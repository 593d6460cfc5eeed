"""Whole peers inside the test's own process: homes of one network, and a peer that runs in one while a block lasts."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from peer.config import parse_config
from peer.daemon import Daemon, run_peer
from peer.home import Home, create_home, open_home, read_admin
from protocol.base.entropy import SeededEntropy
from protocol.identity.admission import Authority, admit, issue_token
from protocol.identity.descriptor import Descriptor, make_descriptor
from protocol.identity.keys import KemSuite, Keyring, SigningKey

PATIENCE_S = 20.0


class Homes:
    """Homes of one network, made when they are asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.authority = Authority(SigningKey(bytes(range(32))))

    def make(self, name: str, *, age_s: float = 0.0, lifetime_s: float = 86_400.0) -> Path:
        """A home whose membership began ``age_s`` ago."""
        began = time.time() - age_s
        key = SigningKey(name.encode().ljust(32))
        token = issue_token(self.authority, began, lifetime_s, (), SeededEntropy(name))
        create_home(self.root / name, seed=key.seed, chain=admit(token, key.public_bytes, began).encode(), config="")
        return self.root / name

    def describe(self, name: str, address: str, *, age_s: float = 0.0) -> Descriptor:
        """A member without a home, as it described itself ``age_s`` ago, for half an hour."""
        then = time.time() - age_s
        keyring = Keyring(SigningKey(name.encode().ljust(32)), KemSuite.X25519, SeededEntropy(name))
        keyring.rotate(then)
        token = issue_token(self.authority, then, 86_400.0, (), SeededEntropy(name))
        chain = admit(token, keyring.signing.public_bytes, then)
        return make_descriptor(keyring, chain, addresses=(address,), incarnation=1, now=then, lifetime_s=1800.0)


class Running:
    """One run of the peer in a home."""

    def __init__(self, home: Home, daemon: Daemon, run: "asyncio.Future[int]") -> None:
        self.home, self.daemon, self.run = home, daemon, run

    @property
    def address(self) -> str:
        return self.daemon.driver.node.descriptor.addresses[0]

    @property
    def others(self) -> int:
        return len(self.daemon.driver.node.membership.alive())

    async def get(self, path: str, token: str | None = None) -> tuple[int, bytes]:
        """What the admin endpoint answers."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://{read_admin(self.home.path).address}{path}"
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
            return response.status, await response.read()

    async def stop(self) -> int:
        self.daemon.stop()
        return await asyncio.wait_for(self.run, PATIENCE_S)


@asynccontextmanager
async def running(path: Path, config: str = "", **how: Any) -> AsyncIterator[Running]:
    """The peer of the home at ``path``, up; it is stopped at the end if it has not ended before."""
    up: asyncio.Future[Daemon] = asyncio.get_running_loop().create_future()
    if "[peer]" not in config:
        config = '[peer]\nlisten = "127.0.0.1:0"\n' + config
    with open_home(path) as home:
        run = asyncio.ensure_future(run_peer(parse_config(path, config), home, ready=up.set_result, **how))
        await asyncio.wait([up, run], return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
        if run.done():
            run.result()
        peer = Running(home, up.result(), run)
        try:
            yield peer
        finally:
            if not run.done():
                await peer.stop()


def seeded(other: Running) -> str:
    """The configuration of a peer that asks another one first."""
    return f'[peer]\nlisten = "127.0.0.1:0"\nseeds = ["{other.address}"]\n'
