"""Experiment files: what they say, every mistake at once, the product of the sweep, seeds and ids."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from peer.laboratory import experiment as module
from peer.laboratory.experiment import Experiment, load, parse, scales
from peer.laboratory.kinds import KINDS, Kind, ReadsFiles
from peer.laboratory.study import evaluation
from protocol.base.errors import ConfigurationError
from tests.peer.laboratory.trial import experiment_text

PLACE = Path("e.toml")


def parsed(text: str, scale: str = "full", place: Path = PLACE) -> Experiment:
    return parse(tomllib.loads(text), place, scale)


def mistakes(text: str, scale: str = "full", place: Path = PLACE) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parsed(text, scale, place)
    return caught.value.problems


def test_the_sweep_is_a_product_with_the_first_key_outermost(tmp_path: Path) -> None:
    found = parsed(experiment_text(tmp_path / "log"))
    assert [dict(point.values) for point in found.points] == [
        {"value": value, "deep.factor": factor} for value in (1, 2, 3) for factor in (0.5, 2.0)
    ]
    assert [(p.parameters["value"], p.parameters["deep"]) for p in found.points][:3] == [
        (1, {"factor": 0.5}),
        (1, {"factor": 2.0}),
        (2, {"factor": 0.5}),
    ]
    assert "value" not in found.parameters  # a point's own are copies
    assert [(run.index, run.point.index, run.repeat) for run in found.runs(0)][:3] == [(0, 0, 0), (1, 0, 1), (2, 1, 0)]
    assert len(found.runs(0)) == 12


def test_quoted_and_nested_keys_of_the_sweep_are_the_same(tmp_path: Path) -> None:
    text = experiment_text(tmp_path / "log")
    assert parsed(text.replace("deep.factor = [", '"deep.factor" = [')) == parsed(text)


def test_values_of_the_sweep_may_be_tables_and_lists(tmp_path: Path) -> None:
    text = experiment_text(tmp_path / "log").replace("deep.factor = [0.5, 2.0]", "deep = [{ factor = 3 }, {}]")
    assert [p.values[1] for p in parsed(text).points[:2]] == [("deep", '{"factor": 3}'), ("deep", "{}")]


def test_variants_are_the_outermost_axis_and_change_parameters_by_name(tmp_path: Path) -> None:
    variants = "[variants]\n'as it is' = {}\nother = { label = 'b', deep = { more = 1 } }\n"
    found = parsed(experiment_text(tmp_path / "log") + variants)
    assert list(found.sweep) == ["variant", "value", "deep.factor"]
    assert len(found.points) == 12
    assert [dict(p.values)["variant"] for p in found.points] == ["as it is"] * 6 + ["other"] * 6
    assert [(p.parameters["label"], p.parameters["deep"]) for p in found.points][5:7] == [
        ("<script>alert(1)</script> $x", {"factor": 2.0}),
        ("b", {"more": 1, "factor": 0.5}),
    ]
    plain = parsed(experiment_text(tmp_path / "log"))
    assert [p.parameters for p in found.points[:6]] == [p.parameters for p in plain.points]
    runs = found.runs(5)
    assert [run.seed for run in runs[:12]] == [run.seed for run in runs[12:]] == [run.seed for run in plain.runs(5)]
    assert len({run.id for run in runs}) == len(runs) == 24


def test_mistakes_in_variants(tmp_path: Path) -> None:
    text = experiment_text(tmp_path / "log") + "[variants]\nodd = 3\nwrong = { label = 4 }\n"
    assert "e.toml: variants.odd must be a table of parameters, not 3" in mistakes(text)
    text = experiment_text(tmp_path / "log") + "[variants]\nright = {}\nwrong = { strange = 4 }\n"
    assert "(at variant = wrong, value = 1" in mistakes(text)[0]
    text = text.replace("deep.factor = [", "variant = [").replace("wrong = { strange = 4 }", "")
    assert mistakes(text)[0] == "e.toml: sweep.variant is the name of the table of variants"


def test_a_scale_overrides(tmp_path: Path) -> None:
    text = experiment_text(tmp_path / "log")
    small = parsed(text, "small")
    assert [dict(point.values) for point in small.points] == [{"value": 1, "deep.factor": f} for f in (0.5, 2.0)]
    assert (small.repeats, small.parameters["label"], small.scale) == (1, "small", "small")
    assert small.points[0].parameters["log"] == str(tmp_path / "log")
    assert parsed(text).parameters["label"] != "small"
    assert scales(tomllib.loads(text)) == ["full", "small"]


def test_seeds_and_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = experiment_text(tmp_path / "log")
    runs = parsed(text).runs(5)
    assert parsed(text).runs(5) == runs
    assert len({run.seed for run in runs}) == len({run.id for run in runs}) == len(runs)
    assert all(0 <= run.seed < 2**48 for run in runs)
    # Known values: a change here makes all results of the past irreproducible.
    assert [run.seed for run in runs[:2]] == [22424510014574, 215280373427212]

    def ids(experiment: Experiment, seed: int = 5) -> list[str]:
        return [run.id for run in experiment.runs(seed)]

    assert not set(ids(parsed(text), 6)) & set(ids(parsed(text)))
    assert not set(ids(parsed(text.replace('label = "<', 'label = "<<')))) & set(ids(parsed(text)))
    more_plots = text + '\n[[plot]]\ntitle = "Another"\nx = "step"\ny = "found"\n'
    assert ids(parsed(more_plots)) == ids(parsed(text))
    before = ids(parsed(text))
    monkeypatch.setattr(module, "package_version", lambda: "another")
    assert not set(ids(parsed(text))) & set(before)


WRONG = """
extra = 1

[experiment]
name = "a/b"
kind = "tryal"
abuot = "x"
repeats = 0

[parameters]
when = 2024-01-01

[sweep]
empty = []
twice = [1, 1]
plain = 3
a = [1]
a.b = [1]
"""


def test_all_mistakes_at_once() -> None:
    text = WRONG.replace("a = [1]\na.b = [1]", 'a = [1]\n"a.b" = [1]') + (
        '\n[scale.full]\n\n[scale.tiny]\nrepeats = "x"\nrepeat = 1\n'
        '\n[[plot]]\ntitle = 3\nkind = "pie"\nerror = ["a", "b"]\n'
        '\n[[table]]\nshow = [1]\nwhere = 2\n\n[[text]]\n\n[[text]]\nfound = "{median x}"\n'
    )
    found = mistakes(text)
    expected = [
        "e.toml has no key 'extra'; its keys: experiment, plot, table, text, parameters, variants, sweep, scale",
        "e.toml: experiment.name must be of letters, digits, - and _, not 'a/b'",
        f"e.toml: experiment.kind is 'tryal': one of {', '.join(sorted(KINDS))}",
        "e.toml: experiment has no key 'abuot'; its keys: name, about, kind, repeats",
        "e.toml: experiment.repeats must be at least 1 and at most 100000, not 0",
        "e.toml: parameters.when is a date; write dates and times as text",
        "e.toml: sweep.empty must be a list of values, not []",
        "e.toml: sweep.twice holds a value twice",
        "e.toml: sweep.plain must be a list of values, not 3",
        "e.toml: sweep.a.b lies inside a, which the sweep sets too",
        "e.toml: scale.full: full is what the file says without a scale",
        "e.toml: scale.tiny.repeats must be a whole number, not 'x'",
        "e.toml: scale.tiny has no key 'repeat'; its keys: parameters, sweep, repeats",
        "e.toml: plot[1].title must be a text, not 3",
        "e.toml: plot[1].kind is 'pie': one of line, points, bars",
        "e.toml: plot[1] needs x",
        "e.toml: plot[1] needs y",
        "e.toml: plot[1].error must name as many columns as y: 0, not 2",
        "e.toml: table[1] needs title",
        "e.toml: table[1].show must be the name of a column, or a list of names, not [1]",
        "e.toml: table[1].where must be a table of columns and the values that they must have",
        "e.toml: text[1] needs claim, found, differs or text",
        "e.toml: text[2].found: {median x} is none of the placeholders, such as {mean accuracy where peers = 10}",
    ]
    assert sorted(found) == sorted(expected)


def test_mistakes_of_points_tell_which(tmp_path: Path) -> None:
    text = experiment_text(tmp_path / "log", values=(1, 2)).replace("[1, 2]", '[1, "x"]')
    text = text.replace("sweep = { value = [1] }", "sweep = { deep = { factor = [0.5] } }\nextra = 1")
    assert mistakes(text) == ["e.toml: scale.small has no key 'extra'; its keys: parameters, sweep, repeats"]
    assert mistakes(text.replace("\nextra = 1", "")) == [
        "e.toml: parameters.value must be a whole number, not 'x' (at value = x, deep.factor = 0.5)"
    ]
    everywhere = text.replace("\nextra = 1", "").replace("[parameters]", "[parameters]\nodd = 1")
    assert mistakes(everywhere)[0] == "e.toml: parameters has no key odd"


def test_a_sweep_cannot_look_into_what_is_no_table(tmp_path: Path) -> None:
    text = experiment_text(tmp_path / "log", more="deep = 3")
    assert mistakes(text) == ["e.toml: parameters.deep is 3, so the sweep cannot set factor in it"]


def test_too_much(tmp_path: Path) -> None:
    text = experiment_text(tmp_path, values=range(60_000))
    assert mistakes(text) == ["e.toml: there are 120000 points, more than 100000"]
    text = experiment_text(tmp_path, repeats=100_000, values=range(6))
    assert mistakes(text) == ["e.toml: 12 points, each 100000 times, are more than 1000000 runs"]


def test_an_unknown_scale(tmp_path: Path) -> None:
    assert mistakes(experiment_text(tmp_path / "log"), "huge") == [
        "e.toml: has no scale 'huge'; its scales: full, small"
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[a\n", "e.toml: is not valid TOML: Expected ']'"),
        (b"a = " + b"9" * 5000, "e.toml: is not valid TOML: a number in it has thousands of digits"),
        (b"\xff\xfe", "e.toml: is not UTF-8 text: byte 0 is wrong"),
        (None, "cannot read the file {path}: no such file or directory"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "e.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    (found,) = caught.value.problems
    assert sentence.format(path=path) in found


TRACE = """
[experiment]
name = "t"
kind = "availability"
[parameters]
peers = 2
hours = 2
churn = { kind = "trace", files = ["day.csv"] }
"""


def test_files_that_parameters_name_are_read_once_and_belong_to_the_run(tmp_path: Path) -> None:
    place, day = tmp_path / "e.toml", tmp_path / "day.csv"
    assert mistakes(TRACE, place=place) == [f"cannot read the file {day}: no such file or directory"]
    day.write_text("peer,online_from,online_to\na,0,3600\nb,1800,7200\n")
    found = parsed(TRACE, place=place)
    assert found.kind.run(found.points[0].parameters, 0) == [
        {"hour": 0, "online": 0.5, "begun": 0.0},
        {"hour": 1, "online": 0.5, "begun": 0.5},
        {"hour": 2, "online": 0.0, "begun": 0.0},
    ]
    assert "texts" not in found.parameters
    before = found.runs(0)[0].id
    day.write_text("peer,online_from,online_to\na,0,3600\nb,1800,7000\n")
    assert parsed(TRACE, place=place).runs(0)[0].id != before
    day.write_text("peer,online_from,online_to\na,0,3600\n")
    assert mistakes(TRACE, place=place) == [
        f"{place}: parameters.peers is 2, but the trace of {place}: parameters.churn has 1"
    ]


@pytest.mark.parametrize("scale", ["small", "full"])
def test_what_the_package_brings_is_right_at_both_scales(scale: str) -> None:
    assert [experiment.scale for experiment in evaluation(scale)]
    assert {experiment.scale for experiment in evaluation(scale)} == {scale}


def test_the_example_of_the_readme_is_right() -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text()
    at = text.index("    [experiment]\n")
    lines = text[at : text.index("    pip install '.[plot,data]'", at)].splitlines()
    found = parsed("\n".join(line.removeprefix("    ") for line in lines))
    assert (found.name, len(found.points), len(found.outline.plots), len(found.outline.tables)) == ("phones", 4, 1, 1)


def test_kinds_are_kinds() -> None:
    kinds: list[tuple[str, Kind]] = list(KINDS.items())
    assert all(kind.name == name for name, kind in kinds)
    assert isinstance(KINDS["availability"], ReadsFiles)


def test_availability_of_constant_failures() -> None:
    kind: Any = KINDS["availability"]
    churn = {"kind": "sessions", "on_s": {"kind": "exponential", "mean": 3600}, "off_s": 10_800}
    parameters = {"peers": 2000, "hours": 3, "churn": churn}
    assert kind.check(parameters, "p") == []
    rows = kind.run(parameters, 3)
    # In equilibrium a quarter is online: 2000 draws lie within five standard deviations.
    assert all(abs(row["online"] - 0.25) < 5 * (0.25 * 0.75 / 2000) ** 0.5 for row in rows)
    assert kind.run(parameters, 3) == rows != kind.run(parameters, 4)
