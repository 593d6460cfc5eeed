"""What a peer must not forget: one SQLite database in its home.

Rooms: ``database`` (the file: checks, schema, one thread), ``store`` (what is kept, as the driver asks for it),
``history`` (rounds and totals, for people).
Neighbours: ``peer.driver`` carries out all the persisting and saving effects of ``protocol.effects`` with it.
Invariants: what is awaited is durable when the call returns; a damaged file is refused and left as it is.
"""

from peer.storage.store import Storage

__all__ = ["Storage"]
