"""Networks from plain data: presets, what differs from them, and all mistakes at once."""

from dataclasses import replace

import pytest

from protocol.base.errors import ConfigurationError
from protocol.simulation.distributions import Constant, Exponential, Uniform
from protocol.simulation.network_model import (
    MEASURED_SETUP,
    PRESETS,
    Connections,
    NatClass,
    NatShares,
    NetworkModel,
    parse,
)


def test_a_preset_and_what_differs_from_it() -> None:
    assert parse({}, "n") == NetworkModel()
    for name, preset in PRESETS.items():
        assert parse(name, "n") == parse({"preset": name}, "n") == preset
    assert PRESETS["smartphones"].connections == MEASURED_SETUP
    found = parse(
        {
            "preset": "smartphones",
            "latency_s": 0.2,
            "jitter_s": {"kind": "exponential", "mean": 0.01},
            "loss": 0.5,
            "resend_s": 3,
            "up_bytes_per_s": {"kind": "uniform", "low": 1, "high": 2},
            "interleaved_bytes": 0,
            "connections": {"success": 0.9, "nat": {"open": 0.5, "cone": 0.5}},
        },
        "n",
    )
    phones = PRESETS["smartphones"]
    assert found == NetworkModel(
        latency_s=Constant(0.2),
        jitter_s=Exponential(0.01),
        loss=0.5,
        resend_s=3.0,
        up_bytes_per_s=Uniform(1.0, 2.0),
        down_bytes_per_s=phones.down_bytes_per_s,
        interleaved_bytes=0,
        silence_s=phones.silence_s,
        connections=Connections(success=0.9, nat=NatShares(0.5, 0.5, 0.0, 0.0)),
    )
    assert parse({"preset": "smartphones", "connections": "none"}, "n").connections is None
    assert parse({"preset": "wan", "resend_s": "never"}, "n").resend_s is None
    assert parse({"preset": "wan", "connections": "measured"}, "n").connections == MEASURED_SETUP
    sure = parse({"connections": {"preset": "measured", "success": 1.0}}, "n").connections
    assert sure == replace(MEASURED_SETUP, success=1.0)


def test_nat_classes_take_their_shares() -> None:
    shares = NatShares(0.1, 0.5, 0.3, 0.1)
    found = [shares.class_at((i + 0.5) / 1000) for i in range(1000)]
    assert [found.count(nat) for nat in NatClass] == [100, 500, 300, 100]


def test_all_mistakes_are_told() -> None:
    data = {
        "preset": "lann",
        "latency_s": {"kind": "lognormal", "median": 1},
        "loss": 1.5,
        "resend_s": -1,
        "duplication": -0.1,
        "up_bytes_per_s": 0,
        "interleaved_bytes": 1.5,
        "connections": {"sucess": 1, "nat": {"open": 0.5, "cone": 0.4, "full": 0.1}},
        "delay": 3,
    }
    with pytest.raises(ConfigurationError) as caught:
        parse(data, "network")
    assert caught.value.problems == [
        "network.preset is 'lann': one of ideal, lan, wan, smartphones",
        "network.latency_s needs sigma",
        "network.loss must be at least 0 and at most 1, not 1.5",
        "network.resend_s must be at least 0, not -1",
        "network.duplication must be at least 0 and at most 1, not -0.1",
        "network.up_bytes_per_s must not always be 0",
        "network.interleaved_bytes must be a whole number, not 1.5",
        "network.connections.nat has no key 'full'; its keys: open, cone, symmetric, blocked",
        "network.connections has no key 'sucess'; its keys: preset, setup_s, success, failure_s, nat",
        "network has no key 'delay'; its keys: preset, latency_s, jitter_s, loss, resend_s, duplication,"
        " up_bytes_per_s, down_bytes_per_s, interleaved_bytes, silence_s, connections",
    ]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (3, "n must be a table of keys and values, not 3"),
        ("fast", "n.preset is 'fast': one of ideal, lan, wan, smartphones"),
        ({"loss": 0.7, "duplication": 0.7}, "n: loss and duplication add up to more than 1"),
        ({"connections": "some"}, 'n.connections must be "none", "measured" or a table, not \'some\''),
        ({"connections": 3}, "n.connections must be a table of keys and values, not 3"),
        ({"connections": {"nat": {"open": 0.5}}}, "n.connections.nat: the shares add up to 0.5, not 1"),
    ],
)
def test_single_mistakes(data: object, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(data, "n")
    assert caught.value.problems == [sentence]
