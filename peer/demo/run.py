"""The order of a demo: prepare, start, watch, kill if asked to, wait for everybody, sum up, clean up.

Neighbours: ``cluster`` has the processes, ``figures`` the summary, ``peer.options`` what was asked for.
Invariants: progress goes to standard error, the summary alone to standard output; everything drawn at random here
follows from one seed, which is printed.
"""

import asyncio
import contextlib
import json
import math
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from peer import progress
from peer.demo import figures
from peer.demo.cluster import Cluster, DemoFailed, Member
from peer.files import use_directory
from peer.learning.centralised import train_test_split
from peer.learning.datasets import DATASETS, Dataset, dataset_from_file, load_dataset
from peer.learning.partition import partition
from peer.learning.taskfile import task_for_dataset
from peer.learning.tasktoml import task_to_toml
from peer.options import DemoOptions
from peer.storage.history import MAX_ROUNDS
from protocol.training.task import Task

ENDLESS_STEPS = 1_000_000
"""Steps of a task that stops by accuracy or time."""
SETTLE_S = 30.0
"""After the last step everybody has this long to have the newest model."""
STALL_S = 120.0
"""A demo without progress for this long gives up."""
MINIMUM_RECORDS = 8
LINE_EVERY_S = 2.0
WATCH_EVERY_S = 0.5
"""Every peer is asked this often: often enough to see the end, seldom enough not to weigh on the figures."""


def run_demo(options: DemoOptions) -> int:
    """Run the demo; prints the summary and returns the exit code."""
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    with _ended_as_interrupted():
        return _run_demo(options, seed)


def _run_demo(options: DemoOptions, seed: int) -> int:
    root = Path(tempfile.mkdtemp(prefix="susurrus-demo-"))
    try:
        demo = Demo(options, seed, root)
        try:
            result = asyncio.run(demo.run())
        except DemoFailed as error:
            _say(f"the demo failed: {error}")
            return 1
    finally:
        if options.keep:
            _say(f"homes and logs are kept in {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
    if options.json:
        print(json.dumps(result), flush=True)
    else:
        _print_summary(result)
    return 1 if result["tracebacks"] else 0


@contextlib.contextmanager
def _ended_as_interrupted() -> Iterator[None]:
    """Whoever ends the demo (``kill``, a terminal that is closed) gets what Ctrl-C gets: no process survives it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)  # asyncio turns it into a cancellation

    before = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) == signal.SIG_DFL
    }
    # a shell's background job ignores SIGINT, which must not make it deaf to the others
    if before and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Demo:
    """One demo from start to summary."""

    options: DemoOptions
    seed: int
    root: Path
    killed: int = 0
    _rng: np.random.Generator = field(init=False)
    _told: figures.History = field(default_factory=figures.History)
    _progressed: float = field(default_factory=time.monotonic)
    _furthest: int = -1

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    async def run(self) -> dict[str, Any]:
        """Everything; the summary."""
        options = self.options
        data = _load(options.dataset)
        train, test = train_test_split(len(data.y), self._rng)
        parts = partition(data.y[train], options.peers, options.partition, self._rng, MINIMUM_RECORDS)
        task = self._task(data)
        audit = options.audit
        if audit is not None:
            use_directory(audit, "--audit", empty=True)
        cluster = Cluster(self.root, task, audit)
        cluster.prepare(data, [train[part] for part in parts])
        task_file = self.root / "task.toml"
        task_file.write_text(task_to_toml(task))
        try:
            begun = time.monotonic()
            await self._start(cluster, task_file)
            startup, cpu = time.monotonic() - begun, sum(m.total("cpu_seconds") for m in cluster.members)
            with progress.bar(1.0 if options.target_accuracy is None else None) as bar:
                bar.about("training")
                await self._train(cluster, data, test, bar)
            await self._settle(cluster)
            await self._told.gather(cluster)
            scores = await figures.accuracies(cluster, task, data, test)
        finally:
            await cluster.close()
        _say("training the same model on the pooled records, for comparison")
        steps = figures.steps_published(cluster, self._told) // task.walks
        central = figures.centralised_accuracy(task, data, train, test, max(1, steps), options.peers, self.seed)
        return figures.summary(
            options, cluster, self._told, scores, central,
            startup_seconds=startup, killed=self.killed, cpu_before=cpu, seed=self.seed,
        )  # fmt: skip

    def _task(self, data: Dataset) -> Task:
        options = self.options
        # several walks merge where they meet, and ages jump: then the steps published are counted instead
        steps = options.steps if options.steps is not None and options.walks == 1 else ENDLESS_STEPS
        return task_for_dataset(
            data,
            collusion_threshold=options.collusion_threshold,
            branching=options.branching,
            cohort=options.cohort or max(options.peers, options.collusion_threshold + 1),
            modulus_bits=options.modulus_bits,
            steps=steps,
            walks=options.walks,
            public_data=True,
            initial_seed=self.seed,
        )

    async def _start(self, cluster: Cluster, task_file: Path) -> None:
        """Everybody but one finds each other; the last one brings the task, so that the first round has all of them."""
        options, members = self.options, cluster.members
        _say(f"starting {options.peers} peers, seed {self.seed}, logs in {self.root}")
        await cluster.start(members[0])
        await cluster.ready(members[0])
        for member in members[1:-1]:
            await cluster.start(member)
        await asyncio.gather(*(cluster.ready(member) for member in members[1:-1]))
        await self._until(cluster, lambda m: m.status.get("members_alive", 0) >= len(members) - 1, members[:-1])
        await cluster.start(members[-1], introduce=task_file)
        await cluster.ready(members[-1])

    async def _until(self, cluster: Cluster, holds: Callable[[Member], bool], members: list[Member]) -> None:
        end = time.monotonic() + STALL_S
        while not all(holds(member) for member in members):
            if time.monotonic() > end:
                raise DemoFailed("the peers did not find each other")
            await asyncio.sleep(0.1)
            await cluster.ask_all()

    # --- while it trains --------------------------------------------------------------------------------------

    async def _train(self, cluster: Cluster, data: Dataset, test: figures.Rows, bar: progress.Progress) -> None:
        begun = time.monotonic()
        self._progressed, next_line, next_kill = begun, begun + LINE_EVERY_S, self._next_kill(begun)
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            await cluster.ask_all()
            await self._told.gather(cluster, unread=MAX_ROUNDS // 2)
            now = time.monotonic()
            if now >= next_line:
                next_line = now + LINE_EVERY_S
                await self._show(cluster, now - begun)
            bar.move(self._share(cluster, now - begun))
            if await self._done(cluster, data, test, now - begun):
                return
            if now - self._progressed > STALL_S:
                raise DemoFailed(f"no progress for {STALL_S:.0f} s")
            if now >= next_kill:
                next_kill = self._next_kill(now)
                await self._kill_one(cluster)
            for member in cluster.members:
                if not member.alive:
                    raise DemoFailed(f"peer {member.index} ended by itself: {cluster.last_words(member)}")

    async def _done(self, cluster: Cluster, data: Dataset, test: figures.Rows, elapsed: float) -> bool:
        options = self.options
        ages = [int(m.status.get("age") or 0) for m in cluster.members]
        if max(ages) > self._furthest:
            self._furthest, self._progressed = max(ages), time.monotonic()
        if options.target_accuracy is not None:
            scores = await figures.accuracies(cluster, cluster.task, data, test)
            return bool(scores) and float(np.mean(scores)) >= options.target_accuracy
        return self._share(cluster, elapsed) >= 1.0

    def _share(self, cluster: Cluster, elapsed: float) -> float:
        """How much of its seconds or steps is over."""
        options, task = self.options, cluster.task
        if options.seconds is not None:
            return elapsed / options.seconds
        if options.steps is not None and options.walks > 1:
            published = sum(int(m.status.get("rounds_published") or 0) for m in cluster.members)
            return published / (options.steps + options.walks * task.statistics_rounds)
        return max(int(m.status.get("age") or 0) for m in cluster.members) / task.last_age

    async def _show(self, cluster: Cluster, elapsed: float) -> None:
        ages = sorted(int(m.status.get("age") or 0) for m in cluster.members)
        scores = [m.status["accuracy"] for m in cluster.members if m.status.get("accuracy") is not None]
        accuracy = f"{np.mean(scores):.3f}" if scores else "-"
        last = cluster.task.last_age
        goal = f"/{last}" if last < ENDLESS_STEPS else ""
        waiting = next((m.status["waiting"] for m in cluster.members if m.status.get("waiting")), None)
        _say(
            f"{elapsed:5.1f} s  step {ages[-1]}{goal}  {ages[-1] / elapsed:5.1f} steps/s  "
            f"peers' own held-out accuracy {accuracy}" + (f"  killed {self.killed}" if self.killed else "")
            + (f"  ({waiting})" if waiting else "")
        )  # fmt: skip

    # --- kills ------------------------------------------------------------------------------------------------

    def _next_kill(self, now: float) -> float:
        rate = self.options.kill
        return now + float(self._rng.exponential(60.0 / rate)) if rate > 0 else math.inf

    async def _kill_one(self, cluster: Cluster) -> None:
        """SIGKILL a random peer and start it again in its home."""
        member = cluster.members[int(self._rng.integers(len(cluster.members)))]
        await cluster.kill(member)
        self.killed += 1
        await cluster.start(member)
        await cluster.ready(member)

    async def _settle(self, cluster: Cluster) -> None:
        """Everybody gets the newest model by gossip."""
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end:
            await cluster.ask_all()
            ages = [int(m.status.get("age") or 0) for m in cluster.members]
            if cluster.task.steps == ENDLESS_STEPS or min(ages) >= cluster.task.last_age:
                return
            await asyncio.sleep(0.1)


def _load(name: str) -> Dataset:
    path = Path(name)
    is_file = name not in DATASETS and (path.suffix or path.exists())
    return dataset_from_file(path) if is_file else load_dataset(name)


def _say(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(line, file=sys.stderr, flush=True)


def _print_summary(result: dict[str, Any]) -> None:
    width = max(len(key) for key in result) + 2
    for key, value in result.items():
        print(f"{key:<{width}}{value:.4f}" if isinstance(value, float) else f"{key:<{width}}{value}")
