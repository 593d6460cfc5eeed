"""The user's side of a running peer: which tasks it agrees to, and contributions from its own records.

Neighbours: implements ``protocol.application.Application`` for ``protocol.node``; ``readers`` and ``trainer`` do the
work, ``peer.session`` calls ``load`` in a thread when a task is adopted, ``peer.config`` says what the user wants.
Invariants: records are read once, outside the event loop, for all tasks that take the same columns in the same ranges,
and held once for all of them; until they are, and wherever they cannot be, this peer has none; what cannot be read is
said in one sentence and never half-used, and the sentence quotes no record unless a person has typed the command that
asked for it.  Whether records fit a task is seen by its submitter: so strangers may choose the columns and labels of a
schema once; chosen again and again, the answers would tell what stands in a file.
"""

import hashlib
import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from peer.config import Config, DataBinding
from peer.config_schema import ANYBODY
from peer.learning.models import model_for
from peer.learning.readers import Table, read_table
from peer.learning.trainer import Learner, taken
from protocol.application import Contribution, Freshness
from protocol.base.entropy import Entropy, SeededEntropy
from protocol.base.errors import ConfigurationError
from protocol.base.ids import PeerId, TaskId
from protocol.identity.keys import peer_id
from protocol.training import state
from protocol.training.task import RoundKind, Task
from protocol.wire.messages import Checkpoint

log = logging.getLogger("susurrus.learning")

HOUR_S = 3600.0


def question(task: Task, binding: DataBinding) -> dict[bytes, bytes]:
    """What a task chooses of a file: features, target and labels, as far as the configuration does not name them.

    A key for each that says that it was chosen, and one that says how.  Both are kept among what is used up for good
    (``protocol.aggregation.uses``).
    """
    parts = {
        "features": (binding.features, task.features),
        "target": (binding.target, task.target),
        "classes": (binding.classes, task.classes),
    }
    found = {}
    for part, (named, asked) in parts.items():
        if not named:
            some = b"question" + task.schema.encode() + b"\0" + part.encode()
            found[some] = some + b"\0" + hashlib.sha256(json.dumps(asked).encode()).digest()
    return found


@dataclass(frozen=True, slots=True)
class ContributionJob:
    """Computes one contribution from a fresh sample."""

    learner: Learner
    kind: RoundKind
    checkpoint: Checkpoint
    entropy: Entropy

    @property
    def cost_bytes(self) -> int:
        """Model and sample, forwards and backwards."""
        task = self.learner.task
        return 8 * (task.dimension + task.batch_per_peer * len(task.features))

    def run(self) -> Contribution:
        """Sample, gradient, clip."""
        task = self.learner.task
        return self.learner.contribute(
            self.kind,
            state.parameters(task, self.checkpoint),
            state.statistics(task, self.checkpoint),
            self.entropy,
        )


def read_bound(task: Task, binding: DataBinding, *, labels: bool = True, quotes: bool = True) -> Table:
    """The records of a task in a peer's own file, read as the configuration says; without ``labels``, ``y`` is zeros.

    Raises ``ConfigurationError``, which quotes values of the file only with ``quotes``.
    """
    features = binding.features or task.features
    if len(features) != len(task.features):
        raise ConfigurationError(
            [f"data.{task.schema}.features names {len(features)} columns, the task has {len(task.features)}"]
        )
    return read_table(
        binding.path,
        target=(binding.target or task.target) if labels else None,
        features=features,
        classes=task.classes or None,
        format=None if binding.format == "auto" else binding.format,
        quotes=quotes,
    )


class LocalApplication:
    """Tasks and records of one peer.

    ``clock`` gives Unix seconds; ``split_seed`` keeps the held-out split stable; ``recording``: rounds are recorded for
    an audit, in the clear; ``own``: this peer, whose user may ask his own records what he likes.
    """

    def __init__(
        self,
        config: Config,
        entropy: Entropy,
        split_seed: bytes,
        clock: Callable[[], float],
        *,
        recording: bool = False,
        own: PeerId | None = None,
    ) -> None:
        self._config = config
        self._own = own
        self._asked: set[bytes] = set()
        """What the tasks that this peer takes part in have chosen, also those of before: keys of ``question``."""
        self._recording = recording
        self._entropy = entropy
        self._split_seed = hashlib.sha256(b"susurrus held-out split\0" + split_seed).digest()
        self._clock = clock
        self._learners: dict[TaskId, Learner] = {}
        self._lock = threading.Lock()
        self._contributed: deque[float] = deque()
        self.closed: str | None = None
        """Why the power gate is closed, or None; ``peer.daemon`` keeps it."""

    # --- the port ---------------------------------------------------------------------------------------------

    def freshness(self, task: Task) -> Freshness:
        """Whether records are bound and read, and whether they differ."""
        learner = self._learners.get(task.id)
        if learner is None:
            return Freshness.NONE
        return Freshness.DETERMINISTIC if learner.deterministic else Freshness.FRESH

    def accepts(self, task: Task, submitter_key: bytes) -> str | None:
        """The user's own limits; and whoever records takes part in nothing that it must not record."""
        if self._recording and not task.public_data:
            return "--audit records values, and it does not say public_data = true"
        limits = self._config.limits
        submitter = peer_id(submitter_key)
        if limits.submitters != (ANYBODY,) and submitter.hex() not in limits.submitters:
            return "limits.submitters does not name who submitted it"
        if task.collusion_threshold < limits.collusion_threshold:
            return f"its collusion threshold {task.collusion_threshold} is below limits.collusion_threshold"
        if task.minimum_cohort < limits.minimum_cohort:
            return f"its minimum cohort {task.minimum_cohort} is below limits.minimum_cohort"
        binding = self._config.data.get(task.schema)
        if binding is None:
            return f"no data is bound to its schema: config.toml has no [data.{task.schema}]"
        if binding.classes and set(binding.classes) != set(task.classes):
            return f"its classes are not those of config.toml's [data.{task.schema}]"
        trusted = limits.submitters != (ANYBODY,) or submitter == self._own
        chosen = question(task, binding).items()
        if not trusted and any(some in self._asked and this not in self._asked for some, this in chosen):
            return (
                f"it asks other columns or classes of the schema '{task.schema}' than the first task did; name"
                f" features, target and classes in [data.{task.schema}], or limits.submitters"
            )
        return None

    def adopted(self, task: Task) -> None:
        """From now on strangers' tasks of its schema ask the same."""
        self._asked |= set(self.question(task))

    def gate(self) -> str | None:
        """Open unless the power gate is closed or the hourly allowance is used up."""
        if self.closed is not None:
            return f"closed: {self.closed}"
        allowance = self._config.limits.rounds_per_hour
        if not allowance:
            return None
        now = self._clock()
        while self._contributed and not now - HOUR_S <= self._contributed[0] <= now:  # later: the clock was set back
            self._contributed.popleft()
        return "the hourly allowance of rounds is used up" if len(self._contributed) >= allowance else None

    def contribution_job(self, task: Task, kind: RoundKind, checkpoint: Checkpoint) -> ContributionJob:
        """A job for a thread: it gets entropy of its own."""
        return ContributionJob(self._learners[task.id], kind, checkpoint, SeededEntropy(self._entropy.token(32)))

    # --- for the session --------------------------------------------------------------------------------------

    def recall(self, uses: Iterable[bytes]) -> None:
        """What was used up before a restart."""
        self._asked |= {key for key in uses if key.startswith(b"question")}

    def question(self, task: Task) -> tuple[bytes, ...]:
        """What an accepted task has used up once anybody can see whether the records fit it."""
        binding = self._config.data.get(task.schema)
        return () if binding is None else tuple(key for pair in question(task, binding).items() for key in pair)

    def contributed(self) -> None:
        """A contribution has left: it counts towards the allowance."""
        if self._config.limits.rounds_per_hour:
            self._contributed.append(self._clock())

    def load(self, task: Task, *, quotes: bool = False) -> None:
        """Bind the records of a task, read if they have not been.  Slow: call in a thread.  Raises
        ``ConfigurationError``.

        ``quotes``: its sentences may tell what a cell says, for a task that was introduced here; a stranger's would
        choose which columns are shown.  Whatever else a stranger's task provokes in a model class of the user's own is
        one too, and ends no peer.
        """
        try:
            self._load(task, quotes)
        except ConfigurationError:
            raise
        except Exception as error:  # its text may quote a record: the type must do
            raise ConfigurationError([f"{type(error).__name__} in model '{task.model}' or its records"]) from error

    def forget(self, task: TaskId) -> None:
        """This peer holds a task no more."""
        with self._lock:
            self._learners.pop(task, None)

    def _load(self, task: Task, quotes: bool) -> None:
        binding = self._config.data.get(task.schema)
        if binding is None:
            raise ConfigurationError([f"config.toml binds no data to the schema '{task.schema}' of task '{task.name}'"])
        model = model_for(task, self._config.models)
        with self._lock:
            held = next((held for held in self._learners.values() if taken(held.task) == taken(task)), None)
        if held is not None:
            learner = held.also(task, model)
        else:
            table = read_bound(task, binding, quotes=quotes)
            split = SeededEntropy(self._split_seed + task.schema.encode())
            learner = Learner(task, model, table.X, table.y, entropy=split)
        with self._lock:
            self._learners[task.id] = learner

    def evaluate(self, task: Task, checkpoint: Checkpoint) -> tuple[float, float] | None:
        """(loss, accuracy) of a model on this peer's held-out records; None without records.  For a thread.

        None also where the model class raises: parameters come from others, and no evaluation is worth the peer.
        """
        learner = self._learners.get(task.id)
        if learner is None or not learner.held_out_records:
            return None
        try:
            return learner.evaluate(state.parameters(task, checkpoint), state.statistics(task, checkpoint))
        except Exception as error:  # its text may quote a record: the type must do
            log.warning("task '%s': its newest model cannot be evaluated (%s)", task.name, type(error).__name__)
            return None
