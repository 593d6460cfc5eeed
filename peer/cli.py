"""The ``susurrus`` command: its groups of subcommands, and how every failure becomes a sentence and an exit code.

Neighbours: ``commands`` holds one module for each group; nothing else imports this.
Invariants: exit codes are 0 done, 1 failed, 2 wrong usage or configuration, 3 a privacy guarantee refused the work, 130
interrupted; a traceback is shown only with ``--debug``; commands import what is heavy when they run, so that
``susurrus run`` starts fast and stays small.
"""

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from peer.commands import audit, init, leakage, look, measure, model, network, run, simulate
from peer.errors import PeerError
from peer.files import why
from protocol.base.errors import ConfigurationError, PrivacyRefusal, Refused
from protocol.base.printing import printable

DONE, FAILED, WRONG_USAGE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 130

_PASSED_ON: tuple[type[BaseException], ...] = (typer.Exit, typer.Abort, typer.BadParameter.__mro__[2])
"""Typer's own ways out; the last is the base of all its usage errors, which it does not name itself."""


class CommandGroup(TyperGroup):
    """The top group: takes ``--debug`` anywhere on the line, and turns exceptions into exit codes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Let ``--debug`` stand behind the subcommand too: that is where it is added after something failed."""
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            args = ["--debug", *(arg for i, arg in enumerate(args) if i >= end or arg != "--debug")]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a failure is reported here."""
        try:
            return super().invoke(ctx)
        except _PASSED_ON:
            raise
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of our output went away: typer ends quietly
            raise typer.Exit(report(error, debug=ctx.params.get("debug", False))) from None


app = typer.Typer(
    cls=CommandGroup,
    help="Peers that train a model together, without a server and without showing anybody their data.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(network.app, name="network")
app.command(name="init")(init.init)
app.command(name="run")(run.run)
app.command(name="status")(look.status)
app.command(name="peers")(look.peers)
app.command(name="rounds")(look.rounds)
app.add_typer(model.app, name="model")
app.command(name="demo")(measure.demo)
app.command(name="bench")(measure.bench)
app.command(name="audit")(audit.audit)
app.command(name="leakage")(leakage.leakage)
app.command(name="simulate")(simulate.simulate)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"susurrus {version('susurrus')}")
        except PackageNotFoundError:
            typer.echo("susurrus (not installed)")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.", envvar="SUSURRUS_DEBUG")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options of every command."""


def report(error: BaseException, *, debug: bool) -> int:
    """Say on standard error what went wrong; the exit code."""
    if debug:
        traceback.print_exception(error)
    codes = []
    for leaf in _leaves(error):
        code, sentences = _explain(leaf)
        codes.append(code)
        for sentence in sentences:
            typer.echo(f"susurrus: {printable(sentence)}", err=True)
    return max(codes, default=FAILED)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside a (nested) group, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _explain(error: BaseException) -> tuple[int, list[str]]:
    match error:
        case ConfigurationError():
            return WRONG_USAGE, error.problems
        case PrivacyRefusal():
            return REFUSED, [str(error)]
        case PeerError() | Refused():
            return FAILED, [str(error)]
        case KeyboardInterrupt():
            return INTERRUPTED, ["interrupted"]
        case OSError():
            where = f"{error.filename}: " if error.filename else "cannot write: " if error.errno == errno.ENOSPC else ""
            return FAILED, [where + why(error)]
        case _:
            text = str(error).splitlines()
            detail = f": {text[0]}" if text else ""
            return FAILED, [f"unexpected {type(error).__name__}{detail} (this is a bug; add --debug to see where)"]


def main() -> None:
    """Entry point of ``susurrus`` and ``python -m peer``; does not return."""
    # Before numpy is loaded: work has threads of its own here, and a pool per process of linear algebra's costs memory.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        app(prog_name="susurrus")
    except KeyboardInterrupt:
        # Before or after the command itself: while modules load, or while the interpreter shuts down.
        sys.stderr.flush()
        os._exit(INTERRUPTED)
