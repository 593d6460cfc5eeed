"""The demo from flags to summary, with a cluster made of paper: what stops it, what it leaves, what goes where."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peer.demo import figures
from peer.demo import run as run_module
from peer.demo.cluster import Cluster, Member
from peer.demo.run import run_demo
from peer.learning.taskfile import load_task
from peer.options import DemoOptions
from protocol.base.errors import ConfigurationError
from tests.peer.terminal import terminal

OPTIONS = DemoOptions(peers=5, steps=3, seed=7, json=True)


class Paper(Cluster):
    """Peers that start at once, know each other, and are one step further at every look."""

    made: "list[Paper]" = []  # noqa: RUF012  (emptied by the fixture)
    trouble: Callable[["Paper"], None] | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.started: list[tuple[int, Path | None]] = []
        self.killed: list[int] = []
        self.looks, self.closed, self.running = 0, False, set[int]()
        Paper.made.append(self)

    async def start(self, member: Member, *, introduce: Path | None = None) -> None:
        self.started.append((member.index, introduce))
        self.running.add(member.index)
        if introduce is not None:
            self.introduced = load_task(introduce)
        member.process = type("Process", (), {"returncode": None})()

    async def ready(self, member: Member) -> None:
        await self.ask(member)

    async def ask(self, member: Member) -> bool:
        age = min(max(0, self.looks - 2), self.task.last_age)
        published = age if member.index == 0 else 0  # the root of all rounds
        member.status = {
            "age": age, "members_alive": len(self.running), "accuracy": 0.5, "rounds_published": published,
        }  # fmt: skip
        return True

    async def get(self, member: Member, path: str) -> bytes | None:
        rounds = [
            {"round": f"{i}", "kind": "gradient", "published": True, "cohort": 5, "started": float(i),
             "finished": i + 1.0, "min_mask_neighbours": 3}
            for i in range(member.status["rounds_published"])
        ]  # fmt: skip
        return json.dumps(rounds[::-1][: figures.MAX_ROUNDS]).encode()

    async def ask_all(self) -> None:
        self.looks += 1
        if Paper.trouble is not None:
            Paper.trouble(self)
        for member in self.members:
            await self.ask(member)

    async def kill(self, member: Member) -> None:
        self.killed.append(member.index)
        member.status = {}

    async def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def paper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Paper]:
    """Nothing is a process, nobody waits, and homes are made under ``tmp_path``."""
    Paper.made, Paper.trouble = [], None

    async def accuracies(*_: Any) -> list[float]:
        return [0.9]

    async def at_once(_: float) -> None:
        pass

    monkeypatch.setattr(run_module, "Cluster", Paper)
    monkeypatch.setattr(run_module.asyncio, "sleep", at_once)
    monkeypatch.setattr(figures, "accuracies", accuracies)
    monkeypatch.setattr(figures, "centralised_accuracy", lambda *_: 0.95)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Paper.made


def test_the_summary_is_of_the_whole_run_however_few_rounds_peers_remember(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (figures, run_module):
        monkeypatch.setattr(module, "MAX_ROUNDS", 10)
    assert run_demo(replace(OPTIONS, steps=60)) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["steps"], found["seconds"], found["steps_per_second"]) == (60, 60.0, 1.0)


def left(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("susurrus-demo-*"))


def test_the_last_peer_brings_the_task_when_the_others_know_each_other(
    paper: list[Paper], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_demo(OPTIONS) == 0
    (cluster,) = paper
    assert [index for index, _ in cluster.started] == [0, 1, 2, 3, 4]
    assert [introduce is not None for _, introduce in cluster.started] == [False] * 4 + [True]
    assert cluster.introduced == cluster.task
    assert (cluster.task.steps, cluster.task.cohort, cluster.task.public_data) == (3, 5, True)
    assert cluster.closed
    said = capsys.readouterr()
    assert json.loads(said.out)["seed"] == 7  # the summary alone, on one line
    assert "starting 5 peers, seed 7" in said.err
    assert left(tmp_path) == []


def test_a_summary_for_people_and_homes_that_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_demo(replace(OPTIONS, json=False, keep=True)) == 0
    said = capsys.readouterr()
    assert "centralised_accuracy" in said.out
    (kept,) = left(tmp_path)
    assert f"homes and logs are kept in {kept}" in said.err
    assert (kept / "task.toml").is_file()


def test_the_same_seed_gives_the_same_shards(tmp_path: Path) -> None:
    run_demo(replace(OPTIONS, keep=True))
    run_demo(replace(OPTIONS, keep=True))
    run_demo(replace(OPTIONS, keep=True, seed=8))
    shards = [cluster.root / "peer-001" / "shard.npz" for cluster in Paper.made]
    first, second, other = (path.read_bytes() for path in shards)
    assert first == second != other


def test_a_peer_that_ends_by_itself_ends_the_demo(
    paper: list[Paper], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(cluster: Paper) -> None:
        if cluster.looks == 2:
            process: Any = cluster.members[2].process
            process.returncode = 1
            cluster.members[2].log.write_text("susurrus: the disk is full\n")

    Paper.trouble = ends
    assert run_demo(OPTIONS) == 1
    assert "the demo failed: peer 2 ended by itself: the disk is full\n" in capsys.readouterr().err
    assert paper[0].closed
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("from_look", "sentence"), [(0, "the peers did not find each other"), (1, "no progress for -1 s")]
)
def test_a_demo_that_stands_still_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
    paper: list[Paper],
    capsys: pytest.CaptureFixture[str],
    from_look: int,
    sentence: str,
) -> None:
    def out_of_patience(cluster: Paper | None = None) -> None:
        monkeypatch.setattr(run_module, "STALL_S", -1.0)

    if from_look:
        Paper.trouble = out_of_patience
    else:
        out_of_patience()
    monkeypatch.setattr(run_module.Demo, "_done", nothing_yet)
    assert run_demo(OPTIONS) == 1
    assert f"the demo failed: {sentence}" in capsys.readouterr().err
    assert paper[0].closed


async def nothing_yet(*_: Any) -> bool:
    return False


def test_an_error_of_its_own_leaves_no_process_and_no_home(paper: list[Paper], tmp_path: Path) -> None:
    def breaks(cluster: Paper) -> None:
        raise KeyError("a bug")

    Paper.trouble = breaks
    with pytest.raises(KeyError):
        run_demo(OPTIONS)
    assert paper[0].closed
    assert left(tmp_path) == []


def test_killed_peers_are_started_again_in_their_homes(
    paper: list[Paper], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module.Demo, "_next_kill", lambda self, now: now)  # at every look
    assert run_demo(replace(OPTIONS, kill=60.0)) == 0
    (cluster,) = paper
    assert cluster.killed
    assert [index for index, _ in cluster.started[5:]] == cluster.killed
    assert all(introduce is None for _, introduce in cluster.started[5:])
    assert json.loads(capsys.readouterr().out)["killed"] == len(cluster.killed)


def test_a_traceback_in_any_log_is_a_failed_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Paper, "tracebacks", lambda self: 1)
    assert run_demo(OPTIONS) == 1


def test_recordings_are_not_mixed_with_older_ones(paper: list[Paper], tmp_path: Path) -> None:
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "older.jsonl").touch()
    with pytest.raises(ConfigurationError, match="is not empty; name a new directory"):
        run_demo(replace(OPTIONS, audit=tmp_path / "audit"))
    assert paper == []


def test_packaged_data_sets_come_before_files_of_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    (tmp_path / "mine").write_text("a,b\n" + "1,0\n2,1\n" * 50)
    assert run_demo(OPTIONS) == 0
    assert run_demo(replace(OPTIONS, dataset="mine")) == 0
    assert [cluster.task.schema for cluster in Paper.made] == ["digits", "mine"]


@pytest.mark.parametrize("goal", [{"steps": 3}, {"steps": 3, "walks": 2}, {"steps": None, "seconds": 0.001}])
def test_a_bar_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, goal: dict[str, Any]
) -> None:
    shown = terminal(monkeypatch)
    assert run_demo(replace(OPTIONS, **goal)) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == 7
    assert "starting 5 peers" in shown.getvalue()
    assert "training" in shown.getvalue()
    assert "100%" in shown.getvalue()


def test_no_bar_towards_an_accuracy_or_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = terminal(monkeypatch)
    assert run_demo(replace(OPTIONS, steps=None, target_accuracy=0.5)) == 0
    assert "%" not in shown.getvalue()
    shown.there = False
    assert run_demo(OPTIONS) == 0
    assert "%" not in shown.getvalue()
