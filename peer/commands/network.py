"""``susurrus network``: make a network, hand out join tokens, look.

Neighbours: ``peer.authority`` keeps the network's directory, ``protocol.identity.admission`` makes tokens.
Invariants: the token is the only thing on standard output, so that it can be piped; it is a secret, and is never
logged.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

from peer.commands.common import JsonOption, print_json, say, warn_if_readable
from protocol.base.errors import ConfigurationError
from protocol.base.printing import date

DAY_S = 86400.0
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The network's directory.", show_default=False)]

app = typer.Typer(help="Make a network and the tokens that let peers join it.", no_args_is_help=True)


@app.command()
def create(
    directory: Directory,
    name: Annotated[
        str | None, typer.Option(help="The network's name.  [default: the directory's]", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a network: an authority key in a new directory.  Keep it secret, and keep a copy."""
    from peer.authority import create_network
    from peer.entropy import SystemEntropy

    directory = directory.expanduser().absolute()
    network = create_network(directory, directory.name if name is None else name, SystemEntropy())
    if as_json:
        print_json({"network": network.id, "name": network.name, "directory": str(directory)})
        return
    say(f"made the network {network.name!r} in {directory}")
    typer.echo(network.id)
    say(f"next, a token for its peers: susurrus network token {directory} --seed HOST:PORT")


@app.command()
def token(
    directory: Directory,
    valid_days: Annotated[float, typer.Option(min=0.001, help="How long peers that join with it are members.")] = 90.0,
    seed: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="A peer to ask first; may be repeated.", show_default=False),
    ] = None,
    label: Annotated[str, typer.Option(help="For people: which token was this?")] = "token",
    as_json: JsonOption = False,
) -> None:
    """Make a join token.  Whoever holds it can join until it expires: hand it over as a secret."""
    from peer.authority import KEY, load_network
    from peer.entropy import SystemEntropy
    from peer.transport.addresses import address_problem
    from protocol.identity.admission import issue_token

    network = load_network(directory.expanduser().absolute())
    warn_if_readable(network.directory / KEY, "the network's authority key")
    seeds = tuple(dict.fromkeys(seed or ()))
    wrong = {seed: what for seed in seeds if (what := address_problem(seed)) is not None}
    problems = [f"--seed: {what}" for what in wrong.values()]
    seeds = tuple(seed for seed in seeds if seed not in wrong)
    try:
        made = issue_token(network.authority, time.time(), valid_days * DAY_S, seeds, SystemEntropy(), label)
    except ConfigurationError as error:
        raise ConfigurationError([*problems, *error.problems]) from None
    if problems:
        raise ConfigurationError(problems)
    if as_json:
        document = {"token": made.encode(), "network": network.id, "label": label, "expires": made.expires}
        print_json(document | {"seeds": list(seeds)})
        return
    say(f"a join token of the network {network.name!r}, valid until {date(made.expires)}; it is a secret:")
    typer.echo(made.encode())


@app.command()
def show(directory: Directory, as_json: JsonOption = False) -> None:
    """Show a network's name and id."""
    from peer.authority import load_network
    from protocol.base.ids import text

    network = load_network(directory.expanduser().absolute())
    key = text(network.authority.key.public_bytes)
    if as_json:
        print_json(
            {"network": network.id, "name": network.name, "authority_key": key, "directory": str(network.directory)}
        )
        return
    typer.echo(f"name           {network.name}\nnetwork        {network.id}\nauthority key  {key}")
