"""``susurrus bench``: what the secure sum costs on this machine, beside a plain sum and beside a floor.

Rooms: ``chain`` (contributions as in a large tree, and the same summed plainly), ``floor`` (the least it could cost),
``stages`` (the pieces of work that are timed), ``measure`` (CPU time, interleaved, medians), ``run`` (the grid of rows,
progress), ``table`` (output for people).
Neighbours: ``peer.commands.measure`` calls ``run_bench``; the work measured is ``protocol.aggregation.jobs``,
``protocol.wire`` and ``peer.transport``, nothing made for the bench.
Invariants: a row compares figures of one run, measured in turns, so that a drift of the machine hits all alike; the sum
that is timed is checked to be the sum.
"""

from peer.bench.run import run_bench

__all__ = ["run_bench"]
