"""Churn: every peer's life is in order, repeatable, its own; and models have the shares that they say."""

import math
from dataclasses import replace
from itertools import islice, pairwise, takewhile

import pytest

from protocol.base.errors import ConfigurationError
from protocol.simulation.churn import Always, Failures, Recorded, Renewal, files, parse
from protocol.simulation.distributions import Constant, Exponential, Lognormal, Uniform
from protocol.simulation.phones import Smartphones
from protocol.simulation.sessions import ChurnModel, Session, joined
from protocol.simulation.traces import Trace

HOUR, DAY = 3600.0, 86400.0
MODELS: list[ChurnModel] = [
    Always(),
    Failures(1, 2.0, Lognormal(60.0, 1.0)),
    Failures(1, 0.0, Constant(1.0)),
    Renewal(1, Exponential(1800.0), Lognormal(5000.0, 1.0)),
    Renewal(1, Constant(100.0), Constant(50.0)),
    Smartphones(1, start_hour=22, utc_spread_hours=6),
    Recorded(Trace(tuple("abcdef"), (((1.0, 2.0), (3.0, 4.0)), *[((0.0, 9.0),)] * 5))),
]


def until(model: ChurnModel, peer: int, end: float) -> list[Session]:
    """The sessions of a peer, cut off at ``end``."""
    return [(a, min(b, end)) for a, b in takewhile(lambda session: session[0] < end, model.sessions(peer))]


def online(sessions: list[Session]) -> float:
    return sum(b - a for a, b in sessions)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_sessions_are_in_order_apart_and_repeatable(model: ChurnModel) -> None:
    for peer in range(6):
        sessions = list(islice(model.sessions(peer), 200))
        assert sessions
        assert sessions == list(islice(model.sessions(peer), 200))
        assert all(0 <= a < b for a, b in sessions)
        assert all(end < begin for (_, end), (begin, _) in pairwise(sessions))


@pytest.mark.parametrize("kind", [Failures, Renewal, Smartphones])
def test_peers_and_seeds_give_different_lives(kind: type[ChurnModel]) -> None:
    def first(seed: int, peer: int) -> list[Session]:
        model: ChurnModel
        if kind is Failures:
            model = Failures(seed, 2.0, Uniform(10.0, 100.0))
        elif kind is Renewal:
            model = Renewal(seed, Exponential(1800.0), Exponential(3600.0))
        else:
            model = Smartphones(seed)
        return list(islice(model.sessions(peer), 5))

    lives = [first(seed, peer) for seed in (1, 2) for peer in range(3)]
    assert len({tuple(life) for life in lives}) == 6


def test_failures_come_at_their_rate() -> None:
    model = Failures(3, per_hour=0.5, down_s=Uniform(600.0, 1800.0))
    lives = [until(model, peer, 100 * HOUR) for peer in range(200)]
    assert all(life[0][0] == 0 for life in lives), "everybody starts online"
    up = sum(online(life) for life in lives) / HOUR
    failures = sum(len(life) - 1 for life in lives)
    assert abs(failures / up - 0.5) < 6 * math.sqrt(0.5 / up)
    downs = [b[0] - a[1] for life in lives for a, b in pairwise(life)]
    assert 600 <= min(downs) <= max(downs) <= 1800
    assert abs(sum(downs) / len(downs) - 1200) < 6 * 347 / math.sqrt(len(downs))


def test_no_failures_is_always() -> None:
    assert list(Failures(1, 0.0, Constant(1.0)).sessions(3)) == list(Always().sessions(3)) == [(0.0, math.inf)]


@pytest.mark.parametrize(
    ("on", "off"),
    [
        (Exponential(1800.0), Exponential(5400.0)),
        (Lognormal(1000.0, 1.2), Lognormal(4000.0, 0.5)),
        (Constant(1000.0), Uniform(0.0, 4000.0)),
    ],
)
def test_renewal_is_in_equilibrium_from_the_start(on: Lognormal, off: Lognormal) -> None:
    """The share online is the same at 0 as at any later instant, and first sessions are length-biased residuals."""
    model = Renewal(5, on, off)
    peers = 5000
    lives = [until(model, peer, 20_000.0) for peer in range(peers)]
    share = on.mean / (on.mean + off.mean)
    for instant in (0.0, 50.0, 500.0, 3000.0, 19_000.0):
        there = sum(any(a <= instant < b for a, b in life) for life in lives)
        assert abs(there / peers - share) < 6 * math.sqrt(share * (1 - share) / peers), instant
    # Sessions begin at the same rate right after the start as later.
    rate = peers / (on.mean + off.mean)
    for begin, end in ((0.0, 500.0), (15_000.0, 15_500.0)):
        births = sum(begin < a <= end for life in lives for a, _ in life)
        assert abs(births - 500 * rate) < 6 * math.sqrt(500 * rate)


# --- smartphones ----------------------------------------------------------------------------------------------------

PHONES = 3000


@pytest.fixture(scope="module")
def phone_days() -> list[list[Session]]:
    """Sessions of four days of many phones that live everywhere on earth."""
    model = Smartphones(7, utc_spread_hours=24)
    return [until(model, peer, 4 * DAY) for peer in range(PHONES)]


def test_phones_are_online_as_much_as_measured(phone_days: list[list[Session]]) -> None:
    mean = sum(map(online, phone_days)) / (PHONES * 4 * DAY)
    # One phone-day's share has a standard deviation of 0.155.
    assert abs(mean - 0.138) < 5 * 0.155 / math.sqrt(PHONES * 4)
    for instant in (0.0, 1.5 * DAY, 3.9 * DAY):
        there = sum(any(a <= instant < b for a, b in life) for life in phone_days) / PHONES
        assert abs(there - 0.138) < 5 * math.sqrt(0.138 * 0.862 / PHONES), instant


def test_a_days_share_has_the_measured_quantiles() -> None:
    """Days as the model cuts them, 12 hours to both sides of a night, without a spread of nights."""
    model = Smartphones(8, start_hour=14.5, night_spread_hours=0)
    shares = []
    for peer in range(PHONES):
        sessions = until(model, peer, 2 * DAY)
        for day in (0.0, DAY):
            shares.append(sum(max(0.0, min(b, day + DAY) - max(a, day)) for a, b in sessions) / DAY)
    shares.sort()
    n = len(shares)
    # Half a percent of the day: more than 5 standard errors of these quantiles at 6,000 days.
    assert abs(shares[n // 2] - 0.079) < 0.008
    assert abs(shares[n * 9 // 10] - 0.327) < 0.012
    assert abs(sum(shares) / n - 0.138) < 0.01


def test_sessions_last_half_an_hour_to_an_hour_with_measured_gaps(phone_days: list[list[Session]]) -> None:
    lengths = [b - a for life in phone_days for a, b in life]
    assert 30 * 60 < sum(lengths) / len(lengths) < 60 * 60
    gaps = [b[0] - a[1] for life in phone_days for a, b in pairwise(life)]
    assert sum(gap < 13 * 60 - 1e-3 for gap in gaps) < 0.01 * len(gaps), "only on days without room for gaps"


def test_a_day_has_room_for_so_many_gaps_only() -> None:
    """Sessions far shorter than usual: fewer and longer ones rather than gaps that would not have been counted."""
    usual = Smartphones(9, start_hour=14.5, night_spread_hours=0)
    short = replace(usual, session_s=Constant(60.0))
    for peer in range(300):
        life = until(short, peer, 3 * DAY)
        assert online(life) == pytest.approx(online(until(usual, peer, 3 * DAY))), "the same shares, cut differently"
        gaps = [b[0] - a[1] for a, b in pairwise(life)]
        assert sum(gap < 13 * 60 - 1e-3 for gap in gaps) <= 3, "days without room for one"
    assert max(len(until(short, peer, 3 * DAY)) for peer in range(300)) > 200


def test_phones_are_online_at_night_mostly_and_local_time_counts() -> None:
    def share(model: Smartphones, hour: float) -> float:
        instant = DAY + (hour - model.start_hour) * HOUR
        return sum(any(a <= instant < b for a, b in until(model, peer, 2 * DAY)) for peer in range(1500)) / 1500

    here = Smartphones(3, start_hour=20)
    assert share(here, 2.5) > 0.22
    assert share(here, 14.5) < 0.08
    there = Smartphones(3, start_hour=20, utc_offset_hours=6)
    assert share(there, 20.5) > 0.22
    assert share(there, 8.5) < 0.08
    everywhere = Smartphones(3, start_hour=20, utc_spread_hours=24)
    assert abs(share(everywhere, 2.5) - share(everywhere, 14.5)) < 5 * math.sqrt(2 * 0.138 * 0.862 / 1500)


def test_the_hour_at_which_the_world_starts_moves_the_same_lives() -> None:
    early, late = Smartphones(3, start_hour=18), Smartphones(3, start_hour=20)
    for peer in range(50):
        expected = list(joined((a - 2 * HOUR, b - 2 * HOUR) for a, b in until(early, peer, 5 * DAY)))
        found = until(late, peer, 5 * DAY - 2 * HOUR)
        assert [x for s in found for x in s] == pytest.approx([x for s in expected for x in s], abs=1e-3)


def test_joined_sessions() -> None:
    assert list(joined([(-5, -1), (-1, 3), (3, 4), (6, 7), (7.0005, 8), (9, 9), (10, 11)])) == [
        (0.0, 4),
        (6, 8),
        (10, 11),
    ]


# --- plain data -----------------------------------------------------------------------------------------------------


def test_plain_data_names_every_model() -> None:
    assert parse("always", "c", 1) == parse({"kind": "always"}, "c", 1) == Always()
    assert parse({"kind": "failures", "per_hour": 2, "down_s": 60}, "c", 4) == Failures(4, 2.0, Constant(60.0))
    on, off = {"kind": "exponential", "mean": 10}, {"kind": "lognormal", "median": 5, "sigma": 1}
    assert parse({"kind": "sessions", "on_s": on, "off_s": off}, "c", 4) == Renewal(
        4, Exponential(10.0), Lognormal(5.0, 1.0)
    )
    assert parse("smartphones", "c", 4) == Smartphones(4)
    assert parse({"kind": "smartphones", "start_hour": 22, "night_share": 0}, "c", 4) == Smartphones(
        4, start_hour=22.0, night_share=0.0
    )


def test_traces_are_named_by_their_files() -> None:
    data = {"kind": "trace", "files": ["t.csv"]}
    assert files(data) == ["t.csv"]
    assert files({"kind": "always"}) == files("always") == files({"kind": "trace", "files": 3}) == []
    model = parse(data, "c", 1, {"t.csv": "peer,online_from,online_to\na,1,2\na,3,4\nb,0,9\n"})
    assert model.population == 2
    assert list(model.sessions(0)) == [(1.0, 2.0), (3.0, 4.0)]
    with pytest.raises(IndexError):
        model.sessions(2)
    days = {"kind": "trace", "format": "stunner", "files": ["x", "y"]}
    model = parse(days, "c", 1, {"x": "1000;1\n2000;0\n", "y": "1500;1\n3000;-1\n"})
    assert [list(model.sessions(peer)) for peer in (0, 1)] == [[(0.0, 1.0)], [(0.5, 2.0)]]


@pytest.mark.parametrize(
    ("data", "sentences"),
    [
        (3, ["c must be a table of keys and values, not 3"]),
        ({}, ["c needs kind: one of always, failures, sessions, smartphones, trace"]),
        ("phones", ["c.kind is 'phones': one of always, failures, sessions, smartphones, trace"]),
        ({"kind": "always", "rate": 1}, ["c has no key 'rate'; its keys: kind"]),
        (
            {"kind": "failures", "per_hour": -1, "down": 3},
            [
                "c.per_hour must be at least 0 and at most 3600, not -1",
                "c needs down_s",
                "c has no key 'down'; its keys: kind, per_hour, down_s",
            ],
        ),
        (
            {"kind": "sessions", "on_s": 0, "off_s": {"kind": "exponential", "mean": 1e-9}},
            ["c.on_s must not always be 0", "c.off_s must last 0.001 s on average, not 1e-09"],
        ),
        (
            {"kind": "smartphones", "start_hour": 25, "utc_offset_hours": -15, "session_s": {"kind": "x"}},
            [
                "c.start_hour must be at least 0 and at most 24, not 25",
                "c.utc_offset_hours must be at least -14 and at most 14, not -15",
                "c.session_s.kind is 'x': one of constant, uniform, exponential, lognormal, weibull, histogram",
            ],
        ),
        ({"kind": "trace"}, ["c needs files: a list of names"]),
        (
            {"kind": "trace", "format": "xml", "files": ["a", "a"]},
            ["c.format is 'xml': one of csv, stunner", "c.files names a file twice"],
        ),
        ({"kind": "trace", "files": ["a", "b"]}, ["c.files must be one file, or for stunner at most 100000, not 2"]),
        ({"kind": "trace", "files": ["a"]}, ["c.files: the text of 'a' is not there"]),
        (
            {"kind": "trace", "files": ["t"], "loop": True},
            [
                "t line 2: online_to 1 is not after online_from 2",
                "c has no key 'loop'; its keys: kind, format, files",
            ],
        ),
    ],
)
def test_all_mistakes_are_told(data: object, sentences: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(data, "c", 1, {"t": "peer,online_from,online_to\na,2,1\n"})
    assert caught.value.problems == sentences
