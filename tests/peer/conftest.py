"""For every test of ``peer``: child processes import this checkout too, and no test sees the user's own home."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def _checkout_for_children() -> None:
    """Processes started by a test run the code under test, whatever is installed and wherever they start."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{before}" if before else str(ROOT)


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SUSURRUS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SUSURRUS_HOME", str(tmp_path / "default-home"))
