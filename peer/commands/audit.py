"""``susurrus audit``: check the recordings of ``demo --audit`` or ``run --audit``.

Neighbours: ``peer.audit`` does the work.  Invariants: reads nothing but the directory; exit code 3 if anything is
wrong.
"""

from pathlib import Path
from typing import Annotated

import typer

from peer.commands.common import VIOLATED, JsonOption, print_json
from peer.errors import PeerError


def audit(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the recordings are.", show_default=False)],
    max_coalitions: Annotated[
        int | None,
        typer.Option(min=1, help="Coalitions to examine in one round; of more, a sample.", show_default="2000"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of that sample.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Check recorded rounds: exact sums, masks where they belong, nothing used twice, no coalition learns a value."""
    from peer.audit import Unreadable
    from peer.audit import audit as check
    from peer.audit.run import DEFAULT_MAX_COALITIONS

    limit = DEFAULT_MAX_COALITIONS if max_coalitions is None else max_coalitions
    try:
        report = check(directory.expanduser(), max_coalitions=limit, seed=seed)
    except Unreadable as error:
        raise PeerError(str(error).rstrip(".")) from error
    if as_json:
        print_json(report.as_json())
    else:
        typer.echo("\n".join(report.sentences()))
    raise typer.Exit(0 if report.clean else VIOLATED)
