"""What people and monitors see of a running peer.

Rooms: ``logs`` (redacted lines, once for each source and kind).
Neighbours: ``peer.daemon`` sets it up; the driver and the transport feed it.
Invariants: nothing secret and no record's value leaves through it.
"""
