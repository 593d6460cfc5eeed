"""``susurrus init``: a home, whole or not at all; membership; renewal."""

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from peer.authority import create_network
from peer.cli import app
from peer.commands.init import config_text
from peer.config import DataBinding, parse_config
from peer.home import create_home, open_home
from protocol.base.entropy import SeededEntropy
from protocol.identity import admission
from protocol.identity.admission import issue_token, verify_chain
from protocol.identity.fields import MAX_TIME


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def a_token(tmp_path: Path, network: str = "net", *, days: float = 90.0, ago_s: float = 0.0) -> str:
    made = create_network(tmp_path / network / str(time.monotonic_ns()), network, SeededEntropy(network))
    start = time.time() - ago_s
    return issue_token(made.authority, start, days * 86400, ("seed.example:7390",), SeededEntropy(str(start))).encode()


def invoke(*args: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["init", *(str(arg) for arg in args)], input=stdin)


def test_a_home_with_everything(tmp_path: Path, home: Path) -> None:
    (tmp_path / "shard.csv").write_text("a,digit\n1,2\n")
    (tmp_path / "token").write_text(a_token(tmp_path) + "\n")
    result = invoke(
        *("--home", home, "--token-file", tmp_path / "token", "--data", tmp_path / "shard.csv", "--schema", "digits"),
        *("--target", "digit", "--listen", "127.0.0.1:0", "--seed", "other.example:1", "--preset", "local", "--json"),
    )
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    config = parse_config(home, (home / "config.toml").read_text())
    assert config.data == {"digits": DataBinding("digits", tmp_path / "shard.csv", target="digit")}
    assert (config.listen, config.preset) == ("127.0.0.1:0", "local")
    assert config.seeds == ("other.example:1", "seed.example:7390")
    with open_home(home) as opened:
        chain, key = opened.chain, opened.signing_key
        assert chain is not None
        verify_chain(chain, chain.authority_key, key.public_bytes, time.time())
    assert document == {
        "home": str(home),
        "peer": key.peer_id.hex(),
        "network": chain.network.hex(),
        "expires": chain.expires,
        "config": str(home / "config.toml"),
    }


@pytest.mark.parametrize("how", ["flag", "stdin", "variable", "variable file", "flag over variable"])
def test_ways_to_give_a_token(tmp_path: Path, home: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    token = a_token(tmp_path)
    (tmp_path / "token").write_text(token)
    args: list[object] = []
    match how:
        case "flag":
            args = ["--token", token]
        case "stdin":
            args = ["--token-file", "-"]
        case "variable":
            monkeypatch.setenv("SUSURRUS_TOKEN", token)
        case "variable file":
            monkeypatch.setenv("SUSURRUS_TOKEN_FILE", str(tmp_path / "token"))
        case _:
            monkeypatch.setenv("SUSURRUS_TOKEN", "rubbish")
            args = ["--token", token]
    result = invoke("--home", home, *args, stdin=token + "\n" if how == "stdin" else None)
    assert result.exit_code == 0, result.stderr
    assert (home / "chain").exists()
    assert token not in result.output


def test_a_token_of_an_early_version_whose_seeds_are_no_addresses(tmp_path: Path, home: Path) -> None:
    authority = create_network(tmp_path / "net", "net", SeededEntropy(1)).authority
    seeds = ("999.999.1.1:7390", "good.example:7390", "a..b:1")
    token = issue_token(authority, time.time(), 86400, seeds, SeededEntropy(2)).encode()
    result = invoke("--home", home, "--token", token)
    assert result.exit_code == 2
    for line, seed in zip(result.stderr.splitlines(), (seeds[0], seeds[2]), strict=True):
        assert f"the join token names a seed that is no address (the address '{seed}' has no valid" in line
        assert line.endswith("; ask for another token")
    assert not home.exists()
    assert invoke("--home", home).exit_code == 0
    assert invoke("--home", home, "--renew", "--token", token).exit_code == 0  # which leaves seeds as they are


def test_a_token_of_an_early_version_that_outlives_all_calendars(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "LAST_EXPIRY", MAX_TIME)
    result = invoke("--home", home, "--token", a_token(tmp_path, days=4_000_000))
    assert (result.exit_code, "member until a date that no calendar has" in result.stdout) == (0, True)


def test_the_default_home(tmp_path: Path) -> None:
    assert invoke().exit_code == 0
    assert (tmp_path / "default-home" / "key").exists()


def test_a_home_is_never_overwritten(home: Path) -> None:
    invoke("--home", home)
    before = {entry.name: entry.read_bytes() for entry in home.iterdir()}
    result = invoke("--home", home)
    assert (result.exit_code, result.stderr) == (2, f"susurrus: {home} is a peer's home already; nothing was changed\n")
    assert {entry.name: entry.read_bytes() for entry in home.iterdir()} == before


@pytest.mark.parametrize(
    ("args", "sentences"),
    [
        (["--token", "rubbish"], ["token"]),
        (["--token", "a", "--token-file", "b"], ["either as --token or as --token-file"]),
        (["--token-file", "/nowhere/t"], ["cannot read the token file /nowhere/t: no such file or directory"]),
        (["--schema", "digits"], ["give that too"]),
        (["--data", "/nowhere/x.csv"], ["there is no file /nowhere/x.csv", "--data needs --schema NAME"]),
        (["--listen", "x", "--seed", "y", "--preset", "z"], ["--listen", "--seed", "--preset"]),
        (["--renew", "--listen", "a:1"], ["--renew changes the membership only"]),
        (["--renew"], ["is not a peer's home"]),
    ],
)
def test_mistakes_leave_nothing_behind(tmp_path: Path, home: Path, args: list[str], sentences: list[str]) -> None:
    result = invoke("--home", home, *args)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == len(sentences)
    for line, sentence in zip(lines, sentences, strict=True):
        assert sentence in line
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_not_utf8(tmp_path: Path, home: Path) -> None:
    data = tmp_path / "\udcff.csv"
    try:
        data.write_text("a,y\n1,2\n")
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    result = invoke("--home", home, "--data", data, "--schema", "x", "--target", "\udcfe")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"susurrus: {what} cannot be written to config.toml: it is not UTF-8; rename it"
        for what in (f"--data {tmp_path}/\\udcff.csv", "--target \\udcfe")
    ]
    assert not home.exists()


@pytest.mark.parametrize(
    ("schema", "target", "sentence"),
    [("a/b", "y", "--schema must be made of letters"), ("digits", "", "--target must be the name of a column")],
)
def test_names_that_cannot_be_configured(tmp_path: Path, home: Path, schema: str, target: str, sentence: str) -> None:
    (tmp_path / "x.csv").write_text("a,y\n1,2\n")
    result = invoke("--home", home, "--data", tmp_path / "x.csv", "--schema", schema, "--target", target)
    assert (result.exit_code, sentence in result.stderr) == (2, True)
    assert not home.exists()


def test_expired_and_early_tokens(tmp_path: Path, home: Path) -> None:
    expired = invoke("--home", home, "--token", a_token(tmp_path, days=1, ago_s=2 * 86400))
    assert (expired.exit_code, "expired on" in expired.stderr) == (2, True)
    early = invoke("--home", home, "--token", a_token(tmp_path, ago_s=-7200))
    assert (early.exit_code, "set the clock" in early.stderr) == (2, True)
    assert not home.exists()


def test_renewal_changes_the_chain_alone(tmp_path: Path, home: Path) -> None:
    invoke("--home", home, "--token", a_token(tmp_path, days=1))
    before = {name: (home / name).read_bytes() for name in ("key", "config.toml", "chain")}
    result = invoke("--home", home, "--renew", "--token", a_token(tmp_path, days=30))
    assert result.exit_code == 0, result.stderr
    assert (home / "chain").read_bytes() != before["chain"]
    assert {name: (home / name).read_bytes() for name in ("key", "config.toml")} == {
        k: before[k] for k in ("key", "config.toml")
    }
    with open_home(home) as opened:
        assert opened.chain is not None
        assert opened.chain.expires > time.time() + 29 * 86400


def test_renewal_with_a_token_that_ends_sooner_changes_nothing(tmp_path: Path, home: Path) -> None:
    invoke("--home", home, "--token", a_token(tmp_path, days=30))
    before = (home / "chain").read_bytes()
    result = invoke("--home", home, "--renew", "--token", a_token(tmp_path, days=1))
    assert result.exit_code == 0, result.stderr
    assert "nothing was changed" in result.output
    assert (home / "chain").read_bytes() == before


def test_renewal_mends_a_damaged_chain_but_changes_no_network(tmp_path: Path, home: Path) -> None:
    invoke("--home", home, "--token", a_token(tmp_path))
    held = (home / "chain").read_bytes()
    other = invoke("--home", home, "--renew", "--token", a_token(tmp_path, "another"))
    assert (other.exit_code, "make another home for it" in other.stderr) == (2, True)
    assert (home / "chain").read_bytes() == held
    assert "--renew needs a join token" in invoke("--home", home, "--renew").stderr
    (home / "chain").write_bytes(b"rubbish")
    assert invoke("--home", home, "--renew", "--token", a_token(tmp_path)).exit_code == 0


def test_a_home_without_a_network_can_join_later(tmp_path: Path) -> None:
    home = tmp_path / "h"
    create_home(home, seed=bytes(32), chain=None, config="")
    result = invoke("--home", home, "--renew", "--token", a_token(tmp_path))
    assert result.exit_code == 0
    assert (home / "chain").exists()


def test_every_commented_setting_is_right_and_the_default(tmp_path: Path) -> None:
    """Uncommenting a line of the written file changes nothing, and breaks nothing."""
    commented = config_text()
    plain = parse_config(tmp_path, commented)
    settings = [line for line in commented.splitlines() if line.startswith("# ") and " = " in line]
    assert len(settings) > 12
    for line in settings:
        if not line.startswith(("# mine", "# path", "# target", "# features", "# classes", "# format")):
            assert parse_config(tmp_path, commented.replace(line, line[2:])) == plain, line
    log = parse_config(
        tmp_path,
        "\n".join(line.removeprefix("# ") for line in commented.splitlines()[2:] if "=" in line or "[" in line),
    )
    assert log.data["digits"].path == tmp_path / "shard.csv"
    assert log.models == {"mine": "my_package.my_module:MyModel"}


def test_mistakes_in_all_flags_are_told_at_once(tmp_path: Path, home: Path) -> None:
    flags = ("--listen", "x", "--preset", "y", "--data", tmp_path / "none.csv", "--schema", "a b", "--target", " ")
    result = invoke("--home", home, *flags)
    assert result.exit_code == 2
    told = [line.removeprefix("susurrus: ").partition(" ")[0].rstrip(":") for line in result.stderr.splitlines()]
    assert told == ["--data", "--schema", "--target", "--listen", "--preset"]
    assert not home.exists()


def test_an_empty_token_file(tmp_path: Path, home: Path) -> None:
    (tmp_path / "token").write_text("\n")
    result = invoke("--home", home, "--token-file", tmp_path / "token")
    assert (result.exit_code, f"the token file {tmp_path / 'token'} is empty" in result.stderr) == (2, True)


def test_a_token_file_that_others_can_read_is_warned_of(tmp_path: Path, home: Path) -> None:
    file = tmp_path / "token"
    file.write_text(a_token(tmp_path))
    for mode, warned in ((0o600, False), (0o640, True), (0o604, True)):
        file.chmod(mode)
        result = invoke("--home", home / str(mode), "--token-file", file)
        assert (result.exit_code, "warning: others on this machine can read" in result.stderr) == (0, warned)
