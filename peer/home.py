"""A peer's home directory: who it is, which network it belongs to, what it remembers.

    config.toml   what its user chose (``peer.config``)
    key           the peer's Ed25519 seed, 64 hexadecimal digits, readable by its user only
    chain         its certificate chain, as ``protocol.identity.admission`` encodes it; absent before it joins a network
    state.db      journal, checkpoints, history (``peer.storage``)
    admin.json    address and bearer token of the running peer's admin endpoint; removed at a clean stop
    lock          held with ``flock`` by the running peer, whose process id it contains

Neighbours: ``commands.init`` makes one, ``daemon`` runs in one, ``admin_client`` talks to the peer that runs in one.
Invariants: made whole or not at all, never overwritten; one process at a time; ``flock`` is given back by the kernel,
so a killed peer leaves no stale lock.
"""

import contextlib
import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from peer.errors import HomeInUseError, NotRunningError, PeerError
from peer.files import create_directory, read_bytes, why, write_atomic
from protocol.base.errors import ConfigurationError, Refused
from protocol.base.limits import MAX_NETWORK_FILE

if TYPE_CHECKING:
    from protocol.identity.admission import Chain
    from protocol.identity.keys import SigningKey

CONFIG = "config.toml"
KEY = "key"
CHAIN = "chain"
DATABASE = "state.db"
ADMIN = "admin.json"
LOCK = "lock"

SEED_BYTES = 32
_LOCK_ATTEMPTS = 5
_LOCK_PAUSE_S = 0.05
"""``peer_is_running`` holds the lock for an instant; a starting peer looks again before it gives up."""


@dataclass(frozen=True, slots=True)
class Admin:
    """How to talk to the peer that runs in a home: loopback ``host:port``, bearer token, process id."""

    address: str
    token: str
    pid: int

    def __repr__(self) -> str:
        return f"Admin(address={self.address!r}, pid={self.pid})"


class Home:
    """A peer's home, locked by this process until ``close``.  Made by ``open_home``."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock: int | None = lock

    @property
    def database(self) -> Path:
        return self.path / DATABASE

    @property
    def signing_key(self) -> "SigningKey":
        """This peer's identity.  Raises ``ConfigurationError`` if the file is damaged."""
        return read_key(self.path / KEY, "the peer's key")

    @property
    def chain(self) -> "Chain | None":
        """This peer's certificate chain; ``None`` before it has joined a network."""
        return read_chain(self.path)

    def write_admin(self, address: str, token: str) -> None:
        """Tell commands on this machine how to talk to this process."""
        content = json.dumps({"address": address, "token": token, "pid": os.getpid()}) + "\n"
        write_atomic(self.path / ADMIN, content.encode(), 0o600)

    def close(self) -> None:
        """Remove ``admin.json`` and give the lock back; harmless when done twice."""
        if self._lock is None:
            return
        with contextlib.suppress(OSError):
            (self.path / ADMIN).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def default_home() -> Path:
    """``SUSURRUS_HOME``, else ``~/.susurrus``."""
    named = os.environ.get("SUSURRUS_HOME")
    return Path(named).expanduser() if named else Path.home() / ".susurrus"


def create_home(path: Path, *, seed: bytes, chain: bytes | None, config: str) -> None:
    """Make a new home at ``path`` with this 32-byte identity seed.  Raises ``ConfigurationError`` if one is there."""
    if (path / CONFIG).exists():
        raise ConfigurationError([f"{path} is a peer's home already; nothing was changed"])
    files = [(KEY, seed.hex().encode() + b"\n", 0o600), (CONFIG, config.encode(), 0o644)]
    if chain is not None:
        files.insert(0, (CHAIN, chain, 0o644))
    create_directory(path, files, "a peer's home")


def write_chain(path: Path, chain: bytes) -> None:
    """Replace the certificate chain of the home at ``path``."""
    write_atomic(path / CHAIN, chain, 0o644)


def require_home(path: Path) -> None:
    """Raise ``ConfigurationError`` unless ``path`` is a peer's home."""
    missing = [name for name in (CONFIG, KEY) if not (path / name).is_file()]
    if len(missing) == 1:
        # `init` would refuse to touch it, and a new key would be another peer
        raise ConfigurationError([f"the peer's home {path} has lost its {missing[0]}; put back a copy of that file"])
    if missing:
        raise ConfigurationError([f"{path} is not a peer's home; make one with: susurrus init --home {path}"])


def open_home(path: Path) -> Home:
    """Lock the home at ``path``.  Raises ``HomeInUseError`` when another process holds it."""
    require_home(path)
    for attempt in range(_LOCK_ATTEMPTS):
        if attempt:
            time.sleep(_LOCK_PAUSE_S)
        lock = _try_lock(path, fcntl.LOCK_EX)
        if lock is not None:
            try:
                os.ftruncate(lock, 0)
                os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
            except OSError as error:
                os.close(lock)
                raise PeerError(f"cannot write {path / LOCK}: {why(error)}") from error
            return Home(path, lock)
    raise HomeInUseError(f"home {path} is in use by another peer (pid {_holder(path)}); stop it first")


def peer_is_running(path: Path) -> bool:
    """Whether some process holds the home at ``path`` now."""
    if not (path / LOCK).exists():
        return False
    lock = _try_lock(path, fcntl.LOCK_SH)
    if lock is None:
        return True
    os.close(lock)
    return False


def read_admin(path: Path) -> Admin:
    """How to talk to the peer that runs in the home at ``path``.  Raises ``NotRunningError`` when none does.

    The lock is asked first: after a crash the old port may belong to another program, which must not get the token.
    """
    require_home(path)
    if not peer_is_running(path):
        raise NotRunningError(f"no peer runs in {path}; start it with: susurrus run --home {path}")
    try:
        raw = json.loads((path / ADMIN).read_text())
        admin = Admin(str(raw["address"]), str(raw["token"]), int(raw["pid"]))
        if not (admin.token.isascii() and admin.token.isprintable()):
            raise ValueError("no header could carry this token")
    except FileNotFoundError:
        raise NotRunningError(f"the peer in {path} is still starting; try again in a moment") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PeerError(f"{path / ADMIN} cannot be read; restart the peer to have it written anew") from error
    return admin


def read_key(path: Path, what: str) -> "SigningKey":
    """The Ed25519 key whose seed ``path`` holds as hexadecimal digits.  ``ConfigurationError`` when it does not."""
    from protocol.identity.keys import SigningKey

    content = read_bytes(path, what, limit=1024)
    try:
        seed = bytes.fromhex(content.decode("ascii").strip())
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise ConfigurationError([f"{what} {path} is damaged (not 64 hexadecimal digits); put back a copy of it"])
    return SigningKey(seed)


def read_chain(path: Path) -> "Chain | None":
    """The certificate chain of the home at ``path``; ``None`` if it has none; ``ConfigurationError`` if damaged."""
    from protocol.identity.admission import decode_chain

    file = path / CHAIN
    if not file.exists():
        return None
    content = read_bytes(file, "the certificate chain", limit=MAX_NETWORK_FILE)
    try:
        return decode_chain(content)
    except (Refused, ValueError) as error:
        raise ConfigurationError(
            [
                f"the certificate chain {file} is damaged; renew it with: "
                f"susurrus init --home {path} --renew --token-file FILE"
            ]
        ) from error


def _try_lock(path: Path, kind: int) -> int | None:
    """A descriptor that holds the lock, or ``None`` if somebody else holds it."""
    try:
        flags = os.O_RDWR | os.O_CREAT if kind == fcntl.LOCK_EX else os.O_RDONLY
        lock = os.open(path / LOCK, flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PeerError(f"cannot open {path / LOCK}: {why(error)}") from error
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            return None
        raise PeerError(f"cannot lock {path / LOCK}: {why(error)}") from error
    return lock


def _holder(path: Path) -> str:
    try:
        return (path / LOCK).read_text().strip() or "unknown"
    except OSError:
        return "unknown"
