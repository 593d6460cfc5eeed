"""What people and monitors see of a running peer.

Rooms: ``logs`` (redacted lines, once a day for each source), ``observer`` (counts), ``status`` and ``asleep`` (what
is shown in the network and away from it), ``metrics`` (for Prometheus), ``admin`` (serves it all).
Neighbours: ``peer.daemon`` sets it up; the driver and the transport feed it.
Invariants: nothing secret and no record's value leaves through it.
"""
