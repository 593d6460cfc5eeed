"""Plots as SVG, by matplotlib.

Neighbours: ``report`` puts them into its page.
Invariants: the same rows give the same bytes, whatever the user's own matplotlib settings; no dates, no links; nothing
that a file says is taken as mathematics.
"""

from collections.abc import Sequence
from typing import Any

from peer.laboratory.extras import found
from peer.laboratory.kinds import Value
from peer.laboratory.outline import Plot
from peer.laboratory.summary import Record, grouped, is_text, matching, mean, standard_error

# Of Okabe and Ito: told apart by colour-blind readers too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
_MARKERS = "os^Dvp<>"
_DASHES = ("-", "--", "-.", ":")
_STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.size": 10.0,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small, searchable, and no matter of installed fonts' outlines
}
_BAR_ROOM = 0.8
_LEVEL = 70
"""Letters on one axis; where there are more, its names are slanted."""

Curve = tuple[str, list[Value], list[float], list[float | None]]
"""Label, x, y, standard errors of y."""


def available() -> bool:
    """Whether plots can be made."""
    return found("matplotlib") is not None


def curves(plot: Plot, records: Sequence[Record]) -> list[Curve]:
    """What a plot shows.  ``LookupError`` names the columns that the results do not have."""
    rows = matching(records, plot.where)
    wanted = [plot.x, *plot.y, *plot.group, *plot.error, *(key for key, _ in plot.where)]
    missing = [column for column in dict.fromkeys(wanted) if not any(column in record for record in records)]
    if missing:
        raise LookupError(f"the results have no column {', '.join(missing)}")
    result: list[Curve] = []
    for names, members in grouped(rows, plot.group):
        for place, column in enumerate(plot.y):
            label = ", ".join(f"{key} = {value}" for key, value in zip(plot.group, names, strict=True))
            if len(plot.y) > 1:
                label = f"{column}, {label}" if label else column
            xs: list[Value] = []
            ys: list[float] = []
            errors: list[float | None] = []
            for (x,), there in grouped(members, [plot.x]):
                y = mean(row.get(column) for row in there)
                if x is None or y is None:
                    continue
                xs.append(x)
                ys.append(y)
                own = mean(row.get(plot.error[place]) for row in there) if plot.error else None
                errors.append(own if plot.error else standard_error(row.get(column) for row in there))
            if xs:
                result.append((label, xs, ys, errors))
    if not result:
        raise LookupError("no row has the figures that it shows")
    return result


def svg(plot: Plot, records: Sequence[Record], salt: str) -> str:
    """One plot as an SVG element; ``salt`` keeps its inner names apart from those of others on the page.

    Raises what ``curves`` raises; needs ``available``.
    """
    import io

    import matplotlib
    from matplotlib.figure import Figure

    content = io.StringIO()
    shown = curves(plot, records)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = matplotlib.rcParams
        settings.update({**_STYLE, "svg.hashsalt": salt})
        figure = Figure(figsize=(7.2, 4.2))
        axes = figure.add_subplot()
        _draw(axes, plot, shown, is_text(records, plot.x))
        axes.set_xlabel(_literally(plot.x_label))
        axes.set_ylabel(_literally(plot.y_label))
        if len(shown) > 1 or shown[0][0]:
            # Below the axes rather than over the curves; many labels take several columns.
            figure.legend(loc="outside lower center", ncols=3 if len(shown) > 3 else len(shown), fontsize="small")
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(content, format="svg", metadata=metadata)
    text = content.getvalue()
    lines = text[text.index("<svg") :].splitlines()
    return "\n".join(line.rstrip() for line in lines)


def _draw(axes: Any, plot: Plot, shown: Sequence[Curve], categories: bool) -> None:
    # Categories stand in the order of the rows, numbers at their places, unless they are bars.
    names = list(dict.fromkeys(x for _, xs, _, _ in shown for x in xs))
    by_name = categories or plot.kind == "bars"
    if by_name and not categories:
        names.sort(key=lambda name: float(name or 0))
    width = _BAR_ROOM / len(shown)
    for place, (label, xs, ys, errors) in enumerate(shown):
        at = [float(names.index(x)) for x in xs] if by_name else [float(x) for x in xs if x is not None]
        points = sorted(zip(at, ys, errors, strict=True), key=lambda point: point[0])
        at, ys = [point[0] for point in points], [point[1] for point in points]
        bars = [point[2] or 0.0 for point in points] if any(point[2] for point in points) else None
        look: dict[str, Any] = {"color": _COLOURS[place % len(_COLOURS)], "label": _literally(label) or None}
        if plot.kind == "bars":
            shifted = [x + (place + 0.5) * width - _BAR_ROOM / 2 for x in at]
            axes.bar(shifted, ys, width * 0.95, yerr=bars, capsize=2, **look)
            continue
        look["marker"] = _MARKERS[place % len(_MARKERS)] if plot.kind == "points" or len(at) <= 40 else ""
        look["linestyle"] = "" if plot.kind == "points" else _DASHES[place // len(_COLOURS) % len(_DASHES)]
        axes.errorbar(at, ys, yerr=bars, capsize=2, markersize=4, linewidth=1.4, **look)
    if by_name:
        told = [_literally(str(name)) for name in names]
        slanted = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if sum(map(len, told)) > _LEVEL else {}
        axes.set_xticks(range(len(names)), told, **slanted)
    if "x" in plot.log and not by_name:
        axes.set_xscale("log")
    if "y" in plot.log:
        axes.set_yscale("log")
    elif plot.kind == "bars":
        axes.axhline(0, color="black", linewidth=0.8)


def _literally(text: str) -> str:
    """A text that matplotlib shows as it is."""
    return text.replace("$", r"\$")
