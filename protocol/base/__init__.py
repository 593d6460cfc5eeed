"""The ground floor: identifiers, entropy, limits, settings and errors.

Neighbours: every other room imports this one; it imports nothing of the project.
Invariants: no clock, no operating-system randomness, no I/O; everything here is a value or a pure function.
"""
