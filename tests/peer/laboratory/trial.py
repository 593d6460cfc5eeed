"""A kind of run for tests, and experiments made of it; ``python -m`` of this module is ``susurrus`` with the kind.

A run notes that it began, may wait for a file, die, or fail, and gives a short curve.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peer.laboratory.kinds import KINDS, Row

PATIENCE_S = 60.0


class Trial:
    """Parameters: ``log`` (a directory), ``value``, and, all optional, ``deep.factor``, ``label``, ``gate`` (a file
    that runs with a ``value`` from ``gated`` on wait for), ``trouble`` (``raise``, ``die``, ``die once``, ``die
    VALUE``).
    """

    name = "trial"
    axes = ("step",)
    keys = ("log", "value", "deep", "label", "gate", "gated", "trouble")

    def check(self, parameters: Mapping[str, Any], place: str) -> list[str]:
        problems = [f"{place} has no key {key}" for key in parameters if key not in self.keys]
        if not isinstance(parameters.get("value"), int):
            problems.append(f"{place}.value must be a whole number, not {parameters.get('value')!r}")
        return problems

    def run(self, parameters: Mapping[str, Any], seed: int) -> list[Row]:
        log, value = Path(parameters["log"]), parameters["value"]
        with (log / str(seed)).open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        if "gate" in parameters and value >= parameters["gated"]:
            wait_for(Path(parameters["gate"]).exists)
        match parameters.get("trouble"):
            case "raise":
                raise ValueError("the trial was asked\nto fail")
            case "die":
                os._exit(7)
            case str(text) if text == f"die {value}":
                os._exit(7)
            case "die once" if len(begun(log)[str(seed)]) == 1:
                os._exit(7)
        factor = parameters.get("deep", {}).get("factor", 1.0)
        noise = seed % 1000 / 1000
        return [
            {"step": step, "found": factor * value * step + noise, "method": method, "nothing": float("nan")}
            for step in range(3)
            for method in ("theory", "practice")
        ]


def wait_for(condition: Any) -> None:
    """Until it holds; an error if it never does."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("what was waited for did not happen")
        time.sleep(0.01)


def begun(log: Path) -> dict[str, list[int]]:
    """For each seed the processes that began its run, in order."""
    return {
        entry.name: [int(line) for line in entry.read_text().splitlines()] for entry in sorted(log.iterdir())
    }  # fmt: skip


def experiment_text(log: Path, *, values: object = (1, 2, 3), repeats: int = 2, more: str = "") -> str:
    """An experiment of trials; ``more`` are lines of its parameters."""
    log.mkdir(exist_ok=True)
    return f"""
[experiment]
name = "try"
kind = "trial"
about = "Trials, <b>not</b> errors & 'others'."
repeats = {repeats}

[parameters]
log = '{log}'
label = "<script>alert(1)</script> $x"
{more}

[sweep]
value = {list(values)}
deep.factor = [0.5, 2.0]

[scale.small]
repeats = 1
sweep = {{ value = [1] }}
parameters = {{ label = "small" }}

[[plot]]
title = "Found <by> step, at $5 a piece"
x = "step"
y = ["found"]
group = ["value", "method"]
where = {{ "deep.factor" = 2.0 }}

[[plot]]
title = "Bars"
x = "method"
y = "found"
error = "step"
kind = "bars"
log = "y"

[[table]]
title = "By value"
by = "value"
show = ["found"]

[[text]]
title = "Claims"
claim = "More & more."
found = "From {{min found over value}} to {{mean found where value >= 2 and method = \\"theory\\"}}."
"""


if __name__ == "__main__":
    from peer.cli import main

    KINDS["trial"] = Trial()
    main()
