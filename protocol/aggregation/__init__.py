"""One round: the tree's shape, its lineage, and the machine that gathers, combines and sends.

In the order in which a round goes through them:

- ``phases``: the tables of a round's phases, and the reasons for saying no;  ``ports``: what is needed from outside
- ``shape``: children, subtrees, and who may invite whom;  ``lineage``: who stands above, signed hop by hop
- ``round``: the state of a round here;  ``opening``: how it begins, and whether an offer fits;  ``inviting``: offers
- ``combining``: from gathered partials to one that is sent;  ``jobs``: its costly work;  ``seeds``: those of a partial
- ``uses``: what a deterministic contribution uses up;  ``machine``: all rounds of this peer

Neighbours: ``masking`` does the ring arithmetic, ``privacy.guard`` says whether a node may contribute, ``node``
feeds it events and membership; it never asks the network itself.
Invariants: exact or nothing; a node sends at most one partial per round, and only if the guard allows it.
"""
