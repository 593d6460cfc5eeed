"""One round: the tree's shape, its lineage, and the machine that gathers, combines and sends.

Neighbours: ``masking`` does the ring arithmetic, ``privacy.guard`` says whether a node may contribute, ``node``
feeds it events and membership; it never asks the network itself.
Invariants: exact or nothing; a node sends at most one partial per round, and only if the guard allows it.
"""
