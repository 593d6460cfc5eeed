"""Task files: defaults, packaged schemas, and every mistake at once."""

from pathlib import Path

import pytest

from peer.learning.datasets import Schema, load_dataset
from peer.learning.taskfile import load_task, task_for_dataset
from protocol.base.errors import ConfigurationError
from protocol.training import task as tasks


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "t.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_task(path)
    assert all(sentence.startswith(f"{path}: ") for sentence in caught.value.problems)
    return [sentence.removeprefix(f"{path}: ") for sentence in caught.value.problems]


def test_the_example_of_the_interface(write) -> None:
    task = load_task(
        write("""
        [task]
        name = "digits"
        public_data = false
        model = "softmax"
        [data]
        schema = "digits"
        [training]
        learning_rate = 0.5
        batch_per_peer = 32
        steps = 300
        [aggregation]
        collusion_threshold = 3
        branching = 2
        cohort = 16
        modulus_bits = 32
        clip = 1.0
    """)
    )
    assert (task.dimension, task.cohort, task.minimum_cohort, task.statistics_rounds) == (650, 16, 4, 0)
    assert task.features == load_dataset("digits").features
    assert tasks.decode(task.encode()) == task


def test_defaults(write) -> None:
    task = load_task(write('[data]\nschema = "spambase"\n'))
    assert (task.name, task.model, task.public_data, task.hyper) == ("spambase", "softmax", False, ())
    assert (task.collusion_threshold, task.minimum_cohort, task.branching, task.cohort) == (3, 4, 2, 1000)
    assert (task.modulus_bits, task.clip, task.loss_bound, task.walks) == (32, 1.0, 10.0, 1)
    assert (task.learning_rate, task.learning_rate_decay, task.momentum, task.weight_decay) == (0.5, 0, 0, 0)
    assert (task.batch_per_peer, task.steps, task.statistics_rounds, task.initial_seed) == (32, 300, 0, 0)
    assert tasks.decode(task.encode()) == task


def test_everything_spelled_out(write) -> None:
    task = load_task(
        write("""
        [task]
        name = "house"
        public_data = true
        model = "mlp"
        hyper = { hidden = 7, activation = "relu" }
        [data]
        schema = "houses"
        features = ["area", "rooms"]
        target = "price"
        ranges = [[0, 1000], [1, 20]]
        target_range = [0, 1e6]
        standardise = true
        [training]
        learning_rate = 1
        learning_rate_decay = 0.1
        momentum = 0.9
        weight_decay = 1e-4
        batch_per_peer = 5
        steps = 10
        loss_bound = 2
        seed = 4
        [aggregation]
        collusion_threshold = 2
        minimum_cohort = 5
        branching = 3
        cohort = 9
        modulus_bits = 64
        clip = 2
        walks = 3
    """)
    )
    assert task.hyper == (("activation", "relu"), ("hidden", 7))
    assert task.dimension == 2 * 7 + 7 + 7 + 1
    assert (task.features, task.target, task.classes) == (("area", "rooms"), "price", ())
    assert (task.ranges, task.target_range) == (((0.0, 1000.0), (1.0, 20.0)), (0.0, 1e6))
    assert (task.statistics_rounds, task.momentum, task.initial_seed, task.minimum_cohort) == (5, 0.9, 4, 5)
    assert tasks.decode(task.encode()) == task


def test_a_count_of_features_and_one_range_for_all(write) -> None:
    task = load_task(
        write("""
        data = { schema = "s", features = 3, classes = [0, 1, "other"], ranges = [-1, 1], statistics_rounds = 2 }
    """)
    )
    assert task.features == ("f1", "f2", "f3")
    assert task.classes == ("0", "1", "other")
    assert task.ranges == ((-1.0, 1.0),) * 3
    assert (task.target, task.statistics_rounds, task.dimension) == ("target", 2, 12)


def test_all_mistakes_at_once(write) -> None:
    found = problems(
        write("""
        [task]
        name = 3
        modle = "softmax"
        public_data = "yes"
        [data]
        schema = "digits"
        classes = ["a", "b"]
        [training]
        learning_rate = "fast"
        batch_per_peer = 2.5
        steps = 0
        momentum = nan
        [aggregation]
        collusion_threshold = 1
        branching = 0
        cohort = 1
        modulus_bits = 31
        walks = true
        clip = -1
        [extra]
    """)
    )
    starts = [sentence.partition(": ")[0] for sentence in found]
    assert sorted(starts) == sorted(
        ["task.name", "task.modle", "task.public_data", "data.classes", "training.learning_rate",
         "training.batch_per_peer", "training.steps", "training.momentum", "aggregation.collusion_threshold",
         "aggregation.branching", "aggregation.cohort", "aggregation.modulus_bits", "aggregation.walks",
         "aggregation.clip", "extra"]
    )  # fmt: skip
    assert "aggregation.collusion_threshold: must be 2 to 16, not 1" in found
    assert "aggregation.branching: must be 1 to 64, not 0" in found
    assert "training.batch_per_peer: must be a whole number, not 2.5" in found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "data.schema: is missing"),
        ("[data]\nschema = 3", "data.schema: must be text, not 3"),
        ('[data]\nschema = "s"\nclasses = ["a", "b"]\nranges = [0, 1]', "data.features: is missing"),
        ('[data]\nschema = "s"\nfeatures = 0\nclasses = ["a", "b"]\nranges = [0, 1]', "data.features: 0 will not do"),
        ('[data]\nschema = "s"\nfeatures = ["a", "a"]\nclasses = ["a", "b"]\nranges = [0, 1]', "'a' is named twice"),
        ('[data]\nschema = "s"\nfeatures = ["target"]\nclasses = ["a", "b"]\nranges = [0, 1]', "is also a feature"),
        ('[data]\nschema = "s"\nfeatures = 2\nclasses = ["a"]\nranges = [0, 1]', "data.classes: must be a list"),
        ('[data]\nschema = "s"\nfeatures = 2\nclasses = ["1", 1]\nranges = [0, 1]', "data.classes: must be a list"),
        ('[data]\nschema = "s"\nfeatures = 2\nclasses = ["a", "b"]', "data.ranges: is missing"),
        ('[data]\nschema = "s"\nfeatures = 2\nclasses = ["a", "b"]\nranges = [1, 0]', "low below high, not [1, 0]"),
        ('[data]\nschema = "s"\nfeatures = 2\nclasses = ["a", "b"]\nranges = [[0, 1]]', "each of the 2 features"),
        ('[data]\nschema = "s"\nfeatures = 2\nclasses = ["a", "b"]\nranges = [[0, 1], [0, inf]]', "data.ranges[1]: "),
        ('[data]\nschema = "s"\nfeatures = 2\nranges = [0, 1]\n[task]\nmodel = "linear"',
         "data.target_range: must give"),
        ('[data]\nschema = "s"\nfeatures = 2\nclasses = ["a", "b"]\nranges = [0, 1]\ntarget_range = [0, 1]',
         "is for regression"),
        ('[data]\nschema = "digits"\nstandardise = 1', "data.standardise: must be true or false"),
        ('[data]\nschema = "digits"\nstandardise = false\nstatistics_rounds = 3', "standardise is false"),
        ('[data]\nschema = "digits"\nstandardise = true\nstatistics_rounds = 0', "standardise is true"),
        ('[data]\nschema = "digits"\nstatistics_rounds = 3000', "data.statistics_rounds: must be 0 to 1000"),
        ('[data]\nschema = "digits"\n[task]\nmodel = "forest"', "task.model: 'forest' is not known here"),
        ('[data]\nschema = "digits"\n[task]\nmodel = "os:system"', "task.model: 'os:system' is not known here"),
        ('[data]\nschema = "digits"\n[task]\nmodel = "logistic"', "needs two classes, not 10"),
        ('[data]\nschema = "digits"\n[task]\nmodel = "mlp"\nhyper = { hidden = -1 }', "task.hyper.hidden: -1 must be"),
        ('[data]\nschema = "digits"\n[task]\nmodel = "mlp"\nhyper = { hidden = [1] }', "task.hyper.hidden: must be"),
        ('[data]\nschema = "digits"\n[task]\nhyper = 3', "task.hyper: must be a table"),
        ('[data]\nschema = "digits"\n[training]\nseed = -1', "training.seed: must be"),
        ('[data]\nschema = "digits"\n[training]\nseed = 99999999999999999999', "training.seed: must be"),
        ('[data]\nschema = "digits"\n[aggregation]\ncohort = 3', "aggregation.cohort: must be at least"),
        ('[data]\nschema = "digits"\n[aggregation]\nminimum_cohort = 0', "minimum_cohort: must be at least"),
        ('[data]\nschema = "digits"\n[aggregation]\nminimum_cohort = 3', "minimum_cohort: must be at least"),
        ('[data]\nschema = "s"\nfeatures = 100000\nclasses = ["a", "b"]\nranges = [0, 1]',
         "take more than 65536 bytes"),
        ("[data", "is not valid TOML"),
        ("x = " + "9" * 5000, "is not valid TOML (a number in it has thousands of digits)"),
        ("x = 0x" + "f" * 5000, "is not valid TOML (a number in it has thousands of digits)"),
        ("x = " + "[" * 5000, "is not valid TOML"),
        ("#" * 70_000, "longer than 65536 bytes"),
    ],
)  # fmt: skip
def test_one_mistake_one_sentence(write, text: str, sentence: str) -> None:
    found = problems(write(text))
    assert len(found) == 1, found
    assert sentence in found[0]


def test_a_table_that_is_none(write) -> None:
    assert problems(write("data = 3")) == [
        "data: must be a table, not 3",
        "data.schema: is missing, give the name of a packaged data set or a name of your own",
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.toml") == ["cannot be read (No such file or directory)"]
    assert problems(tmp_path) == ["cannot be read (Is a directory)"]
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    assert problems(tmp_path / "x") == ["is not UTF-8 text, a task file is TOML"]


def test_tasks_for_data_sets() -> None:
    digits = task_for_dataset("digits", collusion_threshold=2, cohort=12, steps=9, walks=2)
    assert (digits.dimension, digits.statistics_rounds, digits.model) == (650, 0, "softmax")
    assert (digits.minimum_cohort, digits.cohort, digits.steps, digits.walks) == (3, 12, 9, 2)
    assert task_for_dataset("spambase").statistics_rounds == 5
    assert task_for_dataset("spambase").dimension == 58
    assert task_for_dataset(load_dataset("pendigits")) == task_for_dataset("pendigits")
    namesake = Schema("digits", ("a", "b"), "t", ("x", "y"), ((0.0, 1.0),) * 2)
    assert task_for_dataset(namesake).statistics_rounds == 5
    house = Schema("house", ("a", "b"), "t", (), ((0.0, 1.0),) * 2, (0.0, 5.0))
    assert task_for_dataset(house).model == "linear"
    assert task_for_dataset(house, model="mlp", hyper=(("hidden", 3),)).dimension == 13
    for task in (digits, task_for_dataset("spambase"), task_for_dataset("pendigits"), task_for_dataset(house)):
        assert tasks.decode(task.encode()) == task


def test_impossible_tasks_for_data_sets() -> None:
    with pytest.raises(ConfigurationError) as caught:
        task_for_dataset("digits", collusion_threshold=1, branching=0, cohort=1, model="linear")
    assert [sentence.partition(": ")[0] for sentence in caught.value.problems] == [
        "task.model", "aggregation.collusion_threshold", "aggregation.cohort", "aggregation.branching"
    ]  # fmt: skip


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text('\ufeff[data]\nschema = "digits"\n', encoding="utf-8")
    assert load_task(tmp_path / "task.toml").schema == "digits"
