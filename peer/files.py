"""Files that are there whole or not at all.

Neighbours: ``home`` and ``authority`` keep secrets and certificates with it.
Invariants: nothing is ever half-written (temporary file or directory, fsync, rename); nothing is overwritten by
``create_directory``; no hard links (Android's storage has none).
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from peer.errors import PeerError
from protocol.base.errors import ConfigurationError

NewFile = tuple[str, bytes, int]
"""Name, content and permission bits of one file of a new directory."""

_IGNORED = frozenset({"lost+found", ".DS_Store"})
"""What a fresh volume may already hold."""


def why(error: OSError) -> str:
    """What the system says about ``error``, in lower case and without numbers."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:] + ("; free some space" if error.errno == errno.ENOSPC else "")


def read_bytes(path: Path, what: str, *, limit: int) -> bytes:
    """The content of ``path``, at most ``limit`` bytes.  ``ConfigurationError`` says ``what`` could not be read."""
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        raise ConfigurationError([f"cannot read {what} {path}: {why(error)}"]) from error
    if len(content) > limit:
        raise ConfigurationError([f"{what} {path} is larger than {limit} bytes; it is not what it should be"])
    return content


def use_directory(path: Path, flag: str, *, empty: bool = False) -> None:
    """Make the directory ``path``, if there is none, for what ``flag`` asks to write there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if empty and any(path.iterdir()):
            raise ConfigurationError([f"{flag} {path} is not empty; name a new directory"])
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError([f"{flag} {path} is a file or inside one; name a new directory"]) from error
    except OSError as error:
        raise ConfigurationError([f"{flag} {path} cannot be used ({why(error)}); name another directory"]) from error


def write_atomic(path: Path, content: bytes, mode: int) -> None:
    """Replace or make ``path`` (permission bits ``mode``); readers see the old content or the new one."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    except OSError as error:
        raise PeerError(f"cannot write {path}: {why(error)}") from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise PeerError(f"cannot write {path}: {why(error)}") from error


def create_directory(path: Path, files: Sequence[NewFile], what: str) -> None:
    """Make the directory ``path`` (0700) holding ``files``, all or nothing; ``what`` names it in errors.

    An existing empty directory is filled instead (a mounted volume cannot be renamed onto); the last of ``files`` is
    what marks the directory as complete.  Raises ``ConfigurationError`` when something is there already.
    """
    if path.is_symlink() or path.exists():
        if not path.is_dir():
            raise ConfigurationError([f"{path} is a file; name a new directory for {what}"])
        if any(entry.name not in _IGNORED for entry in path.iterdir()):
            raise ConfigurationError([f"{path} is not empty; {what} needs a new directory and never overwrites one"])
        _fill(path, files)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError([f"cannot make {path}: a directory above it is a file; name another place"]) from error
    except OSError as error:
        raise PeerError(f"cannot make {path}: {why(error)}") from error
    try:
        for name, content, mode in files:
            write_atomic(temporary / name, content, mode)
        os.rename(temporary, path)
        _sync_directory(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise ConfigurationError([f"{path} was made by somebody else just now; {what} needs a new one"]) from error
        raise PeerError(f"cannot make {path}: {why(error)}") from error
    except PeerError as error:
        raise PeerError(str(error).replace(str(temporary), str(path))) from error  # the name that its user knows
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fill(path: Path, files: Sequence[NewFile]) -> None:
    written: list[Path] = []
    try:
        for name, content, mode in files:
            write_atomic(path / name, content, mode)
            written.append(path / name)
    except PeerError:
        for entry in written:
            entry.unlink(missing_ok=True)
        raise


def _sync_directory(path: Path) -> None:
    """Make a rename durable; some file systems cannot, and then have nothing to offer instead."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
