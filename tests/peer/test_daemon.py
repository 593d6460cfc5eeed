"""The daemon by itself: what ends it."""

import time
from pathlib import Path

import pytest

from peer.authority import create_network
from peer.config import load_config
from peer.daemon import Daemon, Hooks, run_peer
from peer.errors import StorageError
from peer.home import create_home, open_home
from protocol.base.entropy import SeededEntropy
from protocol.identity.admission import admit, issue_token
from protocol.identity.keys import SigningKey


async def test_an_error_of_our_own_is_told_by_whoever_started_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key, home = SigningKey.from_seed(bytes(32)), tmp_path / "home"
    network = create_network(tmp_path / "net", "net", SeededEntropy(1))
    chain = admit(
        issue_token(network.authority, time.time(), 86400.0, (), SeededEntropy(2)), key.public_bytes, time.time()
    )
    create_home(home, seed=key.seed, chain=chain.encode(), config='[peer]\nlisten = "127.0.0.1:0"\npreset = "local"\n')

    def fail(daemon: Daemon) -> None:
        daemon._fail(StorageError("the disk is full"))

    with open_home(home) as opened, pytest.raises(StorageError, match="the disk is full"):
        await run_peer(load_config(home, {}), opened, hooks=Hooks(ready=fail))
    assert not [record for record in caplog.records if record.exc_info]
