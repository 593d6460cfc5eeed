"""Learning on this peer: its data, its models and the numbers that it contributes.

Map: ``application`` (this peer's records and will, as the protocol asks for them), ``datasets`` (public data carried by
the package), ``readers`` and ``npz`` (a user's own files), ``preprocess`` (ranges and standardisation), ``models`` and
``mlp`` (what is trained, ``Model`` is the interface for a user's own), ``trainer`` (one peer's contributions and
evaluation), ``taskfile`` and ``tasktoml`` (tasks from TOML files and into them), ``partition`` and ``centralised`` (the
demo's shards and its yardstick).
Neighbours: reads ``protocol.training.task`` and ``protocol.base``; the driver runs what costs O(d) in threads.
Invariants: numpy only; no clock, no network; whatever a person got wrong is a ``ConfigurationError`` with one
sentence per mistake.  A peer's own configuration may name code to import, a task never does.
"""
