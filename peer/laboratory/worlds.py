"""Thousands of random worlds on several cores, and what they show together.

Neighbours: ``protocol.simulation.randomworlds`` makes and judges one world; the command and CI print the report.
Invariants: which worlds there are depends on the first seed and the count alone, and so does everything in a report but
its time.  Between the processes go plain numbers and frozen dataclasses of our own.
"""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice

from peer.laboratory.garbage import uncollected
from protocol.base.errors import ConfigurationError
from protocol.simulation.mishaps import KINDS
from protocol.simulation.randomworlds import Verdict, check_world

CHUNK = 50
"""Worlds that a process is given at once: some tenths of a second."""
MAX_WORLDS = 100_000_000
MAX_VIOLATIONS = 1000
"""Sentences kept; all are counted."""


@dataclass(frozen=True, slots=True)
class WorldsReport:
    """What a number of worlds have shown."""

    worlds: int
    first_seed: int
    processes: int
    seconds: float
    """Wall clock."""
    published: int
    """Rounds that published a sum, and that ended without one."""
    failed: int
    events: int
    virtual_s: float
    coverage: tuple[tuple[str, int], ...]
    """In how many worlds each of ``mishaps.KINDS`` happened, in that order."""
    failed_seeds: tuple[int, ...]
    """Worlds in which an invariant was violated, ascending."""
    violations: tuple[str, ...]
    """One sentence each, with its world; the first ``MAX_VIOLATIONS``."""

    @property
    def worlds_per_s(self) -> float:
        """Worlds per second of wall clock, on all processes together."""
        return self.worlds / self.seconds if self.seconds else 0.0

    def lines(self) -> list[str]:
        """For people."""
        share = 100.0 / max(1, self.worlds)
        return [
            f"{self.worlds} worlds from seed {self.first_seed}, {self.worlds_per_s:.0f} a second on "
            f"{self.processes} process{'es' if self.processes > 1 else ''}",
            f"{self.published} rounds published, {self.failed} failed; {self.events} events in "
            f"{self.virtual_s:.0f} virtual seconds",
            *(f"{share * count:6.2f} %  {kind}" for kind, count in self.coverage),
            f"{len(self.failed_seeds)} worlds violated an invariant"
            + (f": seeds {', '.join(map(str, self.failed_seeds[:20]))}" if self.failed_seeds else ""),
            *self.violations,
        ]


def run_worlds(
    count: int,
    first_seed: int,
    processes: int,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> WorldsReport:
    """Run the worlds ``first_seed`` to ``first_seed + count - 1``.

    ``processes``: how many run at once.  ``progress(done, count)`` is called as worlds end.
    Raises ``ConfigurationError`` for impossible numbers.
    """
    _check(count, first_seed, processes)
    begun = time.perf_counter()
    by_seed: dict[int, list[Verdict]] = {}
    done = 0
    for verdicts in _verdicts(count, first_seed, processes):
        by_seed[verdicts[0].seed] = verdicts
        done += len(verdicts)
        progress(done, count)
    return _report(by_seed, first_seed, processes, time.perf_counter() - begun)


def _check(count: int, first_seed: int, processes: int) -> None:
    problems = []
    if not 1 <= count <= MAX_WORLDS:
        problems.append(f"the number of worlds must be 1 to {MAX_WORLDS}, not {count}")
    if first_seed < 0:
        problems.append(f"the first world's seed must not be negative, and is {first_seed}")
    if not 1 <= processes <= 1024:
        problems.append(f"the number of processes must be 1 to 1024, not {processes}")
    if problems:
        raise ConfigurationError(problems)


def _verdicts(count: int, first_seed: int, processes: int) -> Iterator[list[Verdict]]:
    """Verdicts in chunks, as they come."""
    chunks = ((s, min(CHUNK, first_seed + count - s)) for s in range(first_seed, first_seed + count, CHUNK))
    if processes == 1:
        yield from (check_worlds(*chunk) for chunk in chunks)
        return
    # Not "fork": a process with threads (and numpy starts some) must not be copied as it stands.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        under_way: set[Future[list[Verdict]]] = {
            pool.submit(check_worlds, *chunk) for chunk in islice(chunks, 2 * processes)
        }
        while under_way:
            ended, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            under_way |= {pool.submit(check_worlds, *chunk) for chunk in islice(chunks, len(ended))}
            for future in ended:
                yield future.result()


def check_worlds(first_seed: int, count: int) -> list[Verdict]:
    """Verdicts of successive seeds, in this process."""
    with uncollected():
        return [check_world(seed) for seed in range(first_seed, first_seed + count)]


def _report(by_seed: dict[int, list[Verdict]], first_seed: int, processes: int, seconds: float) -> WorldsReport:
    verdicts = [verdict for start in sorted(by_seed) for verdict in by_seed[start]]
    happened = Counter(kind for verdict in verdicts for kind in verdict.happened)
    violations = [violation for verdict in verdicts for violation in verdict.violations]
    return WorldsReport(
        worlds=len(verdicts),
        first_seed=first_seed,
        processes=processes,
        seconds=seconds,
        published=sum(v.published for v in verdicts),
        failed=sum(v.failed for v in verdicts),
        events=sum(v.events for v in verdicts),
        virtual_s=sum(v.virtual_s for v in verdicts),
        coverage=tuple((kind, happened[kind]) for kind in KINDS),
        failed_seeds=tuple(verdict.seed for verdict in verdicts if verdict.violations),
        violations=tuple(violations[:MAX_VIOLATIONS]),
    )
