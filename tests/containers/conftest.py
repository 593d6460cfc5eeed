"""An engine, the image built from this checkout, and a deployment of its own for each test.

Without an engine the tests are skipped with the sentence that says how to get one; with ``CONTAINER_TESTS=required``,
as in CI, that is a failure.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.deployment import Deployment
from tests.containers.engine import Engine, NoEngineError, find_engine

TAG = "test"
REQUIRED = os.environ.get("CONTAINER_TESTS") == "required"


@pytest.fixture(scope="session")
def engine() -> Engine:
    try:
        return find_engine()
    except NoEngineError as error:
        if REQUIRED:
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The tag of the image, built from this checkout as Compose builds it."""
    engine.compose("-p", "susurrus-test", "build", "network", timeout=600.0, TAG=TAG)
    return TAG


@pytest.fixture(scope="session")
def next_image(engine: Engine, image: str) -> str:
    """The tag of an image of another version."""
    engine.docker(
        "build", "-q", "-f", "deploy/Dockerfile", "--build-arg", "VERSION=0.1.1", "-t", f"susurrus:{TAG}-next", ".",
        timeout=600.0,
    )  # fmt: skip
    return f"{TAG}-next"


@pytest.fixture
def deployment(engine: Engine, image: str, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(engine, tmp_path, image)
    yield made
    made.remove()
