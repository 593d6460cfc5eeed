"""The operating system's randomness behind the protocol's entropy port.

Neighbours: everything in ``peer`` that draws passes it on to ``protocol``.  Invariants: cryptographically secure;
never seeded.
"""

import os

from protocol.base.entropy import Entropy


class SystemEntropy(Entropy):
    """Entropy of a real peer."""

    def token(self, length: int) -> bytes:
        """``length`` bytes of the operating system's generator."""
        return os.urandom(length)
