"""The little of TOML that is written here (the standard library only reads it).

Neighbours: ``authority`` and ``commands.init``.  Invariants: what it writes, ``tomllib`` reads back equal.
"""

import json
import re
from collections.abc import Iterable

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def quoted(value: str) -> str:
    """``value`` as a TOML string."""
    # JSON's strings are TOML's but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def listed(values: Iterable[str]) -> str:
    """``values`` as a TOML array of strings."""
    return f"[{', '.join(map(quoted, values))}]"


def key(name: str) -> str:
    """``name`` as a TOML key."""
    return name if _BARE.fullmatch(name) else quoted(name)
