"""The user's side: limits, records read once, contributions drawn afresh, the hourly allowance."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peer.config import Config, DataBinding, Limits
from peer.learning import application as application_module
from peer.learning.application import LocalApplication, question
from peer.learning.datasets import Schema
from peer.learning.models import Floats, Params, Softmax
from peer.learning.readers import write_npz
from peer.learning.taskfile import task_for_dataset
from peer.learning.trainer import taken
from protocol.aggregation.machine import RoundMachine
from protocol.aggregation.phases import DeclineReason
from protocol.application import Freshness, sections_of
from protocol.base.entropy import SeededEntropy
from protocol.base.errors import ConfigurationError
from protocol.identity.keys import SigningKey
from protocol.training.state import initial_state
from protocol.training.task import RoundKind, Scalar, Task
from protocol.wire.messages import Checkpoint, Decline, Partial
from tests.protocol.aggregation.bench import make_bench, said
from tests.protocol.world import make_task

KEY = SigningKey(bytes(32))


class Now:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def task() -> Task:
    return task_for_dataset("digits", collusion_threshold=3, cohort=10)


def shard(path: Path, task: Task, records: int) -> Path:
    """A shard of random digits-like records."""
    rng = np.random.default_rng(7)
    X = rng.integers(0, 17, (records, len(task.features))).astype(np.float64)
    y = np.arange(records) % len(task.classes)
    write_npz(path, X, y, features=task.features, classes=task.classes)
    return path


def make(tmp_path: Path, task: Task, records: int, clock: Now | None = None, **changes: object) -> LocalApplication:
    binding = DataBinding(task.schema, shard(tmp_path / "shard.npz", task, records), "npz")
    config = replace(Config(home=tmp_path, data={task.schema: binding}), **changes)  # type: ignore[arg-type]
    return LocalApplication(config, SeededEntropy("application"), b"peer", clock or Now())


def checkpoint(task: Task) -> Checkpoint:
    return Checkpoint(task.id, 0, initial_state(task, np.zeros(task.dimension, np.float32)))


def test_nothing_is_had_before_the_records_are_read(tmp_path: Path, task: Task) -> None:
    application = make(tmp_path, task, 40)
    assert application.freshness(task) is Freshness.NONE
    application.load(task)
    assert application.freshness(task) is Freshness.FRESH


def test_one_record_is_deterministic(tmp_path: Path, task: Task) -> None:
    application = make(tmp_path, task, 1)
    application.load(task)
    assert application.freshness(task) is Freshness.DETERMINISTIC


def test_equal_records_are_deterministic(tmp_path: Path) -> None:
    path = tmp_path / "equal.svm"
    config = Config(home=tmp_path, data={"toy": DataBinding("toy", path)})
    task = make_task(model="logistic")
    for last, expected in (("1 1:0.25 2:-0.5\n", Freshness.DETERMINISTIC), ("0 1:0.25 2:-0.5\n", Freshness.FRESH)):
        path.write_text("1 1:0.25 2:-0.5\n" * 3 + last)
        application = LocalApplication(config, SeededEntropy("application"), b"peer", Now())
        application.load(task)
        assert application.freshness(task) is expected


def test_one_record_is_the_same_to_a_task_that_renames_its_columns_so_that_one_is_not_served(tmp_path: Path) -> None:
    """Columns are found by their position where the user, or the format, names none."""
    path = tmp_path / "one.svm"
    path.write_text("1 1:0.25 2:-0.5\n")
    config = Config(home=tmp_path, data={"toy": DataBinding("toy", path)})
    application = LocalApplication(config, SeededEntropy("application"), b"peer", Now())
    bench = make_bench()
    bench.machine = RoundMachine(replace(bench.machine._ports, application=application), {}, set())
    values, answers = [], []
    for bench.task in (make_task(model="logistic"), make_task(model="logistic", features=("c", "d"), target="z")):
        application.load(bench.task)
        job = application.contribution_job(bench.task, RoundKind.GRADIENT, checkpoint(bench.task))
        values.append(job.run().values[0].tolist())
        answers.append(said(bench.finish(bench.take(bench.offer(1, 2, 3, round_id=bench.task.id[:16]))))[-1])
    assert values[0] == values[1]
    assert isinstance(answers[0], Partial)
    assert answers[1] == Decline(bench.task.id[:16], DeclineReason.NO_FRESH_RECORDS)


def test_contributions_fit_their_sections_and_are_drawn_afresh(tmp_path: Path, task: Task) -> None:
    application = make(tmp_path, task, 200)
    application.load(task)
    first, second = (application.contribution_job(task, RoundKind.GRADIENT, checkpoint(task)).run() for _ in range(2))
    sections = sections_of(task, RoundKind.GRADIENT)
    assert [part.size for part in first.values] == [section.length for section in sections]
    assert float(np.linalg.norm(first.values[0])) <= task.clip * (1 + 1e-6)
    assert float(first.values[1][0]) == task.batch_per_peer
    assert not np.array_equal(first.values[0], second.values[0])


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(collusion_threshold=4), "collusion_threshold"),
        (Limits(minimum_cohort=9), "minimum_cohort"),
        (Limits(submitters=("00" * 16,)), "submitters"),
        (Limits(submitters=(KEY.peer_id.hex(),)), None),
        (Limits(), None),
    ],
)
def test_the_users_limits(tmp_path: Path, task: Task, limits: Limits, said: str | None) -> None:
    refused = make(tmp_path, task, 10, limits=limits).accepts(task, KEY.public_bytes)
    assert (refused is None) if said is None else (refused is not None and said in refused)


def test_a_task_without_bound_data_is_declined(tmp_path: Path, task: Task) -> None:
    application = make(tmp_path, task, 10)
    other = replace(task, schema="elsewhere")
    refused = application.accepts(other, KEY.public_bytes)
    assert refused is not None
    assert "[data.elsewhere]" in refused
    with pytest.raises(ConfigurationError, match="elsewhere"):
        application.load(other)


def asking(task: Task, name: str, **changes: Any) -> Task:
    return replace(task, name=name, **changes)


def takes(application: LocalApplication, task: Task, key: SigningKey = KEY) -> bool:
    """Whether it takes part in a task that it gets."""
    refused = application.accepts(task, key.public_bytes)
    if refused is None:
        application.adopted(task)
    return refused is None


def test_strangers_may_choose_columns_and_labels_once(tmp_path: Path, task: Task) -> None:
    """Whether a file fits can be seen from outside: who may ask as he likes reads a label in six questions."""
    names = tuple(reversed(task.features))
    others = [
        asking(task, "labels", classes=(*task.classes[:-1], "x")),
        asking(task, "order", classes=task.classes[::-1]),
        asking(task, "target", target="diagnosis"),
        asking(task, "columns", features=names),
    ]
    application = make(tmp_path, task, 10)
    assert not takes(application, replace(task, collusion_threshold=1))
    assert application.accepts(others[0], KEY.public_bytes) is None, "accepted, and never held"
    for first in (task, asking(task, "again"), asking(task, "harder", collusion_threshold=4)):
        assert takes(application, first)
    for other in others:
        refused = application.accepts(other, KEY.public_bytes)
        assert refused is not None
        assert "other columns or classes" in refused
    assert not takes(application, replace(others[0], schema="elsewhere"))


def test_what_was_asked_is_known_after_a_restart_whatever_task_is_held_then(tmp_path: Path, task: Task) -> None:
    before, other = make(tmp_path, task, 10), asking(task, "other", target="other")
    assert takes(before, task)
    after = make(tmp_path, task, 10)
    after.recall([*before.question(task), b"model"])
    assert not takes(after, other)
    assert takes(after, asking(task, "again"))
    assert before.question(replace(task, schema="elsewhere")) == ()


def test_the_user_and_those_whom_he_names_ask_what_they_like(tmp_path: Path, task: Task) -> None:
    own, stranger = SigningKey(b"o" * 32), SigningKey(b"s" * 32)
    other, third = asking(task, "other", target="other"), asking(task, "third", target="third")
    named = make(tmp_path, task, 10, limits=Limits(submitters=(KEY.peer_id.hex(),)))
    assert [takes(named, asked) for asked in (task, other)] == [True, True]
    config = Config(home=tmp_path, data={task.schema: DataBinding(task.schema, tmp_path / "shard.npz", "npz")})
    for first in (stranger, own):
        application = LocalApplication(config, SeededEntropy(1), b"peer", Now(), own=own.peer_id)
        assert takes(application, task, first)
        assert not takes(application, other, stranger)
        assert takes(application, other, own)
        assert takes(application, asking(other, "again"), stranger), "his own user has asked it"
        assert not takes(application, third, stranger)


@pytest.mark.parametrize("classes", [("no", "yes"), ()])
def test_what_the_configuration_names_is_not_the_tasks_to_choose(
    tmp_path: Path, task: Task, classes: tuple[str, ...]
) -> None:
    """Nor does it matter what was asked before the user has named it: to mend the configuration is his own act."""
    asked = {"classes": classes, "dimension": 3, "target_range": (0.0, 0.0) if classes else (0.0, 1.0)}
    first = replace(task, features=("x", "y"), ranges=task.ranges[:2], target="t", **asked)  # type: ignore[arg-type]
    plain = DataBinding(task.schema, tmp_path / "x.csv", "csv")

    def application(**names: Any) -> LocalApplication:
        data = {task.schema: replace(plain, **names)}
        made = LocalApplication(Config(home=tmp_path, data=data), SeededEntropy(1), b"peer", Now())
        made.recall([key for pair in question(first, plain).items() for key in pair])
        return made

    renamed = replace(first, features=("u", "v"), target="w")  # names that mean nothing where the user names his own
    assert not takes(application(), renamed)
    assert not takes(application(features=("a", "b")), renamed)
    assert takes(application(features=("a", "b")), first)
    assert takes(application(target="mine"), first)
    assert takes(application(features=("a", "b"), target="mine"), renamed)
    other = replace(first, classes=("no", "x"))
    assert not takes(application(), other)
    assert not takes(application(features=("a", "b"), target="mine"), other)
    if classes:
        named = application(features=("a", "b"), target="mine", classes=("yes", "no"))
        assert takes(named, renamed)
        refused = named.accepts(other, KEY.public_bytes)
        assert refused is not None
        assert "classes" in refused


def test_whoever_records_takes_part_in_public_tasks_alone(tmp_path: Path, task: Task) -> None:
    config = Config(home=tmp_path, data={task.schema: DataBinding(task.schema, tmp_path / "shard.npz", "npz")})
    private = replace(task, public_data=False)
    for recording, sentence in (
        (False, None),
        (True, "--audit records values, and it does not say public_data = true"),
    ):
        application = LocalApplication(config, SeededEntropy(1), b"peer", Now(), recording=recording)
        assert application.accepts(task, KEY.public_bytes) is None
        assert application.accepts(private, KEY.public_bytes) == sentence


def test_the_power_gate_comes_first(tmp_path: Path, task: Task) -> None:
    application = make(tmp_path, task, 20)
    application.closed = "not charging"
    assert application.gate() == "closed: not charging"
    application.closed = None
    assert application.gate() is None


def test_the_hourly_allowance_closes_the_gate_and_opens_it_again(tmp_path: Path, task: Task) -> None:
    now = Now()
    application = make(tmp_path, task, 10, now, limits=Limits(rounds_per_hour=2))
    assert application.gate() is None
    application.contributed()
    assert application.gate() is None
    application.contributed()
    assert application.gate() is not None
    now.time += 3601
    assert application.gate() is None
    for _ in range(2):
        application.contributed()
    assert application.gate() is not None
    now.time -= 86_400  # the clock was set back, and the peer has begun anew: as after any restart
    assert application.gate() is None


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were read, one entry for each time."""
    seen: list[Path] = []
    read = application_module.read_table

    def noted(path: Path, **how: Any) -> Any:
        seen.append(path)
        return read(path, **how)

    monkeypatch.setattr(application_module, "read_table", noted)
    return seen


def test_records_are_read_once_also_when_a_peer_comes_back(tmp_path: Path, task: Task, readings: list[Path]) -> None:
    application = make(tmp_path, task, 20)
    (tmp_path / "shard.npz").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError):
        application.load(task)
    (tmp_path / "elsewhere").rename(tmp_path / "shard.npz")  # what could not be read is tried again
    for _ in range(3):
        application.load(task)
    assert len(readings) == 2


def test_tasks_that_take_the_same_of_the_records_share_them(tmp_path: Path, task: Task, readings: list[Path]) -> None:
    application = make(tmp_path, task, 50)
    longer = replace(task, steps=task.steps + 1, model="svm", batch_per_peer=7)
    wider = replace(task, ranges=((0.0, 20.0), *task.ranges[1:]))
    for each in (task, longer, wider):
        application.load(each)
    assert len(readings) == 2
    first, second, third = (application._learners[each.id] for each in (task, longer, wider))
    assert np.shares_memory(first._train_x, second._train_x)
    assert np.shares_memory(first._test_x, second._test_x)
    assert not np.shares_memory(first._train_x, third._train_x)
    made = application.contribution_job(longer, RoundKind.GRADIENT, checkpoint(longer)).run()
    assert float(made.values[1][0]) == 7
    assert application.evaluate(longer, checkpoint(longer)) != application.evaluate(task, checkpoint(task))


def test_a_task_that_is_forgotten_leaves_its_records_to_the_others(tmp_path: Path, task: Task) -> None:
    application, longer = make(tmp_path, task, 50), replace(task, steps=task.steps + 1)
    for each in (task, longer):
        application.load(each)
    application.forget(task.id)
    application.forget(task.id)
    assert application.freshness(task) is Freshness.NONE
    assert application.freshness(longer) is Freshness.FRESH


@pytest.mark.parametrize("name", ["schema", "features", "target", "classes", "ranges", "target_range"])
def test_tasks_that_take_something_else_share_nothing(task: Task, name: str) -> None:
    assert taken(replace(task, **{name: getattr(task, name)[1:]})) != taken(task)


def test_unreadable_records_are_named(tmp_path: Path, task: Task) -> None:
    application = make(tmp_path, task, 10)
    (tmp_path / "shard.npz").write_bytes(b"not an archive")
    with pytest.raises(ConfigurationError, match=r"shard\.npz"):
        application.load(task)
    assert application.freshness(task) is Freshness.NONE


UNFIT: list[tuple[str, Any, list[str]]] = [
    ("csv", "name,age,ill\nsecret,44,secret\n,nan,\n", ["row 2, column 'name': is", "row 2, column 'ill': is",
     "row 3, column 'name': is", "row 3, column 'age': is", "row 3, column 'ill': is"]),
    ("csv", "secret;44;secret\n", ["row 1 is one column; "]),
    ("svm", "secret 1:secret\n1 1:1\na secret\n", ["row 1, label: is", "row 1, column 1: is", "row 2, label: is",
     "row 3: must be index:value"]),
    ("npz", (np.ones((2, 2)), np.array(["secret", "a"])), ["row 1, array y: is"]),
    ("npz", (np.array([[1, np.inf]]), np.array(["a"])), ["row 1, column 2: is"]),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "content", "places"), UNFIT)
def test_what_a_strangers_task_provokes_names_places_and_quotes_no_record(
    tmp_path: Path, ending: str, content: Any, places: list[str]
) -> None:
    file = tmp_path / f"records.{ending}"
    if isinstance(content, str):
        file.write_text(content)
    else:
        np.savez(file, X=content[0], y=content[1])
    heart = Schema("heart", ("name", "age"), "ill", ("a", "b"), ((0.0, 1.0), (0.0, 1.0)), (0.0, 0.0))
    task = task_for_dataset(heart)
    config = Config(home=tmp_path, data={"heart": DataBinding("heart", file)})
    application = LocalApplication(config, SeededEntropy("application"), b"peer", Now())
    assert application.accepts(task, KEY.public_bytes) is None
    said = []
    for quotes in (False, True):
        with pytest.raises(ConfigurationError) as caught:
            application.load(task, quotes=quotes)
        said.append(" ".join(caught.value.problems).replace(f"{file}: ", ""))
    assert [place for place in places if place not in said[0]] == []
    assert not {word for word in ("'secret'", "'inf'", "'nan'", "'44'") if word in said[0]}
    assert "'secret'" in said[1] or "'inf'" in said[1] or "'secret;44;secret'" in said[1]


def test_evaluation_needs_held_out_records(tmp_path: Path, task: Task) -> None:
    small, large = make(tmp_path, task, 3), None
    small.load(task)
    assert small.evaluate(task, checkpoint(task)) is None
    large = make(tmp_path, task, 50)
    large.load(task)
    figures = large.evaluate(task, checkpoint(task))
    assert figures is not None
    assert figures[0] == pytest.approx(np.log(10), rel=1e-3)


class Touchy(Softmax):
    """A user's own model class that trusts whatever a task says, and some parameters less than others."""

    def __init__(self, features: int, classes: int, hyper: Mapping[str, Scalar]) -> None:
        super().__init__(features, classes, {})
        self.rate = 1.0 / float(hyper["rate"])

    def evaluate(self, params: Params, X: Floats, y: Any) -> tuple[float, float]:
        if params[0] > 1.0:
            raise ArithmeticError(f"record {X[0]}")
        return super().evaluate(params, X, y)


@pytest.mark.parametrize("hyper", [(), (("rate", "fast"),), (("rate", 0),)])
def test_a_strangers_task_that_upsets_a_users_own_model_is_a_problem_and_no_end(tmp_path: Path, hyper: Any) -> None:
    task = replace(task_for_dataset("digits"), model="touchy", hyper=hyper)
    application = make(tmp_path, task, 20, models={"touchy": f"{__name__}:Touchy"})
    with pytest.raises(ConfigurationError, match="in model 'touchy' or its records"):
        application.load(task)
    assert application.freshness(task) is Freshness.NONE


def test_a_model_that_cannot_be_evaluated_has_no_figures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = replace(task_for_dataset("digits"), model="touchy", hyper=(("rate", 2),))
    application = make(tmp_path, task, 20, models={"touchy": f"{__name__}:Touchy"})
    application.load(task)
    for value, figures in ((0.0, True), (2.0, False)):
        checkpoint = Checkpoint(task.id, 1, initial_state(task, np.full(task.dimension, value, np.float32)))
        assert (application.evaluate(task, checkpoint) is not None) is figures
    assert "cannot be evaluated (ArithmeticError)" in caplog.text
    assert "record" not in caplog.text
