"""The post-quantum suite between real processes: two homes with ML-KEM-768 + X25519, one with X25519, one task."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.identity.keys import hybrid_available
from tests.integration.homes import Homes, task_file, until

STEPS = 12


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[Homes]:
    made = Homes(tmp_path)
    yield made
    made.close()


@pytest.mark.skipif(not hybrid_available(), reason="the installed cryptography library has no ML-KEM-768")
def test_suites_train_together(homes: Homes, tmp_path: Path) -> None:
    """Three peers and S = 2 make chains of three: seeds are sealed to every root, and roots change."""
    for i in (1, 2):
        config = homes.home(i) / "config.toml"
        text = config.read_text()
        assert '# kem = "x25519"' in text
        config.write_text(text.replace('# kem = "x25519"', 'kem = "hybrid" #'))
    homes.start(0, "--task", task_file(tmp_path, STEPS))
    homes.start(1)
    homes.start(2)
    for i in range(3):
        until(lambda i=i: homes.ask(i)["age"] == STEPS, f"peer {i} has the last model: {homes.log(i)}")
    suites = {homes.ask(i)["peer"]: "x25519" if i == 0 else "hybrid" for i in range(3)}
    for i in range(3):
        seen = {peer["peer"]: peer["kem"] for peer in homes.ask(i, "/peers")}
        own = homes.ask(i)["peer"]
        assert seen | {own: suites[own]} == suites
    assert sum(homes.ask(i)["rounds_published"] for i in range(3)) >= STEPS
    assert all(homes.ask(i)["contributions"] > 0 for i in range(3))
    assert all(
        round["min_mask_neighbours"] >= 2 for i in range(3) for round in homes.ask(i, "/rounds") if round["published"]
    )
    for i in range(3):
        status = homes.ask(i)
        assert (status["messages_refused"], status["requests_refused"]) == (0, 0), homes.log(i)
        assert homes.stop(i) == 0
        assert "Traceback" not in homes.log(i)
