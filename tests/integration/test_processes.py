"""Real peer processes on loopback: the demo, the auditor on its recordings, kills, a network made by hand."""

import base64
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.integration.homes import TASK, Homes, susurrus, task_file, until


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[Homes]:
    made = Homes(tmp_path)
    yield made
    made.close()


def test_three_homes_wait_train_stop_and_come_back(homes: Homes, tmp_path: Path) -> None:
    homes.start(1)
    homes.start(0, "--task", task_file(tmp_path, 300))
    until(lambda: homes.status(0).get("waiting") == "waiting for 1 more peers", "says for whom it waits")
    assert "waiting for 1 more peers" in homes.log(0)
    homes.start(2)
    for i in range(3):
        until(lambda i=i: homes.status(i)["age"] == 300, f"peer {i} has the last model")
        final = until(lambda i=i: homes.status(i) if homes.status(i)["evaluated_age"] == 300 else None, "evaluated")
        assert final["accuracy"] > 0.85
    before = homes.status(2)
    assert homes.stop(2) == 0
    homes.start(2)
    again = until(lambda: homes.status(2) if homes.status(2)["age"] == 300 else None, "the model survives a restart")
    assert again["peer"] == before["peer"]
    assert again["contributions"] == before["contributions"]
    homes.stop(1, signal.SIGKILL)
    homes.start(1)
    until(lambda: homes.status(1)["age"] == 300, "and a SIGKILL")
    for i in range(3):
        assert homes.stop(i) == 0
        assert "Traceback" not in homes.log(i)


async def test_a_stranger_at_the_door_changes_nothing(homes: Homes, tmp_path: Path) -> None:
    homes.start(0)
    address = homes.status(0)["addresses"][0]
    async with aiohttp.ClientSession() as session:
        for path in ("/v1/envelope", "/v1/hello"):
            for body in (b"", b"\x00" * 10, os.urandom(300), b"susu" + os.urandom(500), os.urandom(100_000)):
                async with session.post(f"http://{address}{path}", data=body) as response:
                    assert response.status >= 400, (path, len(body))
    status = homes.status(0)
    assert status["messages_refused"] > 0
    assert status["members_alive"] == 1
    assert homes.log(0).count("refused a message from 127.0.0.1") <= 6  # once for each kind
    assert "Traceback" not in homes.log(0)


def test_bad_input_is_one_sentence_and_its_exit_code(homes: Homes, tmp_path: Path) -> None:
    homes.start(0)
    locked = susurrus("run", "--home", str(homes.home(0)), code=1)
    assert "in use" in locked.stderr
    port = homes.status(0)["addresses"][0]
    taken = susurrus("run", "--home", str(homes.home(1)), "--listen", port, code=2)
    assert len(taken.stderr.strip().splitlines()) == 1
    bad = tmp_path / "bad.toml"
    bad.write_text(TASK.format(steps=5) + "branching = 0\nmodulus_bits = 12\nnonsense = 1\n")
    refused = susurrus("run", "--home", str(homes.home(1)), "--task", str(bad), code=2)
    assert all(word in refused.stderr for word in ("branching", "modulus_bits", "nonsense"))
    private = susurrus(
        "run", "--home", str(homes.home(1)), "--task", task_file(tmp_path, 5), "--audit", str(tmp_path / "rec"), code=3
    )
    assert "public_data" in private.stderr
    database = homes.home(2) / "state.db"
    database.write_bytes(b"this is no database, whatever it is called" * 100)
    corrupt = susurrus("run", "--home", str(homes.home(2)), code=2)
    assert "state.db" in corrupt.stderr
    assert database.read_bytes().startswith(b"this is no database")


def test_demo_and_audit_and_a_tampered_recording(tmp_path: Path) -> None:
    records = tmp_path / "recordings"
    arguments = ["demo", "--peers", "5", "--steps", "30", "--seed", "3", "--audit", str(records), "--json"]
    summary = json.loads(susurrus(*arguments).stdout.strip().splitlines()[-1])
    assert summary["steps"] == 30
    assert summary["tracebacks"] == summary["killed"] == 0
    assert summary["test_accuracy"] > summary["centralised_accuracy"] - 0.04
    assert summary["min_mask_neighbours"] >= 3
    assert summary["bytes_sent_per_contribution"] <= 1.6 * summary["plain_bytes_per_contribution"]
    assert "30 published" in susurrus("audit", str(records)).stdout
    tampered = next(
        path for path in sorted(records.glob("*.jsonl")) if '"published":true' in path.read_text().replace(" ", "")
    )
    lines = tampered.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if json.loads(line)["published"])
    record = json.loads(lines[at])
    total = bytearray(base64.b64decode(record["total"]))
    total[0] ^= 1
    record["total"] = base64.b64encode(bytes(total)).decode()
    lines[at] = json.dumps(record)
    tampered.write_text("\n".join(lines) + "\n")
    susurrus("audit", str(records), code=3)


def test_demo_under_kills(tmp_path: Path) -> None:
    done = susurrus("demo", "--peers", "6", "--steps", "120", "--seed", "5", "--kill", "60", "--json")
    summary = json.loads(done.stdout.strip().splitlines()[-1])
    assert summary["killed"] >= 1
    assert summary["steps"] >= 120
    assert summary["tracebacks"] == 0
    assert summary["models_evaluated"] == 6
    assert summary["test_accuracy"] > summary["centralised_accuracy"] - 0.04


def test_a_demo_too_small_for_its_threshold_says_for_how_many_it_would_wait() -> None:
    assert "waiting for 1 more peers" in susurrus("demo", "--peers", "3", code=2).stderr
