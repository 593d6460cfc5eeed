"""The peer service of docker-compose.yml: claims a shard by an exclusive lock and becomes ``susurrus run`` in its home.

Replicas of a service have no number.  So each takes the first shard whose lock nobody holds, and keeps its home beside
the lock: a container that is replaced goes on where one before it has stopped, and two never share a home.  A home that
is there already renews its membership with the token of now, which ``make_network.py`` replaces in time.

Neighbours: ``make_network.py`` has made token, task and shards; ``susurrus init`` and ``susurrus run`` do the rest.
Invariants: the lock is inherited by ``susurrus run``, which takes this process's place (and its process id, so that it
gets the signals); the kernel gives it back when the process ends, however it ends.

Environment: ``DATA_FILE`` (instead of a numbered shard: records of one's own, with ``DATA_SCHEMA``), ``TASK_FILE``
(/join/task.toml; no name or an empty file: bring none), ``JOIN_TOKEN`` (/join/token), ``AUDIT`` (a directory to record
to, for public data).
"""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

HOMES = Path("/homes")
SHARDS = Path("/join/shards")
TOKEN = Path(os.environ.get("JOIN_TOKEN", "/join/token"))
LINK = Path(os.environ["SUSURRUS_HOME"])
"""Where ``susurrus`` in this container looks for its home: a link to the one that was claimed."""


def main() -> None:
    """Claim, make the home if there is none yet, run."""
    own = os.environ.get("DATA_FILE")
    names = ["own"] if own else sorted(shard.stem for shard in SHARDS.glob("[0-9]*.csv"))
    name = claim(names)
    home, first = HOMES / name, name == names[0]
    if not home.exists():
        data = own or str(SHARDS / f"{name}.csv")
        make(home, data, os.environ.get("DATA_SCHEMA") or os.environ.get("DATASET", "digits"))
    elif TOKEN.exists():
        renew(home)
    LINK.unlink(missing_ok=True)
    LINK.symlink_to(home)
    task, audit = os.environ.get("TASK_FILE", "/join/task.toml"), os.environ.get("AUDIT")
    brings = first and bool(task) and Path(task).stat().st_size > 0
    print(f"peer: claimed {name}", flush=True)
    command = ["susurrus", "run", *(["--task", task] if brings else []), *(["--audit", audit] if audit else [])]
    os.execvp(command[0], command)  # noqa: S606  (our own words)


def claim(names: list[str]) -> str:
    """The first name whose lock is free; the lock stays with this process and what it becomes."""
    for name in names:
        lock = os.open(HOMES / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        os.set_inheritable(lock, True)
        return name
    sys.exit(f"peer: all {len(names)} shards are taken; start the network service with a larger SHARDS, on new volumes")


def make(home: Path, data: str, schema: str) -> None:
    """A new home, a member of the network; ends this process with the command's own sentence if it cannot be made."""
    command = ["susurrus", "init", "--home", str(home), "--token-file", str(TOKEN), "--data", data, "--schema", schema]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)  # noqa: S603  (our own words)
    if done.returncode:
        sys.exit(done.returncode)


def renew(home: Path) -> None:
    """Membership for as long as the token of now.  Whether what there is suffices is for the peer itself to say."""
    command = ["susurrus", "init", "--home", str(home), "--renew", "--token-file", str(TOKEN)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (our own words)
    if done.returncode:
        said = "the token was not accepted; going on with the membership that there is"
        print(f"{done.stderr}peer: {said}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"peer: {error.filename or ''}: {error.strerror or error}")
