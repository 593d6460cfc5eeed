"""The kind ``network``: figures, series and traces of one scenario."""

from pathlib import Path
from typing import Any

import pytest

from peer.errors import PeerError
from peer.laboratory.network import Network
from protocol.base.errors import ConfigurationError

KIND = Network()
SMALL: dict[str, Any] = {
    "peers": 12,
    "seconds": 15,
    "warm_up_s": 10,
    "settings": {"preset": "lan", "root_pause_s": 1.0},
    "network": "lan",
}


def test_one_row_of_figures_and_the_same_again() -> None:
    (row,) = KIND.run(SMALL, 5)
    assert row["peers"] == 12
    assert isinstance(row["rounds_published"], int)
    assert row["rounds_published"] > 3
    assert KIND.run(SMALL, 5) == [row]
    assert KIND.run(SMALL, 6) != [row]


def test_series_are_those_of_the_same_run() -> None:
    (row,) = KIND.run(SMALL, 5)
    progress = KIND.run({**SMALL, "series": "progress"}, 5)
    rounds = KIND.run({**SMALL, "series": "rounds"}, 5)
    ages = [line["age"] for line in progress]
    assert ages == list(range(1, len(ages) + 1))
    assert ages[-1] == row["steps"]
    assert sum(line["published"] == 1 for line in rounds) == row["rounds_published"]


def test_all_mistakes_at_once() -> None:
    problems = KIND.check({"seconds": -1, "series": "all", "churn": {"kind": "sometimes"}, "speed": 3}, "f: parameters")
    told = "\n".join(problems)
    for part in ("series is 'all'", "needs peers", "seconds must be", "'sometimes'", "no key 'speed'"):
        assert part in told, told
    assert all(problem.startswith("f: parameters") for problem in problems)
    assert KIND.check(SMALL, "f") == []


def test_a_trace_file_is_read_by_name() -> None:
    churn = {"kind": "trace", "files": ["days.csv"]}
    assert KIND.files({"churn": churn}) == ["days.csv"]
    rows = "".join(f"p{i},0,600\n" for i in range(12))
    given = {**SMALL, "churn": churn, "texts": {"days.csv": "peer,online_from,online_to\n" + rows}}
    assert KIND.check(given, "f") == []
    assert KIND.run(given, 1)[0]["rounds_published"]
    with pytest.raises(ConfigurationError):
        KIND.run({**given, "texts": {}}, 1)


def traced(
    seed: int,
    trace: Path | None = None,
    replay: Path | None = None,
    until: int | None = None,
    told: list[float] | None = None,
    **changes: Any,
) -> Any:
    progress = [].append if told is None else told.append
    return KIND.run_traced(SMALL | changes, seed, progress=progress, trace=trace, replay=replay, until_step=until)


def test_traced_replayed_and_stopped(tmp_path: Path) -> None:
    told: list[float] = []
    rows = traced(5, trace=tmp_path / "one", told=told)
    assert rows == KIND.run(SMALL, 5)
    assert told[-1] == 1.0
    assert traced(5, replay=tmp_path / "one", trace=tmp_path / "two") == rows
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    (stopped,) = traced(5, replay=tmp_path / "one", until=100)
    assert stopped["step"] == 100
    with pytest.raises(PeerError, match="the trace says"):
        traced(6, replay=tmp_path / "one")
    with pytest.raises(PeerError, match="no such file"):
        traced(5, replay=tmp_path / "none")


def test_a_run_and_a_trace_that_end_apart_differ(tmp_path: Path) -> None:
    short, long = tmp_path / "short", tmp_path / "long"
    traced(5, trace=short, seconds=1)
    traced(5, trace=long, seconds=2)
    assert long.read_bytes().startswith(short.read_bytes())
    steps = len(short.read_text().splitlines())
    for until in (None, 10**6):  # it ends before that step
        with pytest.raises(PeerError, match=rf"step {steps}: the trace says '.*', this run ends here"):
            traced(5, replay=long, until=until, seconds=1)
    with pytest.raises(PeerError, match=rf"step {steps + 1}: the trace ends here, this run does '"):
        traced(5, replay=short, seconds=2)
    (stopped,) = traced(5, replay=long, until=steps, seconds=1)
    assert stopped["step"] == steps


def test_files_of_traces_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="^/dev/full: no space left on device"):
        traced(5, trace=Path("/dev/full"), seconds=1)
    with pytest.raises(PeerError, match="^/dev/full: no space left on device"):
        traced(5, trace=Path("/dev/full"), until=2)  # what is left is written when it is closed
    (tmp_path / "old").write_bytes(b"\x80\x81\n")
    with pytest.raises(ConfigurationError, match=f"--replay {tmp_path / 'old'} is no trace: it is not text"):
        traced(5, replay=tmp_path / "old")
