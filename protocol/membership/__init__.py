"""Who is there: gossip peer sampling and failure detection.

``view`` holds a bounded set of signed descriptors and samples it, ``detector`` keeps the timers of probes and
suspicions, ``reach`` knows to whom this peer can talk, ``judging`` decides what it believes of the others, ``rumours``
counts how often a piece of news was passed on, ``bulletin`` chooses what a message says, ``dialling`` when to ask the
seeds; ``machine.Membership`` composes them.

Neighbours: ``node`` feeds it authentic messages and carries the model heads that travel along; ``aggregation`` and
``training`` are given its samples by ``node``, never the machine itself.
Invariants: everything a stranger can make it store is bounded; the traffic of a peer per period does not depend on
the size of the network; only a descriptor signed by the peer itself can bring a dead peer back.
"""

from protocol.membership.machine import Membership
from protocol.membership.view import Liveness

__all__ = ["Liveness", "Membership"]
