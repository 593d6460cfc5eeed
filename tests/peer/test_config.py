"""Configuration: precedence, and every mistake at once with where it stands and what would be right."""

from pathlib import Path
from typing import Any

import pytest

from peer.config import Config, DataBinding, Limits, Power, check_flags, load_config, parse_config
from peer.config_schema import SECTIONS, VARIABLES
from protocol.base.errors import ConfigurationError
from protocol.base.settings import LAN, WAN


def load(
    tmp_path: Path, text: str = "", env: dict[str, str] | None = None, flags: dict[str, Any] | None = None
) -> Config:
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    return load_config(tmp_path, env or {}, flags)


def problems(tmp_path: Path, text: str = "", env: dict[str, str] | None = None, flags: Any = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text, env, flags)
    return [problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems]


def test_defaults(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config == Config(home=tmp_path)
    assert config.listen_address == ("0.0.0.0", 7390)
    assert config.settings == LAN
    assert config.limits == Limits(2, 3, ("any",), 0)


def test_every_section(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        [peer]
        listen = "[::1]:0"
        advertise = ["peer.example:7390", "10.0.0.7:0"]
        seeds = ["seed.example:7390"]
        preset = "wan"
        kem = "hybrid"
        [data.digits]
        path = "shard.csv"
        target = "digit"
        features = ["a", "b"]
        [data."my data"]
        path = "/abs/x.npz"
        format = "npz"
        [models]
        mine = "package.module:Class"
        [limits]
        collusion_threshold = 4
        minimum_cohort = 6
        submitters = ["00112233445566778899AABBCCDDEEFF"]
        rounds_per_hour = 60
        [log]
        level = "debug"
        format = "json"
        [timing]
        gossip_period_s = 2
        indirect_probes = 5
        """.replace('."my data"', ".my-data"),
    )
    assert config.listen_address == ("::1", 0)
    assert config.advertise == ("peer.example:7390", "10.0.0.7:0")
    assert config.data == {
        "digits": DataBinding("digits", tmp_path / "shard.csv", "auto", "digit", ("a", "b")),
        "my-data": DataBinding("my-data", Path("/abs/x.npz"), "npz"),
    }
    assert config.models == {"mine": "package.module:Class"}
    assert config.limits == Limits(4, 6, ("00112233445566778899aabbccddeeff",), 60)
    assert (config.log.level, config.log.format) == ("debug", "json")
    assert config.settings.gossip_period_s == 2.0
    assert isinstance(config.settings.gossip_period_s, float)
    assert config.settings.indirect_probes == 5
    assert config.settings.round_budget_s == WAN.round_budget_s


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    text = '[peer]\nlisten = "a:1"\npreset = "wan"\nkem = "hybrid"\n[log]\nlevel = "error"\n'
    env = {"SUSURRUS_LISTEN": "b:2", "SUSURRUS_PRESET": "local", "SUSURRUS_TIMING_GOSSIP_PERIOD_S": "0.5"}
    env |= {"SUSURRUS_SEEDS": "x:1, y:2", "SUSURRUS_LIMITS_COLLUSION_THRESHOLD": "5", "SUSURRUS_KEM": ""}
    config = load(tmp_path, text, env, {"peer.listen": "c:3", "peer.seeds": [], "log.level": None})
    assert (config.listen, config.preset, config.kem, config.log.level) == ("c:3", "local", "hybrid", "error")
    assert (config.seeds, config.limits.collusion_threshold) == (("x:1", "y:2"), 5)
    assert config.settings.gossip_period_s == 0.5


def test_data_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = '[data.My-Digits]\npath = "old.csv"\n'
    env = {"SUSURRUS_DATA_MY_DIGITS_PATH": "new.csv", "SUSURRUS_DATA_SPAM_PATH": "/data/spam.csv"}
    env["SUSURRUS_DATA_SPAM_FEATURES"] = "a,b"
    config = load(tmp_path, text, env)
    assert config.data["My-Digits"].path == tmp_path / "new.csv"
    assert config.data["spam"] == DataBinding("spam", Path("/data/spam.csv"), "auto", None, ("a", "b"))
    assert problems(tmp_path, "", {"SUSURRUS_DATA_SPAM_TARGET": "y"}) == [
        "SUSURRUS_DATA_SPAM_PATH: say where the records of 'spam' are"
    ]


def test_all_mistakes_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    text = """# comment
[peer]
listn = "0.0.0.0:1"
kem = "rsa"
seeds = ["nowhere"]

[limits]
collusion_threshold = 1
minimum_cohort = true

[data.digits]
pth = "x.csv"

[timing]
round_budget_s = -1
gosip_period_s = 2
root_pause_s = 0
[peers]
x = 1
[models]
softmax = "a:B"
mine = "a.B"
"""
    found = problems(tmp_path, text, {"SUSURRUS_PRESETT": "lan"}, {"peer.listen": "x"})
    assert found == [
        "config.toml:3: there is no key peer.listn; did you mean peer.listen?",
        "config.toml:4: peer.kem must be one of x25519, hybrid, not 'rsa'",
        "config.toml:5: peer.seeds must be host:port; the address 'nowhere' has no port; write host:port",
        "config.toml:8: limits.collusion_threshold must be a whole number from 2 to 16, not 1",
        "config.toml:9: limits.minimum_cohort must be a whole number from 3 to 1000000, not true",
        "config.toml:12: there is no key data.digits.pth; did you mean data.digits.path?",
        'config.toml:11: data.digits has no path; say which file: path = "FILE"',
        "config.toml:15: timing.round_budget_s must be a number above 0, not -1",
        "config.toml:16: there is no key timing.gosip_period_s; did you mean timing.gossip_period_s?",
        "config.toml:18: there is no section or key 'peers'; did you mean peer?",
        "config.toml:21: models.softmax is built in; choose another name for a class of your own",
        "config.toml:22: models.mine must be a class as module:Class, not 'a.B'",
        "SUSURRUS_PRESETT: there is no such variable; did you mean SUSURRUS_PRESET?",
        "--listen: peer.listen must be host:port; the address 'x' has no port; write host:port",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[peer\n", "config.toml: is not valid TOML: "),
        ("x = " + "9" * 5000, "config.toml: is not valid TOML: a number in it has thousands of digits"),
        ("[timing]\ngossip_period_s = 1" + "0" * 400, "config.toml:2: timing.gossip_period_s must be a number above 0"),
        ("[timing]\nindirect_probes = 1" + "0" * 400, "config.toml:2: timing.indirect_probes must be a whole number"),
        ("listen = 'a:1'\n", "config.toml:1: there is no section or key 'listen'; did you mean peer.listen?"),
        ("peer = 3\n", "config.toml:1: peer must be a section: [peer]"),
        ("[peer]\nlisten = 7390\n", "config.toml:2: peer.listen must be an address host:port in quotes, not 7390"),
        (
            "[peer]\nadvertise = ['*:1']\n",
            "config.toml:2: peer.advertise must be an address that others can use, not '*:1'",
        ),
        ("[peer]\nseeds = 'a:1'\n", 'config.toml:2: peer.seeds must be a list such as ["a", "b"], not \'a:1\''),
        ("[peer]\nseeds = ['a:1', 'a:1']\n", "config.toml:2: peer.seeds must be a list without repetitions"),
        ("[data]\ndigits = 'x'\n", 'config.toml:2: data.digits must be a section: [data.digits] with path = "FILE"'),
        (
            "data.digits.format = 'xls'\n",
            "config.toml:1: data.digits.format must be one of auto, csv, npz, libsvm, not 'xls'",
        ),
        ("[data.'a/b']\npath = 'x'\n", "config.toml:1: the schema name 'a/b' must be made of letters"),
        (
            "[limits]\nsubmitters = ['bob']\n",
            'config.toml:2: limits.submitters must be ["any"] or a list of peer ids (32',
        ),
        (
            "[timing]\nlink_bytes_per_s = nan\n",
            "config.toml:2: timing.link_bytes_per_s must be a number above 0, not nan",
        ),
        ("[timing]\nretry_pause_s = 0\n", "config.toml:2: timing.retry_pause_s must be a number above 0, not 0"),
        ("[timing]\nindirect_probes = 2.5\n", "config.toml:2: timing.indirect_probes must be a whole number from 1"),
        ("[log]\nlevel = 'loud'\n", "config.toml:2: log.level must be one of debug, info, warning, error, not 'loud'"),
    ],
)
def test_each_mistake_says_what_would_be_right(tmp_path: Path, text: str, problem: str) -> None:
    assert problems(tmp_path, text)[0].startswith(problem)


def test_numbers_in_the_environment_that_are_none(tmp_path: Path) -> None:
    assert problems(tmp_path, "", {"SUSURRUS_LIMITS_MINIMUM_COHORT": "many"}) == [
        "SUSURRUS_LIMITS_MINIMUM_COHORT: limits.minimum_cohort must be a whole number from 3 to 1000000, not 'many'"
    ]


@pytest.mark.parametrize(
    "name",
    ["SUSURRUS_SERVICE_HOST", "SUSURRUS_PORT", "SUSURRUS_SEED_PORT_7390_TCP_ADDR", "SUSURRUS_SEED_SERVICE_PORT_PEER"],
)
def test_what_an_orchestrator_adds_to_the_environment_is_left_alone(tmp_path: Path, name: str) -> None:
    load(tmp_path, "", {name: "tcp://10.0.0.1:7390"})
    assert name not in VARIABLES


def test_no_variable_of_ours_looks_like_an_orchestrators() -> None:
    from peer.config import _ORCHESTRATOR_VARIABLE

    assert [name for name in VARIABLES if _ORCHESTRATOR_VARIABLE.fullmatch(name)] == []
    assert len(VARIABLES) == sum(len(keys) for keys in SECTIONS.values())


def test_the_variables_of_commands_are_known(tmp_path: Path) -> None:
    names = ("SUSURRUS_HOME", "SUSURRUS_DEBUG", "SUSURRUS_TOKEN", "SUSURRUS_TOKEN_FILE", "SUSURRUS_LIFELINE")
    load(tmp_path, "", dict.fromkeys(names, "x") | {"PATH": "/bin"})


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read .*config.toml: no such file or directory"):
        load_config(tmp_path, {})
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="is not UTF-8 text"):
        load_config(tmp_path, {})


def test_flags_and_texts_alone(tmp_path: Path) -> None:
    check_flags({"peer.listen": "a:1", "peer.seeds": None})
    with pytest.raises(ConfigurationError, match="--seed: peer.seeds must be host:port"):
        check_flags({"peer.seeds": ["b"]})
    assert parse_config(tmp_path, "[peer]\npreset = 'wan'\n").settings == WAN
    with pytest.raises(ConfigurationError, match=r"config\.toml:1"):
        parse_config(tmp_path, "[pear]\n")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    assert load(tmp_path, '\ufeff[log]\nlevel = "error"\n').log.level == "error"


def test_mistakes_name_the_flag_that_was_typed(tmp_path: Path) -> None:
    found = problems(tmp_path, flags={"peer.seeds": ["x"], "log.level": "loud", "log.format": "xml"})
    assert [problem.partition(":")[0] for problem in found] == ["--seed", "--log-level", "--log-format"]


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    text = '[data.digits]\npath = "mine.csv"\n'
    config = load(tmp_path, text, {"SUSURRUS_DATA_DIGITS_PATH": "", "SUSURRUS_LOG_LEVEL": ""})
    assert config.data["digits"].path == tmp_path / "mine.csv"
    assert load(tmp_path, "", {"SUSURRUS_DATA_DIGITS_PATH": ""}).data == {}


def test_submitters_as_one_text(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, '[limits]\nsubmitters = "any"\n')
    assert 'must be ["any"] or a list of peer ids' in found


def test_power_is_off_by_default_and_every_key_counts(tmp_path: Path) -> None:
    power = load(tmp_path).power
    assert power == Power()
    assert not power.restricted
    asks = {"charging": True, "battery_above": 20, "unmetered": True, "hours": "22-06", "temperature_below": 40}
    for key, value in asks.items():
        text = f"[power]\n{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}\n"
        power = load(tmp_path, text).power
        assert (getattr(power, key), power.restricted) == (value, True)
        assert power.asks_power is (key in ("charging", "battery_above", "temperature_below"))
    env = {f"SUSURRUS_POWER_{key.upper()}": str(value) for key, value in asks.items()}
    env |= {"SUSURRUS_POWER_POLL_S": "7", "SUSURRUS_POWER_SENSOR": "linux"}
    assert load(tmp_path, env=env).power == Power(True, 20.0, True, "22-06", 40.0, 7.0, "linux")
    off = {"SUSURRUS_POWER_CHARGING": "false", "SUSURRUS_POWER_UNMETERED": "0", "SUSURRUS_POWER_HOURS": ""}
    assert load(tmp_path, "[power]\ncharging = true\n", off).power == Power()


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("charging", "1", "true or false, not 1"),
        ("charging", '"yes"', "true or false, not 'yes'"),
        ("battery_above", "100", "a number from 0 to 99, not 100"),
        ("battery_above", "true", "a number from 0 to 99, not true"),
        ("temperature_below", "-1", "a number from 0 to 100, not -1"),
        ("temperature_below", "nan", "a number from 0 to 100, not nan"),
        ("poll_s", "0", "a number from 1 to 3600, not 0"),
        ("poll_s", "inf", "a number from 1 to 3600, not inf"),
        ("sensor", '"battery"', "one of auto, termux, linux, none, not 'battery'"),
        *(
            ("hours", f'"{hours}"', f'hours of the day such as "22-06" or "22:30-06:15", not \'{hours}\'')
            for hours in ("22", "22-22", "24-06", "22-25", "22:60-06", "22-06:99", "-1-5", "10pm-6am", "22-24:01")
        ),
        ("hours", "22", 'hours of the day such as "22-06" or "22:30-06:15", not 22'),
    ],
)
def test_mistakes_in_power(tmp_path: Path, key: str, value: str, right: str) -> None:
    assert problems(tmp_path, f"[power]\n{key} = {value}\n") == [f"config.toml:2: power.{key} must be {right}"]


def test_a_truth_value_in_the_environment(tmp_path: Path) -> None:
    name = "SUSURRUS_POWER_CHARGING"
    assert problems(tmp_path, env={name: "maybe"}) == [f"{name}: power.charging must be true or false, not 'maybe'"]
