"""The audit: recordings of rounds over public data, and an independent check of everything they claim.

``susurrus demo --audit DIR`` makes every peer write what it held and saw; ``susurrus audit DIR`` reads nothing but
those files and says whether the sums were exact, the masks where the protocol puts them, nothing was used twice,
and whether any coalition below S could learn a value.

- ``recording``: one JSON line per peer and round (``Recorder``), and reading them back strictly.
- ``arithmetic``: ring sums and mask expansion, written again here from the specification.
- ``checks``: one round against the protocol.
- ``coalitions``: what coalitions below S learn from one round (``protocol.privacy.leakage``).
- ``leaks``: the same, and exposure to larger coalitions, for ``susurrus leakage --round``.
- ``report``: what was found, in numbers and sentences.
- ``run``: ``audit(directory, ...)``, which ties them together; checks that span rounds are there.

Invariants: the auditor trusts no code that it audits: it shares only the record's definition, the guard and the
leakage engine with the protocol, both of which have exhaustive tests of their own.  A file is never changed by
reading.  At most one round's vectors are in memory.
"""

from peer.audit.recording import Recorder, Unreadable
from peer.audit.report import AuditReport, Finding
from peer.audit.run import audit

__all__ = ["AuditReport", "Finding", "Recorder", "Unreadable", "audit"]
