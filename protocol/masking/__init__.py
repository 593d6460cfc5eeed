"""Masking: numbers as ring words, seeds as streams, streams as masks.

Map: ``prg`` (a seed's keystream, added to or taken off a vector), ``ring`` (real numbers as fixed-point words modulo
2^w, and back), ``masks`` (drawing the seeds).  Published test vectors: ``tests/vectors/masking.json``.
Neighbours: ``aggregation`` adds its own value and masks with these and takes off the masks whose seeds were sealed
to it; nothing here knows of rounds, peers or messages.
Invariants: arithmetic is modulo 2^w and therefore exact, whatever the order; a sum within the planned cohort never
wraps; temporary memory stays below 1.25 MiB, whatever the dimension; no state is shared between calls (but the choice
of the quicker way to a stream), so every function may run in several threads at once (on different arrays).
"""
