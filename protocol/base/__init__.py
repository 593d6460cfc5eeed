"""The ground floor: identifiers, entropy, limits, settings and errors.

``ids``, ``errors``, ``entropy`` (the port), ``limits`` (on strangers), ``settings`` (of a peer), ``printing``
(what others have written, for people).

Neighbours: every other room imports this one; it imports nothing of the project.
Invariants: no clock, no operating-system randomness, no I/O; everything here is a value or a pure function.
"""
