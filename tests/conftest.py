"""For every test: hypothesis draws the same examples every time, and child processes import this checkout."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("repeatable")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _checkout_for_children() -> None:
    """Processes started by a test run the code under test, whatever is installed and wherever they start."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{before}" if before else str(ROOT)
