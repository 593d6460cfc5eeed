"""A network's directory: the authority key that names the network and makes its join tokens.

    authority.key   the Ed25519 seed, 64 hexadecimal digits, readable by its user only: whoever has it can admit anybody
    network.toml    the network's name and id, for people; marks the directory as complete

Neighbours: ``commands.network`` alone.  Invariants: made whole or not at all, never overwritten; peers never need it.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from peer.files import create_directory, read_bytes
from peer.home import read_key
from peer.toml import quoted
from protocol.base.entropy import Entropy
from protocol.base.errors import ConfigurationError
from protocol.base.ids import text
from protocol.base.limits import MAX_NETWORK_FILE
from protocol.identity.admission import Authority
from protocol.identity.keys import SigningKey

KEY = "authority.key"
ABOUT = "network.toml"


@dataclass(frozen=True, slots=True)
class Network:
    """A network as its authority sees it."""

    directory: Path
    name: str
    authority: Authority

    @property
    def id(self) -> str:
        """The network's id, as people read it."""
        return text(self.authority.network)


def create_network(directory: Path, name: str, entropy: Entropy) -> Network:
    """Make a network called ``name`` in a new ``directory``.  Raises ``ConfigurationError`` if something is there."""
    if not 0 < len(name) <= 100 or not name.isprintable():
        raise ConfigurationError(["the network's name must have 1 to 100 printable characters"])
    network = Network(directory, name, Authority(SigningKey(entropy.token(32))))
    about = (
        "# A susurrus network.  Keep authority.key beside this file secret, and keep a copy of it.\n"
        f"name = {quoted(name)}\nnetwork = {quoted(network.id)}\n"
    )
    files = [
        (KEY, network.authority.key.seed.hex().encode() + b"\n", 0o600),
        (ABOUT, about.encode(), 0o644),
    ]
    create_directory(directory, files, "a network")
    return network


def load_network(directory: Path) -> Network:
    """The network kept in ``directory``.  Raises ``ConfigurationError`` when there is none, or it is damaged."""
    about = directory / ABOUT
    if not about.is_file():
        raise ConfigurationError([f"{directory} holds no network; make one with: susurrus network create {directory}"])
    authority = Authority(read_key(directory / KEY, "the network's authority key"))
    try:
        document = tomllib.loads(read_bytes(about, "the network's description", limit=MAX_NETWORK_FILE).decode())
    except ValueError as error:
        if isinstance(error, ConfigurationError):
            raise
        detail = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        raise ConfigurationError([f"{about} is damaged ({detail}); put back a copy of it"]) from error
    network = Network(directory, str(document.get("name", "")), authority)
    if document.get("network") != network.id:
        raise ConfigurationError(
            [f"{about} and {directory / KEY} are of two different networks; put back a copy of both"]
        )
    return network
