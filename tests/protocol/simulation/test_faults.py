"""Faults as plain data: what they name, whom and when they befall, and all mistakes at once."""

import math
from itertools import islice

import pytest

from protocol.base.entropy import SeededEntropy
from protocol.base.errors import ConfigurationError
from protocol.simulation.faults import Crash, Cut, Moments, Partition, Restart, Skew, Slow, Target, parse


def test_plain_data_names_every_fault() -> None:
    data = [
        {"kind": "crash", "peer": 3, "at": 10},
        {"kind": "crash", "random": 2, "per_hour": 6, "from": 60},
        {"kind": "restart", "peers": [5, 1], "at": 20, "down_s": 2, "disk": False},
        {"kind": "restart", "random": 1, "per_hour": 60, "to": 90},
        {"kind": "slow", "peer": 0, "factor": 10},
        {"kind": "skew", "peer": 0, "offset_s": -120.5, "from": 5, "to": 6},
        {"kind": "cut", "random": 3, "from": 1, "to": 2},
        {"kind": "partition", "groups": [[0, 1], [2]], "from": 1, "to": 2},
        {"kind": "partition", "share": 0.25, "from": 2},
    ]
    assert parse(data, "f", 6) == (
        Crash(Moments(at=10.0), Target((3,))),
        Crash(Moments(per_hour=6.0, begin=60.0), Target(random=2)),
        Restart(Moments(at=20.0), Target((1, 5)), 2.0, disk=False),
        Restart(Moments(per_hour=60.0, end=90.0), Target(random=1), 0.0, disk=True),
        Slow(0.0, math.inf, Target((0,)), 10.0),
        Skew(5.0, 6.0, Target((0,)), -120.5),
        Cut(1.0, 2.0, Target(random=3)),
        Partition(1.0, 2.0, groups=((0, 1), (2,))),
        Partition(2.0, math.inf, share=0.25),
    )
    assert parse([], "f") == ()


def test_moments_at_a_rate() -> None:
    assert list(Moments(at=7.0).times(SeededEntropy(1))) == [7.0]
    moments = Moments(per_hour=36.0, begin=1000.0, end=400_000.0)
    times = list(moments.times(SeededEntropy(1)))
    assert times == list(moments.times(SeededEntropy(1)))
    assert times == sorted(times)
    assert 1000 < times[0] < times[-1] < 400_000
    assert abs(len(times) - 3990) < 6 * math.sqrt(3990)
    assert len(list(islice(Moments(per_hour=1.0).times(SeededEntropy(1)), 50))) == 50


def test_targets_and_groups() -> None:
    assert Target((1, 4, 9)).pick(6, SeededEntropy(1)) == [1, 4]
    picked = Target(random=10).pick(100, SeededEntropy(1))
    assert picked == sorted(set(picked)) == Target(random=10).pick(100, SeededEntropy(1))
    assert len(picked) == 10
    assert set(picked) < set(range(100))
    assert picked != Target(random=10).pick(100, SeededEntropy(2))
    assert Target(random=10).pick(4, SeededEntropy(1)) == [0, 1, 2, 3]
    assert Partition(0.0, 1.0, groups=((0, 7), (3,))).split(5, SeededEntropy(1)) == [[0], [3]]
    (part,) = Partition(0.0, 1.0, share=0.25).split(40, SeededEntropy(1))
    assert part == sorted(set(part))
    assert len(part) == 10


def test_all_mistakes_are_told() -> None:
    data = [
        {"kind": "crash", "peer": 9, "at": -1},
        {"kind": "crash"},
        {"kind": "explode"},
        "crash",
        {"kind": "restart", "peers": [1, 1], "random": 2, "at": 1, "per_hour": 1, "disk": "no"},
        {"kind": "crash", "peer": 1, "at": 5, "from": 3},
        {"kind": "slow", "peers": [1, -1], "factor": 0, "from": 5, "to": 5},
        {"kind": "skew", "random": 9, "offset_s": math.inf},
        {"kind": "partition", "groups": [[0, 1], [1, 2], 3]},
        {"kind": "partition", "share": 0.9, "groups": []},
        {"kind": "cut", "peers": [], "until": 5},
    ]
    with pytest.raises(ConfigurationError) as caught:
        parse(data, "faults", 5)
    assert caught.value.problems == [
        "faults[1].at must be at least 0, not -1",
        "faults[1].peer: there is no peer 9 among 5",
        "faults[2] needs either at or per_hour",
        "faults[2] needs one of peer, peers and random",
        "faults[3].kind is 'explode': one of crash, restart, slow, skew, cut, partition",
        "faults[4] must be a table of keys and values, not 'crash'",
        "faults[5] needs either at or per_hour",
        "faults[5] needs one of peer, peers and random",
        "faults[5].disk must be true or false, not 'no'",
        "faults[6] has no key 'from'; its keys: kind, at, per_hour, peer, peers, random",
        "faults[7] ends at 5, not after it begins at 5",
        "faults[7].peers: a peer is a whole number from 0, not -1",
        "faults[7].factor must be more than 0, not 0",
        "faults[8].random must be at least 1 and at most 5, not 9",
        "faults[8].offset_s must be a number, not inf",
        "faults[9].groups[3] must be a list of 1 to 1000000 peers",
        "faults[9].groups: peer 1 is in groups 1 and 2",
        "faults[10].share must be more than 0 and at most 0.5, not 0.9",
        "faults[10].groups must be a list of lists of peers",
        "faults[10] needs either groups or share",
        "faults[11].peers must be a list of 1 to 1000000 peers",
        "faults[11] has no key 'until'; its keys: kind, from, to, peer, peers, random",
    ]
    with pytest.raises(ConfigurationError) as caught:
        parse({"kind": "crash"}, "faults")
    assert caught.value.problems == ["faults must be a list of at most 100000 tables"]


def test_one_partition_at_a_time() -> None:
    def partition(begin: float, end: float) -> dict[str, object]:
        return {"kind": "partition", "share": 0.5, "from": begin, "to": end}

    assert len(parse([partition(5, 9), partition(0, 5)], "f")) == 2
    with pytest.raises(ConfigurationError) as caught:
        parse([partition(4, 9), {"kind": "crash", "peer": 0, "at": 1}, partition(0, 5)], "f")
    assert caught.value.problems == ["f[3] and f[1] are partitions at the same time"]
