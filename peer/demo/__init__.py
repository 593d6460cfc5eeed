"""``susurrus demo``: the main job on one machine, with real peer processes on loopback and a real data set.

Rooms: ``cluster`` (homes, processes, kills), ``figures`` (what the summary says), ``run`` (the order of things and what
is shown meanwhile).
Neighbours: ``peer.commands.measure`` calls ``run_demo``; the peers are ordinary ``susurrus run`` processes.
Invariants: the demo reads what any user can read (``status``, ``rounds``, ``model``), nothing else; no process survives
it.
"""

from peer.demo.run import run_demo

__all__ = ["run_demo"]
