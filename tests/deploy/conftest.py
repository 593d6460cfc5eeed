"""For the tests of ``deploy``: a wheel of this checkout with what it needs, a phone to install it on, join tokens."""

import shutil
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from peer.entropy import SystemEntropy
from protocol.identity.admission import Authority, issue_token
from protocol.identity.keys import SigningKey
from tests.deploy.termux import FROM_TERMUX, ROOT, Termux, pip, unreachable

DAY_S = 86400.0


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of all that pip has to bring to a phone, and of what builds susurrus there: an index without a network."""
    place = tmp_path_factory.mktemp("wheels")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [item for item in project["project"]["dependencies"] if not item.startswith(FROM_TERMUX)]
    done = pip("download", "--only-binary=:all:", "-d", place, *needed, *project["build-system"]["requires"])
    if done.returncode and unreachable(done.stdout + done.stderr):
        pytest.skip("the Python package index cannot be reached, and these tests install from wheels")
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="session")
def wheel(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout (built from a copy: building leaves files beside the sources)."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("peer", "protocol"):
        shutil.copytree(ROOT / name, source / name)
    place = tmp_path_factory.mktemp("wheel")
    done = pip("wheel", "--no-deps", "--no-index", "--find-links", wheels, "-w", place, source)
    assert done.returncode == 0, done.stderr
    return next(place.glob("susurrus-*.whl"))


@pytest.fixture
def phone(tmp_path: Path, wheels: Path) -> Iterator[Termux]:
    """A Termux-like prefix; a peer that was started in it is ended with the test."""
    phone = Termux(tmp_path / "phone", wheels)
    yield phone
    phone.stop()


@dataclass(frozen=True)
class Tokens:
    """Join tokens of one network: one that is good for a day, one that has expired."""

    good: str
    expired: str


@pytest.fixture(scope="session")
def tokens() -> Tokens:
    authority = Authority(SigningKey(SystemEntropy().token(32)))
    now = time.time()

    def token(start: float) -> str:
        return issue_token(authority, start, DAY_S, ("127.0.0.1:9",), SystemEntropy()).encode()

    return Tokens(token(now), token(now - 2 * DAY_S))
