"""``susurrus network``: make, hand out tokens, show."""

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from peer.cli import app
from protocol.identity.admission import decode_token


def invoke(*args: object) -> Result:
    return CliRunner().invoke(app, ["network", *(str(arg) for arg in args)])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    assert invoke("create", tmp_path / "net").exit_code == 0
    return tmp_path / "net"


def test_create_and_show(tmp_path: Path) -> None:
    made = invoke("create", tmp_path / "net", "--name", "ours", "--json")
    document = json.loads(made.stdout)
    assert document == {"network": document["network"], "name": "ours", "directory": str(tmp_path / "net")}
    shown = json.loads(invoke("show", tmp_path / "net", "--json").stdout)
    assert shown["network"] == document["network"]
    assert document["network"] in invoke("show", tmp_path / "net").stdout
    again = invoke("create", tmp_path / "net")
    assert again.exit_code == 2
    assert "never overwrites" in again.stderr


def test_the_id_alone_is_on_standard_output(tmp_path: Path) -> None:
    made = invoke("create", tmp_path / "net")
    assert len(made.stdout) == 33
    assert "susurrus network token" in made.stderr


def test_a_token_can_be_piped(directory: Path) -> None:
    made = invoke("token", directory, "--seed", "a.example:7390", "--seed", "b.example:1", "--label", "phones")
    token = decode_token(made.stdout.strip())
    assert token.seeds == ("a.example:7390", "b.example:1")
    assert token.label == "phones"
    assert token.expires == pytest.approx(time.time() + 90 * 86400, abs=60)
    assert token.encode() not in made.stderr


def test_tokens_as_json(directory: Path) -> None:
    document = json.loads(invoke("token", directory, "--valid-days", "0.5", "--json").stdout)
    assert decode_token(document["token"]).network.hex() == document["network"]
    assert document["expires"] == pytest.approx(time.time() + 43200, abs=60)
    assert document["seeds"] == []


def test_what_no_token_can_have(directory: Path) -> None:
    result = invoke("token", directory, "--seed", "nowhere", "--label", "")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("susurrus: ") == 2
    assert invoke("token", directory, "--valid-days", "0").exit_code == 2
    for days in ("4000000", "inf"):
        result = invoke("token", directory, "--valid-days", days, "--json")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "end before the year 10000" in result.stderr


@pytest.mark.parametrize("seed", ["999.999.1.1:7390", "a..b:1", "[:::]:7390", "-a:1"])
def test_a_seed_that_no_peer_could_use(directory: Path, seed: str) -> None:
    result = invoke("token", directory, "--seed", "good.example:7390", "--seed", seed)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"susurrus: --seed: the address '{seed}' has no valid")
    assert len(result.stderr.splitlines()) == 1
