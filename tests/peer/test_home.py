"""The home directory: made once, locked, damaged files named."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from peer.errors import HomeInUseError, NotRunningError, PeerError
from peer.home import Home, create_home, default_home, open_home, peer_is_running, read_admin, write_chain
from protocol.base.errors import ConfigurationError
from protocol.identity.keys import SigningKey

SEED = bytes(range(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    create_home(home, seed=SEED, chain=None, config="")
    return home


def test_a_home_keeps_its_key_private(path: Path) -> None:
    assert stat.S_IMODE((path / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    with open_home(path) as home:
        assert home.signing_key.peer_id == SigningKey(SEED).peer_id
        assert home.chain is None
        assert home.database.parent == path


def test_a_home_is_never_overwritten(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a peer's home already"):
        create_home(path, seed=bytes(32), chain=None, config="other")
    assert (path / "key").read_text().strip() == SEED.hex()


def test_one_peer_at_a_time(path: Path) -> None:
    with open_home(path) as home:
        with pytest.raises(HomeInUseError, match=rf"home {path} is in use by another peer \(pid {os.getpid()}\)"):
            open_home(path)
        assert peer_is_running(path)
        home.close()
    assert not peer_is_running(path)
    open_home(path).close()


HOLDER = """
import sys
from pathlib import Path
from peer.home import open_home
home = open_home(Path(sys.argv[1]))
home.write_admin("127.0.0.1:1", "00")
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_killed_peer_leaves_no_lock_and_its_admin_file_is_not_believed(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(HomeInUseError, match=f"pid {holder.pid}"):
            open_home(path)
        assert read_admin(path).pid == holder.pid
        holder.kill()
        holder.wait()
    assert (path / "admin.json").exists()
    with pytest.raises(NotRunningError, match="no peer runs"):
        read_admin(path)
    open_home(path).close()


def test_the_admin_file_is_private_and_goes_with_the_peer(path: Path) -> None:
    with open_home(path) as home:
        with pytest.raises(NotRunningError, match="still starting"):
            read_admin(path)
        home.write_admin("127.0.0.1:7", "ab" * 32)
        admin = read_admin(path)
        assert (admin.address, admin.token, admin.pid) == ("127.0.0.1:7", "ab" * 32, os.getpid())
        assert "ab" * 32 not in repr(admin)
        assert stat.S_IMODE((path / "admin.json").stat().st_mode) == 0o600
        (path / "admin.json").write_text(json.dumps({"address": 1}))
        with pytest.raises(PeerError, match="cannot be read; restart"):
            read_admin(path)
    assert not (path / "admin.json").exists()


def test_what_is_no_home_is_said_to_be_none(tmp_path: Path) -> None:
    for open_it in (open_home, read_admin):
        with pytest.raises(ConfigurationError, match="is not a peer's home; make one with: susurrus init"):
            open_it(tmp_path)
    assert not peer_is_running(tmp_path)


@pytest.mark.parametrize("content", [b"", b"zz" * 32, SEED.hex().encode()[:-2], b"\xff" * 64, b"a" * 5000])
def test_a_damaged_key_is_one_sentence_without_the_key(path: Path, content: bytes) -> None:
    (path / "key").write_bytes(content)
    with open_home(path) as home, pytest.raises(ConfigurationError, match="key") as caught:
        _ = home.signing_key
    assert SEED.hex()[:-2] not in str(caught.value)


def test_a_damaged_chain_is_one_sentence(path: Path) -> None:
    write_chain(path, b"\x93 rubbish")
    with open_home(path) as home, pytest.raises(ConfigurationError, match="is damaged; renew it with"):
        _ = home.chain


def test_the_default_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SUSURRUS_HOME", str(tmp_path))
    assert default_home() == tmp_path
    monkeypatch.delenv("SUSURRUS_HOME")
    assert default_home() == Path.home() / ".susurrus"


def test_closing_twice_is_harmless(path: Path) -> None:
    home: Home = open_home(path)
    home.close()
    home.close()


@pytest.mark.parametrize("lost", ["key", "config.toml"])
def test_a_home_that_lost_a_file_is_not_to_be_made_anew(path: Path, lost: str) -> None:
    (path / lost).unlink()
    with pytest.raises(ConfigurationError, match=f"has lost its {lost}; put back a copy"):
        open_home(path)


def test_a_lock_that_cannot_be_written_is_given_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, content: bytes, offset: int) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(PeerError, match=f"cannot write {path / 'lock'}: no space left on device; free some space"):
            open_home(path)
    open_home(path).close()


@pytest.mark.parametrize("token", ["a\r\nX: y", "\u2603"])
def test_an_admin_token_that_no_header_could_carry(path: Path, token: str) -> None:
    with open_home(path) as home:
        home.write_admin("127.0.0.1:1", token)
        with pytest.raises(PeerError, match="admin.json cannot be read; restart the peer"):
            read_admin(path)
