"""What ``susurrus leakage`` found, in tables and sentences, and as a document for JSON.

Neighbours: ``leakage`` prints it.  Invariants: pure; the text says which numbers are exact, and which are samples.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from peer.audit.leaks import RoundLeaks
from peer.commands.common import table
from protocol.base.ids import short
from protocol.privacy.exposure import Exact, Faults, Shape, Study
from protocol.privacy.exposure.exact import DEFAULT_VIEWS
from protocol.privacy.exposure.montecarlo import quantile
from protocol.privacy.exposure.recorded import Exposure
from protocol.privacy.exposure.tree import ACCOUNTS

WIDTH = 110
QUANTILES = {"1 %": 0.01, "10 %": 0.1, "50 %": 0.5, "90 %": 0.9}


def study_document(shape: Shape, study: Study) -> dict[str, Any]:
    """Everything in a study, plain."""
    exact = study.exact
    return {
        "branching": shape.branching,
        "depth": shape.depth,
        "trunk": shape.trunk,
        "collusion_threshold": shape.collusion_threshold,
        "nodes": shape.nodes,
        "failures": study.faults.lost,
        "late": study.faults.late,
        "seed": study.seed,
        "exact": None
        if exact is None
        else {"complete": exact.complete, "patterns": exact.patterns, "smallest_coalition": exact.smallest},
        "rows": _study_rows(study),
        "largest_z": study.largest_z,
    }


def study_text(shape: Shape, study: Study) -> str:
    """Two tables, of exposure and of anonymity sets, with what must be known to read them."""
    rows = [row for row in _study_rows(study) if row["of"] == "published" or study.faults != Faults()]
    trees = next((row.monte_carlo.trees for row in study.rows if row.monte_carlo is not None), 0)
    trunk = f", below a trunk of {shape.trunk}" if shape.trunk else ""
    tree = f"A tree of {shape.nodes} nodes: branching {shape.branching}, depth {shape.depth}{trunk}"
    chances = f"lost with probability {study.faults.lost:g}, and others late with {study.faults.late:g}"
    out = [
        *wrap(f"{tree}; S = {shape.collusion_threshold}. Partials are {chances}.", WIDTH),
        "",
        "Share of the contributors whose value is exposed to all corrupt peers together, at a share of corrupt peers:",
        "",
        table(
            rows,
            {
                "corrupt": "corrupt",
                "of": "of",
                "contributors": "contributors",
                "theory": "theory",
                "monte_carlo": "Monte Carlo",
                "monte_carlo_error": "+-",
                "exact": "exact",
                **({"exact_error": "+-"} if study.exact is not None and not study.exact.complete else {}),
            },
        ),
        "",
        "published: in the total.  arrived: their vector reached their parent, on time or late, published or not.",
        *wrap(_exact_sentence(study.exact, shape.nodes, rows), WIDTH),
    ]
    if trees:
        sampled = f"Monte Carlo: {trees} rounds for each share, seed {study.seed}; +- is one standard error."
        out += wrap(f"{sampled} {_largest(rows, 'z')}", WIDTH)
        out += ["", *_sets(rows)]
    return "\n".join(out)


def rounds_document(path: Path, found: Sequence[RoundLeaks], seed: int) -> dict[str, Any]:
    """Everything found of recorded rounds, plain."""
    return {
        "path": str(path),
        "seed": seed,
        "leaks_below_threshold": any(one.below.violations for one in found),
        "rounds": [_round_row(one) for one in found],
    }


def rounds_text(found: Sequence[RoundLeaks]) -> str:
    """One line for each round, the anonymity sets of all, and what coalitions below S learn."""
    rows = [_round_row(one) for one in found]
    columns = {
        "round": "round",
        "peers": "peers",
        "published": "published",
        "arrived": "arrived",
        "fewest_mask_neighbours": "fewest neighbours",
    }
    for row in rows:
        for exposure in row["exposure"]:
            name = _coalition(exposure)
            columns[name] = name
            row[name] = exposure["arrived"] if exposure["arrived"] is not None else exposure["sampled"]
    out = [
        "Share of the arrived contributors whose value is exposed, to peers corrupt with a probability (q) or to a",
        "coalition of a size, drawn at random:",
        "",
        table(rows, columns),
        "",
        "arrived: their vector reached their parent, on time or late.  fewest neighbours: the mask neighbours of the",
        "least protected of them.",
    ]
    unlawful = [row["round"] for row in rows if not row["follows_protocol"]]
    if unlawful:
        out.append(
            f"In {len(unlawful)} of {len(rows)} rounds ({', '.join(unlawful[:5])}{', ...' if unlawful[5:] else ''})"
            " records are missing or break the protocol: shares there are of sampled coalitions, by linear algebra."
        )
    out += ["", *_sets(_summed(rows)), ""]
    examined = sum(one.below.examined for one in found)
    how = "a sample of those" if any(one.below.sampled for one in found) else "all"
    out.append(f"Coalitions of fewer than S peers, by linear algebra: {examined} examined, {how} there are.")
    violations = [violation for one in found for violation in one.below.violations]
    out += [f"VIOLATION ({violation.check.value}): {violation}" for violation in violations]
    out.append(f"{len(violations)} violations." if violations else "None of them learned a value.")
    return "\n".join(out)


def _study_rows(study: Study) -> list[dict[str, Any]]:
    rows = []
    for row in study.rows:
        for account in ACCOUNTS:
            theory = getattr(row.theory, account)
            sample = None if row.monte_carlo is None else getattr(row.monte_carlo, account)
            exact = study.exact
            z, exact_z = study.z_scores(row, account)
            rows.append(
                {
                    "corrupt": row.corrupt,
                    "of": account,
                    "contributors": theory.contributors,
                    "theory": theory.share,
                    "trees": None if row.monte_carlo is None else row.monte_carlo.trees,
                    "monte_carlo": None if sample is None else sample.share,
                    "monte_carlo_error": None if sample is None else sample.share_error,
                    "monte_carlo_contributors": None if sample is None else sample.contributors,
                    "z": z,
                    "exact": None if exact is None else exact.share(account, row.corrupt),
                    "exact_error": None if exact is None else exact.share_error(account, row.corrupt),
                    "exact_z": exact_z,
                    "component_sizes": None if sample is None else list(sample.sizes),
                    "hidden": None if sample is None else sample.hidden,
                }
            )
    return rows


def _exact_sentence(exact: Exact | None, nodes: int, rows: Sequence[dict[str, Any]]) -> str:
    if exact is None:
        return (
            f"Exact: left out, as 2^{nodes} coalitions, each in enough patterns of lost and late partials, are more"
            f" views than {DEFAULT_VIEWS}."
        )
    patterns = f"a sample of {exact.patterns} patterns of lost and late partials"
    if exact.complete:
        patterns = f"all {exact.patterns} patterns of lost and late partials" if exact.patterns > 1 else "one round"
    members = f"the smallest that learns a value has {exact.smallest} members"
    return (
        f"Exact: linear algebra for all {1 << nodes} coalitions in {patterns};"
        f" {'none learns a value' if exact.smallest is None else members}. {_largest(rows, 'exact_z')}"
    )


def _largest(rows: Sequence[dict[str, Any]], score: str) -> str:
    largest = max(abs(row[score]) for row in rows)
    if largest == 0:
        return "It is equal to theory."
    return f"The largest difference to theory is {largest:.2f} standard errors, of {len(rows)} compared."


def _round_row(one: RoundLeaks) -> dict[str, Any]:
    exposure = one.exposure
    return {
        "round": short(one.round),
        "id": one.round.hex(),
        "collusion_threshold": exposure.collusion_threshold,
        "peers": exposure.peers,
        "published": exposure.published,
        "arrived": exposure.arrived,
        "follows_protocol": exposure.follows_protocol,
        "fewest_mask_neighbours": exposure.fewest_neighbours,
        "exposure": [
            *({"corrupt": q, **_exposure(e)} for q, e in exposure.by_corrupt),
            *({"coalition": size, **_exposure(e)} for size, e in exposure.by_size),
        ],
        "coalitions_below_threshold": one.below.examined,
        "coalitions_sampled": one.below.sampled,
        "violations": [str(violation) for violation in one.below.violations],
    }


def _exposure(exposure: Exposure) -> dict[str, Any]:
    return {
        "published": None if exposure.published is None else exposure.published.share,
        "arrived": None if exposure.arrived is None else exposure.arrived.share,
        "sampled": exposure.sampled,
        "sampled_error": exposure.sampled_error,
        "component_sizes": list(exposure.sizes),
        "hidden": exposure.hidden,
    }


def _coalition(exposure: dict[str, Any]) -> str:
    return f"q = {exposure['corrupt']:g}" if "corrupt" in exposure else f"size {exposure['coalition']}"


def _summed(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Component sizes over all rounds, by kind of coalition."""
    sizes: dict[str, Counter[int]] = {}
    hidden: Counter[str] = Counter()
    for row in rows:
        for exposure in row["exposure"]:
            name = _coalition(exposure)
            sizes.setdefault(name, Counter()).update(dict(enumerate(exposure["component_sizes"])))
            hidden[name] += exposure["hidden"]
    return [
        {
            "corrupt": name,
            "of": "arrived",
            "component_sizes": [seen[k] for k in range(max(seen, default=-1) + 1)],
            "hidden": hidden[name],
        }
        for name, seen in sizes.items()
    ]


def _sets(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The table of anonymity sets."""
    lines = []
    for row in rows:
        sizes, hidden = row["component_sizes"], row["hidden"]
        seen = sum(sizes)
        line = {"corrupt": row["corrupt"], "of": row["of"], "largest": len(sizes) - 1 if seen else None}
        line["hidden"] = f"{100 * hidden / (seen + hidden):.3g} %" if seen + hidden else None
        line |= {name: quantile(sizes, share) for name, share in QUANTILES.items()}
        lines.append(line)
    columns = {"corrupt": "corrupt", "of": "of", **{name: name for name in QUANTILES}}
    return [
        "Anonymity set of an honest contributor: the honest contributors of whose values corrupt peers learn the sum",
        "alone. So many per cent have a set of that size or smaller; hidden: not even the sum is learned.",
        "",
        table(lines, columns | {"largest": "largest", "hidden": "hidden"}),
    ]
