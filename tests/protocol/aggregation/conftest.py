"""One round machine at a bench, for every test that wants it."""

import pytest

from tests.protocol.aggregation.bench import Bench, make_bench


@pytest.fixture
def bench() -> Bench:
    return make_bench()
