"""Every package that Termux does not bring has a wheel for Android (arm64), and a pure one should that not load."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest

from tests.deploy.termux import FROM_TERMUX, ROOT, pip, unreachable

ANDROID, ANY = "android_24_arm64_v8a", "any"


def needed() -> list[str]:
    """Names of all packages that susurrus needs, theirs included, without Termux's own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    waiting, found = list(project["project"]["dependencies"]), set[str]()
    while waiting:
        requirement, _, marker = waiting.pop().partition(";")
        if "extra" in marker or "Windows" in marker or "win32" in marker or "python_version <" in marker:
            continue
        match = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
        assert match is not None, requirement
        name = match[0].lower().replace("_", "-")
        if name not in found and name not in FROM_TERMUX:
            found.add(name)
            waiting += requires(name) or ()
    return sorted(found)


@pytest.mark.parametrize("platform", [ANDROID, ANY])
@pytest.mark.parametrize("python", ["3.11", "3.14"])
def test_wheels_for_phones(platform: str, python: str, tmp_path: Path) -> None:
    names = needed()
    assert {"aiohttp", "multidict", "yarl", "frozenlist", "propcache", "typer", "rich"} <= set(names)
    done = pip(
        "download", "--only-binary=:all:", "--no-deps", "--implementation", "cp", "--python-version", python,
        "--platform", platform, "-d", tmp_path, *names,
    )  # fmt: skip
    if done.returncode and unreachable(done.stdout + done.stderr):
        pytest.skip("the Python package index cannot be reached")
    assert done.returncode == 0, done.stderr
    tags = {file.stem.rpartition("-")[2] for file in tmp_path.iterdir()}
    assert tags <= {platform, ANY}
