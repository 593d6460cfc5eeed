"""A network's directory."""

import stat
from pathlib import Path

import pytest

from peer.authority import create_network, load_network
from protocol.base.entropy import SeededEntropy
from protocol.base.errors import ConfigurationError


def test_a_network_is_kept(tmp_path: Path) -> None:
    made = create_network(tmp_path / "net", 'the "home" net', SeededEntropy(1))
    found = load_network(tmp_path / "net")
    assert (found.name, found.id) == ('the "home" net', made.id)
    assert found.authority.key.seed == made.authority.key.seed
    assert stat.S_IMODE((tmp_path / "net" / "authority.key").stat().st_mode) == 0o600
    assert made.authority.key.seed.hex() not in repr(made)


def test_a_network_is_never_overwritten(tmp_path: Path) -> None:
    made = create_network(tmp_path / "net", "one", SeededEntropy(1))
    with pytest.raises(ConfigurationError, match="never overwrites"):
        create_network(tmp_path / "net", "two", SeededEntropy(2))
    assert load_network(tmp_path / "net").id == made.id


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb"])
def test_names_are_for_people(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="name must have"):
        create_network(tmp_path / "net", name, SeededEntropy(1))


def test_damage_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no network; make one with"):
        load_network(tmp_path)
    create_network(tmp_path / "a", "a", SeededEntropy(1))
    create_network(tmp_path / "b", "b", SeededEntropy(2))
    (tmp_path / "a" / "network.toml").write_bytes((tmp_path / "b" / "network.toml").read_bytes())
    with pytest.raises(ConfigurationError, match="of two different networks"):
        load_network(tmp_path / "a")
    for rubbish in (b"\xff", b"name = "):
        (tmp_path / "a" / "network.toml").write_bytes(rubbish)
        with pytest.raises(ConfigurationError, match="is damaged"):
            load_network(tmp_path / "a")
    (tmp_path / "b" / "authority.key").write_text("short")
    with pytest.raises(ConfigurationError, match="authority key .* is damaged"):
        load_network(tmp_path / "b")
