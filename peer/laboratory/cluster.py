"""Runs on a Dask cluster: the address of its scheduler is all that is needed.

Neighbours: ``work`` is what the cluster's workers do, ``runner`` chooses this engine.
Invariants: nothing is imported before a cluster is asked for; the workers need the same version of this package.

A lost worker's runs are done again by Dask, on other workers.  Whoever reaches a scheduler can have it run anything:
it belongs into a network of one's own.
"""

import logging
from collections.abc import Callable, Generator, Sequence
from typing import Any

from peer.errors import PeerError
from peer.laboratory.extras import needed
from peer.laboratory.work import KILLED, Outcome, Task, execute
from protocol.base.errors import ConfigurationError

CONNECT_S = 10.0


class DaskCluster:
    """The workers of one scheduler."""

    def __init__(self, address: str, remark: Callable[[str], None]) -> None:
        """Raises ``ConfigurationError`` if Dask is not installed; ``remark`` takes a sentence for people."""
        self.address = address
        self.connect_s = CONNECT_S
        self._remark = remark
        self._distributed: Any = needed("distributed", "cluster", "--scheduler")

    def describe(self) -> str:
        """Where it is."""
        return f"the Dask cluster at {self.address}"

    def outcomes(self, tasks: Sequence[Task]) -> Generator[Outcome, None, None]:
        """See ``work.Engine``.  A run that several workers did not survive has failed."""
        # Lost workers are told by what becomes of their runs, in sentences.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        client = self._connect()
        try:
            if not client.scheduler_info()["workers"]:
                self._remark(f"no worker is connected to {self.address} yet; waiting")
            futures = {client.submit(execute, task, key=f"susurrus-{task.id}"): task for task in tasks}
            for future in self._distributed.as_completed(list(futures), loop=client.loop):
                task = futures.pop(future)
                if future.status == "finished":
                    yield future.result()
                elif future.status != "error":  # cancelled, as every run is when the scheduler is lost
                    raise PeerError(f"the scheduler at {self.address} is gone; the same command goes on later")
                elif isinstance(error := future.exception(), self._distributed.scheduler.KilledWorker):
                    yield Outcome(task.id, [], KILLED)
                else:
                    yield Outcome(task.id, [], f"{type(error).__name__}: {' '.join(str(error).split())}")
                future.release()  # the scheduler need not keep what is in the journal
        finally:
            client.close()

    def _connect(self) -> Any:
        try:
            return self._distributed.Client(self.address, timeout=self.connect_s, set_as_default=False)
        except ValueError as error:
            problem = f"--scheduler {self.address}: {error}; it is an address such as tcp://10.0.0.1:8786"
            raise ConfigurationError([problem]) from error
        except OSError as error:  # Dask's time-outs are such errors too
            raise PeerError(f"no scheduler answers at {self.address}; start one with: dask scheduler") from error
