"""``susurrus init``: make this machine's peer home, or renew its membership.

Neighbours: ``peer.home`` writes it whole or not at all, ``peer.config`` reads what is written here.
Invariants: nothing is overwritten; ``--renew`` replaces the certificate chain and nothing else; the configuration
written is checked before anything is on disk.
"""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peer.commands.common import HomeOption, JsonOption, home_path, print_json, say, warn_if_readable
from peer.config import DataBinding, check_flags, parse_config
from peer.config_schema import schema_name
from peer.files import read_bytes
from peer.home import CONFIG, KEY, create_home, read_chain, read_key, require_home, write_chain
from peer.toml import key as toml_key
from peer.toml import listed, quoted
from peer.transport.addresses import address_problem
from protocol.base.errors import ConfigurationError
from protocol.base.printing import date

if TYPE_CHECKING:
    from protocol.identity.admission import Chain, JoinToken
    from protocol.identity.keys import SigningKey

MAX_TOKEN_FILE = 16 * 2**10


def init(
    home: HomeOption = None,
    token: Annotated[
        str | None, typer.Option(help="A join token (others can see it in the list of processes).", show_default=False)
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file with a join token; - for standard input.", show_default=False),
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="FILE", help="This peer's records.", show_default=False)] = None,
    schema: Annotated[
        str | None, typer.Option(metavar="NAME", help="What tasks call such records.", show_default=False)
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column to predict.", show_default=False)
    ] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where others reach this peer.", show_default="0.0.0.0:7390")
    ] = None,
    seed: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="A peer to ask first; may be repeated.", show_default=False),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Timing: local, lan, wan or phones.", show_default="lan")] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Use the token to renew the membership of an existing home.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make this machine's peer home: identity, membership, config.toml with comments."""
    path = home_path(home)
    joined = _read_token(token, token_file)
    done = "renewed" if renew else "made"
    if renew:
        if any(given is not None for given in (data, schema, target, listen, seed, preset)):
            raise ConfigurationError(["--renew changes the membership only; change the rest in config.toml"])
        chain: Chain | None
        chain, changed = _renew(path, joined)
        key = read_key(path / KEY, "the peer's key")
        done = done if changed else "kept"
    else:
        binding, problems = _binding(data, schema, target)
        try:
            check_flags({"peer.listen": listen, "peer.seeds": seed, "peer.preset": preset})
        except ConfigurationError as error:
            problems += error.problems
        problems += [  # early versions made such tokens
            f"the join token names a seed that is no address ({what}); ask for another token"
            for seed in (joined.seeds if joined else ())
            if (what := address_problem(seed)) is not None
        ]
        if problems:
            raise ConfigurationError(problems)
        seeds = list(dict.fromkeys([*(seed or ()), *(joined.seeds if joined else ())]))
        text = config_text(listen=listen, seeds=seeds, preset=preset, data=binding)
        parse_config(path, text)
        key, chain = _make(path, joined, text)
    _tell(path, key, chain, done, as_json=as_json)


def _make(path: Path, joined: "JoinToken | None", text: str) -> "tuple[SigningKey, Chain | None]":
    from peer.entropy import SystemEntropy
    from protocol.identity.admission import admit
    from protocol.identity.keys import SigningKey

    key = SigningKey(SystemEntropy().token(32))
    chain = admit(joined, key.public_bytes, time.time()) if joined else None
    create_home(path, seed=key.seed, chain=chain.encode() if chain else None, config=text)
    return key, chain


def _renew(path: Path, joined: "JoinToken | None") -> "tuple[Chain, bool]":
    """The chain of from now on, and whether it is a new one: the one that lasts longer stays."""
    from protocol.identity.admission import admit

    require_home(path)
    if joined is None:
        raise ConfigurationError(["--renew needs a join token: --token-file FILE"])
    key = read_key(path / KEY, "the peer's key")
    chain = admit(joined, key.public_bytes, time.time())
    try:
        held = read_chain(path)
    except ConfigurationError:
        held = None  # damaged: renewing is the remedy
    if held is not None and held.network != chain.network:
        raise ConfigurationError(
            [
                f"{path} belongs to network {held.network.hex()}, the token to {chain.network.hex()}; "
                "make another home for it"
            ]
        )
    if held is not None and chain.expires < held.expires:
        return held, False
    write_chain(path, chain.encode())
    return chain, True


def _read_token(token: str | None, file: Path | None) -> "JoinToken | None":
    """The token given by flag, file or environment; a flag wins over the environment."""
    from protocol.identity.admission import decode_token

    if token is not None and file is not None:
        raise ConfigurationError(["give the token either as --token or as --token-file, not both"])
    if token is None and file is None:
        token = os.environ.get("SUSURRUS_TOKEN") or None
        named = os.environ.get("SUSURRUS_TOKEN_FILE") or None
        file = Path(named) if token is None and named else None
    source = "--token" if file is None else "standard input"
    if file is not None:
        if str(file) == "-":
            token = sys.stdin.read(MAX_TOKEN_FILE)
        else:
            source = f"the token file {file}"
            token = read_bytes(file.expanduser(), "the token file", limit=MAX_TOKEN_FILE).decode("utf-8", "replace")
            warn_if_readable(file.expanduser(), "a join token")
    if token is None:
        return None
    if not token.strip():
        raise ConfigurationError([f"{source} is empty; make a join token with: susurrus network token DIR"])
    return decode_token(token.strip())


def _binding(data: Path | None, schema: str | None, target: str | None) -> tuple[DataBinding | None, list[str]]:
    """What the flags say of the records, and what is wrong with them."""
    if data is None:
        given = schema is not None or target is not None
        return None, ["--schema and --target say how to read --data FILE; give that too"] if given else []
    problems = []
    data = data.expanduser().absolute()
    if not data.is_file():
        problems.append(f"--data: there is no file {data}")
    if schema is None:
        problems.append("--data needs --schema NAME: what tasks call such records (for example digits)")
    else:
        try:
            schema_name(schema)
        except ValueError as error:
            problems.append(f"--schema must be made of {error}, not {schema!r}")
    for flag, text in (("--data", str(data)), ("--target", target or "")):
        if text.encode(errors="ignore").decode() != text:
            problems.append(f"{flag} {text} cannot be written to config.toml: it is not UTF-8; rename it")
    if target is not None and not target.strip():
        problems.append("--target must be the name of a column, not an empty text")
    return (None if problems else DataBinding(schema=schema or "", path=data, target=target)), problems


def config_text(
    *,
    listen: str | None = None,
    seeds: list[str] | None = None,
    preset: str | None = None,
    data: DataBinding | None = None,
) -> str:
    """``config.toml`` of a new home: what was chosen, and what else could be, in comments."""

    def line(key: str, value: str, chosen: bool) -> str:
        return f"{key} = {value}" if chosen else f"# {key} = {value}"

    parts = [
        "# A susurrus peer.  Flags of `susurrus run` win over SUSURRUS_* variables, those over this file.",
        "",
        "[peer]",
        line("listen", quoted(listen or "0.0.0.0:7390"), listen is not None) + "   # port 0: the system chooses one",
        '# advertise = []            # addresses to tell others, as "host:port"; empty: this machine\'s own',
        line("seeds", listed(seeds or []), bool(seeds)) + "   # peers to ask first",
        line("preset", quoted(preset or "lan"), preset is not None) + "   # timing: local, lan or wan (phones)",
        '# kem = "x25519"             # or "hybrid": also safe against quantum computers, larger messages',
        "",
        "# This peer's records: one section for each schema that tasks name.",
    ]
    if data is None:
        parts += ["# [data.digits]", '# path = "shard.csv"         # relative to this file', '# target = "digit"']
    else:
        parts += [f"[data.{toml_key(data.schema)}]", f"path = {quoted(str(data.path))}"]
        parts += [f"target = {quoted(data.target)}" if data.target is not None else '# target = "COLUMN"']
    parts += [
        '# format = "auto"            # or csv, npz, libsvm',
        "# features = []              # this file's columns in the schema's order; empty: the schema's own names",
        "# classes = []               # the labels that tasks may ask for; empty: those of the first task",
        "",
        "[limits]",
        "# collusion_threshold = 2    # decline tasks that promise less (S)",
        "# minimum_cohort = 3         # decline tasks that publish sums of fewer contributions (K)",
        '# submitters = ["any"]       # or the ids of the peers whose tasks to accept',
        "# rounds_per_hour = 0        # 0: as many as come",
        "",
        "[admin]",
        '# listen = "127.0.0.1:0"     # status, health and metrics; "0.0.0.0:PORT" lets Prometheus in, nothing else',
        "",
        "[power]                     # when to take part; what is asked for and cannot be known keeps the peer away",
        "# charging = false           # true: only on a charger",
        "# battery_above = 0          # only above so many percent; with charging = true: or above so many",
        "# unmetered = false          # true: only on Wi-Fi",
        '# hours = ""                 # only then, local time, for example "22-06"',
        "# temperature_below = 0      # only while the battery is cooler (Celsius)",
        "# poll_s = 60                # seconds between two looks",
        '# sensor = "auto"            # or termux, linux, none',
        "",
        "[log]",
        '# level = "info"             # debug, info, warning, error',
        '# format = "plain"           # or json',
        "",
        "# [models]                   # classes of your own, for tasks that ask for them by name",
        '# mine = "my_package.my_module:MyModel"',
    ]
    return "\n".join(parts) + "\n"


def _tell(path: Path, key: "SigningKey", chain: "Chain | None", done: str, *, as_json: bool) -> None:
    network = chain.network.hex() if chain else None
    expires = chain.expires if chain else None
    if as_json:
        document = {"home": str(path), "peer": key.peer_id.hex(), "network": network, "expires": expires}
        print_json(document | {"config": str(path / CONFIG)})
        return
    say(f"{done} the peer's home {path}")
    typer.echo(f"peer     {key.peer_id.hex()}")
    if chain is None:
        say(f"it is in no network yet; join one with: susurrus init --home {path} --renew --token-file FILE")
        return
    typer.echo(f"network  {network}\nmember until {date(chain.expires)}")
    what_next = {"made": f"next: susurrus run --home {path}", "renewed": "restart the peer to use it"}
    say(what_next.get(done, "its membership lasts longer than this token: nothing was changed"))
