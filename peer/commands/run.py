"""``susurrus run``: run a peer until it is told to stop.

Neighbours: ``peer.config`` and ``peer.home`` are read here, ``peer.daemon`` does the rest.
Invariants: everything that a person can have got wrong is found before the first packet leaves; neither rich nor
numpy is loaded by what happens here.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from peer.commands.common import HomeOption, home_path, warn_if_readable
from peer.config import Config, load_config
from peer.home import KEY, Home, open_home, require_home
from protocol.base.errors import ConfigurationError, Refusal, Refused
from protocol.base.printing import date

MOST_LOOKUPS = 16
"""Names that are looked up at once."""


def run(
    context: typer.Context,
    home: HomeOption = None,
    task: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="Introduce the task of this file.", show_default=False
        ),
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Record rounds of public data there, for susurrus audit.", show_default=False),
    ] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where others reach this peer.", show_default=False)
    ] = None,
    advertise: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="An address to tell others; may be repeated.", show_default=False),
    ] = None,
    seed: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="A peer to ask first; may be repeated.", show_default=False),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default=False)] = None,
    log_format: Annotated[str | None, typer.Option(help="plain or json.", show_default=False)] = None,
) -> None:
    """Run a peer until it is told to stop (Ctrl-C, SIGTERM)."""
    from peer.observe.logs import set_up_logs

    path = home_path(home)
    require_home(path)
    flags = {"peer.listen": listen, "peer.advertise": advertise, "peer.seeds": seed}
    config = load_config(path, os.environ, flags | {"log.level": log_level, "log.format": log_format})
    check_files(config)
    set_up_logs(config.log.level, config.log.format, tracebacks=context.find_root().params.get("debug", False))
    warn_if_readable(path / KEY, "the peer's key")
    with open_home(path) as opened:
        check_membership(opened, time.time())
        _check_kem(config)
        from peer.daemon import run_peer
        from peer.process import tune_process

        tune_process()

        code = _run_loop(run_peer(config, opened, task_file=task, audit_dir=audit))
    raise typer.Exit(code)


def check_files(config: Config) -> None:
    """Raise ``ConfigurationError`` for records that are not where the configuration says."""
    missing = [binding for binding in config.data.values() if not binding.path.is_file()]
    if missing:
        raise ConfigurationError([f"data.{b.schema}.path: there is no file {b.path}" for b in missing])


def check_membership(home: Home, now: float) -> None:
    """Raise ``ConfigurationError`` unless the peer of this home is a member of a network now."""
    from protocol.identity.admission import verify_chain

    chain = home.chain
    renewal = f"susurrus init --home {home.path} --renew --token-file FILE"
    if chain is None:
        raise ConfigurationError([f"{home.path} is in no network yet; join one with: {renewal}"])
    try:
        verify_chain(chain, chain.authority_key, home.signing_key.public_bytes, now)
    except Refused as refused:
        match refused.reason:
            case Refusal.CERTIFICATE_EXPIRED if now < chain.issued:
                sentence = (
                    f"this machine's clock says {date(now)}, before its membership began ({date(chain.issued)}); set it"
                )
            case Refusal.CERTIFICATE_EXPIRED:
                sentence = f"the membership of {home.path} expired on {date(chain.expires)}; renew it with: {renewal}"
            case _:
                sentence = (
                    f"the certificate chain of {home.path} is not for its key ({refused}); renew it with: {renewal}"
                )
        raise ConfigurationError([sentence]) from refused


def _check_kem(config: Config) -> None:
    from protocol.identity.keys import hybrid_available

    if config.kem == "hybrid" and not hybrid_available():
        raise ConfigurationError(
            ['peer.kem: "hybrid" is not available with this machine\'s cryptography; use "x25519"']
        )


def _run_loop(work: Coroutine[Any, Any, int]) -> int:
    """Run the event loop; the faster one where it is installed (``pip install susurrus[fast]``)."""
    from peer.threads import LooseThreads

    async def loosely() -> int:
        # a lookup may hang for half a minute: neither the loop's end nor the process's is to wait for it
        asyncio.get_running_loop().set_default_executor(LooseThreads(MOST_LOOKUPS, "lookup"))
        return await work

    try:
        import uvloop
    except ImportError:
        run_with: Callable[[Coroutine[Any, Any, int]], int] = asyncio.run
    else:
        run_with = uvloop.run
    return run_with(loosely())  # out here, so that no traceback begins with the missing uvloop
