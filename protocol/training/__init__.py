"""What is learned: the task, the arithmetic of updates and merges, and the walks that carry a model about.

- ``task``: what is agreed on, and its encoding;  ``state``: how a model lies in one vector, its digest
- ``update``: what a published sum does to a model, merging
- ``walks``: those of one task;  ``catalogue``: all tasks held

Neighbours: uses ``masking.ring`` for the layout of a contribution; ``node`` routes rounds' results here.
Invariants: parameters are float32 in the order the model defines; ages only grow.
"""
