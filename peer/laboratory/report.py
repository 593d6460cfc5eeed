"""The report: one HTML page for people, with everything in it.

Neighbours: ``study`` writes it; ``outline`` says what it shows, ``plots`` and ``summary`` make that.
Invariants: the same results give the same bytes; nothing is loaded from elsewhere; what comes from a file is escaped.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from peer.laboratory import plots, words
from peer.laboratory.extras import missing
from peer.laboratory.kinds import Value
from peer.laboratory.outline import Paragraph, Plot, TableOutline
from peer.laboratory.runner import Results
from peer.laboratory.summary import Record, columns, is_text, matching, summarise
from peer.laboratory.table import REPEAT, SEED

MOST_LINES = 200
"""Of a table on the page; all are in ``summary.csv``."""
MOST_FAILURES = 50

_STYLE = """
:root { color-scheme: light; }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; background: #fff; color: #1a1a1a;
  font: 16px/1.5 system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.2; }
h2 { margin-top: 3rem; border-bottom: 1px solid #ccc; padding-bottom: .2rem; }
figure { margin: 1.5rem 0; }
figcaption, caption { font-weight: 600; text-align: left; padding: .3rem 0; }
svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #e2e2e2; text-align: right; white-space: nowrap; }
th { border-bottom: 1px solid #888; vertical-align: bottom; }
.error { color: #666; }
dt { font-weight: 600; margin-top: .5rem; }
dd { margin: 0; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: .85rem; }
.problem { background: #fff3e0; padding: .5rem .8rem; }
"""
_HEADINGS = {"claim": "Claimed", "found": "Found", "differs": "Where they differ"}


@dataclass(frozen=True, slots=True)
class Section:
    """One experiment of a report."""

    results: Results
    records: Sequence[Record]


def default_table(results: Results, records: Sequence[Record]) -> tuple[list[str], list[str]]:
    """What tells the lines of the summary apart, and what it shows."""
    there = [name for name in columns(records) if name not in (REPEAT, SEED)]
    sweep, axes = results.experiment.sweep, results.experiment.kind.axes
    by = [name for name in there if name in sweep or name in axes or is_text(records, name)]
    return by, [name for name in there if name not in by]


def render(title: str, sections: Sequence[Section]) -> bytes:
    """The page, UTF-8."""
    body: list[str] = [f"<h1>{escape(title)}</h1>"]
    if not plots.available():
        sentence = missing("matplotlib", "plot", "A report with plots")
        body.append(_problem(f"{sentence}. The figures are in the tables here and in results.csv."))
    if len(sections) > 1:
        names = [escape(section.results.experiment.name) for section in sections]
        links = (f'<li><a href="#{name}">{name}</a></li>' for name in names)
        body.append(f"<ul>{''.join(links)}</ul>")
    for section in sections:
        body += _section(section, alone=len(sections) == 1)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
    )
    return (head + "\n".join(body) + "\n</body>\n</html>\n").encode()


def _section(section: Section, *, alone: bool) -> Iterable[str]:
    results, experiment = section.results, section.results.experiment
    if not alone:
        yield f'<h2 id="{escape(experiment.name)}">{escape(experiment.name)}</h2>'
    if experiment.about:
        yield f"<p>{escape(experiment.about)}</p>"
    yield from _failures(results)
    for paragraph in experiment.outline.paragraphs:
        yield _paragraph(paragraph, section.records)
    if plots.available():
        for number, plot in enumerate(experiment.outline.plots):
            yield _plot(plot, section.records, f"{experiment.name} {number}")
    by, show = default_table(results, section.records)
    for outline in experiment.outline.tables or (TableOutline("Results", (), (), ()),):
        wanted = TableOutline(outline.title, outline.by or tuple(by), outline.show or tuple(show), outline.where)
        yield _table(wanted, section.records)
    yield _parameters(results)


def _failures(results: Results) -> Iterable[str]:
    if not results.failures:
        return
    lines = [
        f"<li>run {failure.run.index}, seed {failure.run.seed}"
        f"{''.join(f', {escape(key)} = {escape(str(value))}' for key, value in failure.run.point.values)}: "
        f"{escape(failure.problem)}</li>"
        for failure in results.failures[:MOST_FAILURES]
    ]
    count, total = len(results.failures), len(results.failures) + len(results.runs)
    more = f"<p>The first {MOST_FAILURES} of them:</p>" if count > MOST_FAILURES else ""
    yield f'<div class="problem"><p>{count} of {total} runs failed and are missing in what follows.</p>{more}'
    yield f"<ul>{''.join(lines)}</ul></div>"


def _paragraph(paragraph: Paragraph, records: Sequence[Record]) -> str:
    title = f"<h3>{escape(paragraph.title)}</h3>" if paragraph.title else ""
    text, pairs = "", ""
    for name, template in paragraph.parts:
        sentence = escape(words.fill(template, records))
        if name in _HEADINGS:
            pairs += f"<dt>{_HEADINGS[name]}</dt><dd>{sentence}</dd>"
        else:
            text += f"<p>{sentence}</p>"
    return title + (f"<dl>{pairs}</dl>" if pairs else "") + text


def _plot(plot: Plot, records: Sequence[Record], salt: str) -> str:
    try:
        shown = plots.svg(plot, records, salt)
    except LookupError as error:
        return _problem(f"The plot “{plot.title}” is missing: {error.args[0]}.")
    return f"<figure><figcaption>{escape(plot.title)}</figcaption>\n{shown}\n</figure>"


def _table(outline: TableOutline, records: Sequence[Record]) -> str:
    there = columns(records)
    lost = [name for name in (*outline.by, *outline.show) if name not in there]
    if lost:
        return _problem(f"The table “{outline.title}” is missing: the results have no column {', '.join(lost)}.")
    lines = summarise(matching(records, outline.where), outline.by, outline.show)
    # A figure that never varies within a line has no error worth a place.
    varying = [name for name in outline.show if any(line[f"{name}_error"] for line in lines)]
    heading = "".join(f"<th>{escape(name)}</th>" for name in (*outline.by, *outline.show, "rows"))
    body = "".join(f"<tr>{_cells(outline, line, varying)}</tr>\n" for line in lines[:MOST_LINES])
    more = f"<p>{len(lines) - MOST_LINES} more lines are in the tables.</p>" if len(lines) > MOST_LINES else ""
    note = "<p>Means over rows, with the standard error of the mean where rows differ.</p>" if varying else ""
    return (
        f'<div class="wide"><table><caption>{escape(outline.title)}</caption>\n<thead><tr>{heading}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>{more}{note}"
    )


def _cells(outline: TableOutline, line: Record, varying: Sequence[str]) -> str:
    cells = [f"<td>{escape(told(line[name]))}</td>" for name in outline.by]
    for name in outline.show:
        error = line[f"{name}_error"]
        behind = f' <span class="error">± {told(error, 2)}</span>' if name in varying and error is not None else ""
        cells.append(f"<td>{told(line[name])}{behind}</td>")
    return "".join(cells) + f"<td>{line['rows']}</td>"


def told(value: Value, digits: int = 4) -> str:
    """One value of a table: numbers with so many significant digits."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.{digits}g}"
        case _:
            return str(value)


def _parameters(results: Results) -> str:
    experiment = results.experiment
    facts = {
        "kind": experiment.kind.name,
        "scale": experiment.scale,
        "seed": results.seed,
        "repeats": experiment.repeats,
        "parameters": experiment.parameters,
        "sweep": experiment.sweep,
    }
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    return f"<details><summary>Parameters</summary><pre>{escape(text)}</pre></details>"


def _problem(sentence: str) -> str:
    return f'<p class="problem">{escape(sentence)}</p>'
