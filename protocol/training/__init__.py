"""What is learned: the task, the arithmetic of updates and merges, and the walks that carry a model about.

Neighbours: uses ``masking.ring`` for the layout of a contribution; ``node`` routes rounds' results here.
Invariants: parameters are float32 in the order the model defines; ages only grow.
"""
