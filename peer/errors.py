"""What can go wrong on this machine, as opposed to what a person wrote (``ConfigurationError``) or a stranger sent.

Neighbours: ``home``, ``storage``, ``admin_client`` and the commands raise these; ``cli`` turns each into one sentence
and exit code 1.  Invariants: the text is one human sentence that says what to do, and holds no secret.
"""


class PeerError(Exception):
    """Something on this machine prevents the work."""


class StorageError(PeerError):
    """The peer's database cannot be written or read (disk full, read-only, damaged)."""


class HomeInUseError(PeerError):
    """Another process holds the home."""


class NotRunningError(PeerError):
    """No peer runs in the home that was asked for."""
