"""The one-shot service of docker-compose.yml: makes a network, a join token, a task and numbered shards, then ends.

Neighbours: ``claim_shard.py`` beside it uses what is made; ``docker-compose.yml`` mounts the volumes.
Invariants: what is there already is left alone, so that it may run at every ``up``; the authority's key stays in a
volume that no peer mounts; files appear whole or not at all, since peers look for the last one.

Environment: ``DATASET`` (digits), ``SHARDS`` (32), ``STEPS`` (600), ``COLLUSION_THRESHOLD`` (3), ``SEED_PEER``
(peer:7390).
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

from peer.authority import create_network, load_network
from peer.entropy import SystemEntropy
from peer.files import write_atomic
from peer.learning.datasets import load_dataset
from peer.learning.readers import write_csv
from peer.learning.taskfile import task_for_dataset
from peer.learning.tasktoml import task_to_toml
from protocol.base.errors import ConfigurationError
from protocol.identity.admission import decode_token, issue_token

AUTHORITY = Path("/authority/network")
JOIN = Path("/join")
VALID_S = 90 * 86_400.0
RENEW_S = 30 * 86_400.0
"""A token that expires sooner than this is replaced."""
TEST_SHARE = 0.2


def main() -> None:
    """Make whatever is missing."""
    if not AUTHORITY.exists():
        create_network(AUTHORITY, "compose", SystemEntropy())
        print("made a network", flush=True)
    _token()
    if not (JOIN / "task.toml").exists():
        _shards()


def _token() -> None:
    file = JOIN / "token"
    if file.exists() and decode_token(file.read_text().strip()).expires > time.time() + RENEW_S:
        return
    network = load_network(AUTHORITY)
    seeds = (os.environ.get("SEED_PEER", "peer:7390"),)
    token = issue_token(network.authority, time.time(), VALID_S, seeds, SystemEntropy(), "compose")
    write_atomic(file, token.encode().encode() + b"\n", 0o600)
    print("made a join token", flush=True)


def _shards() -> None:
    data, count = load_dataset(os.environ.get("DATASET", "digits")), int(os.environ.get("SHARDS", "32"))
    order = np.random.default_rng(0).permutation(len(data.y))
    test, train = np.split(order, [int(TEST_SHARE * len(order))])
    named = {f"{i:03d}.csv": rows for i, rows in enumerate(np.array_split(train, count))} | {"test.csv": test}
    (JOIN / "shards").mkdir(exist_ok=True)
    for name, rows in named.items():
        file = JOIN / "shards" / name
        write_csv(file, data.X[rows], data.y[rows], features=data.features, target=data.target, classes=data.classes)
    task = task_for_dataset(
        data,
        steps=int(os.environ.get("STEPS", "600")),
        cohort=max(count, 4),
        collusion_threshold=int(os.environ.get("COLLUSION_THRESHOLD", "3")),
        public_data=True,
    )
    write_atomic(JOIN / "task.toml", task_to_toml(task).encode(), 0o644)
    print(f"cut {data.name} into {count} shards, test.csv and task.toml", flush=True)


if __name__ == "__main__":
    try:
        main()
    except ConfigurationError as error:
        sys.exit("\n".join(f"network: {problem}" for problem in error.problems))
