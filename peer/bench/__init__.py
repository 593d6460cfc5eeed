"""``susurrus bench``: what the secure sum costs on this machine, beside a plain sum and beside a floor.

Rooms: ``stages`` (the pieces of work, each as peers run it), ``measure`` (CPU time, interleaved, medians), ``run`` (the
grid of rows, progress, output).
Neighbours: ``peer.commands.measure`` calls ``run_bench``; the work measured is ``protocol.aggregation.jobs``,
``protocol.wire`` and ``peer.transport``, nothing made for the bench.
Invariants: every ratio compares figures of one run, measured in turns, so that a drift of the machine hits all alike.
"""

from peer.bench.run import run_bench

__all__ = ["run_bench"]
