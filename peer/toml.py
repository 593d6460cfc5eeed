"""The little of TOML that is written here, and reading it with every mistake a sentence.

Neighbours: ``authority`` and ``commands.init`` write; ``config``, ``learning.taskfile`` and ``laboratory.experiment``
read.  Invariants: what it writes, ``tomllib`` reads back equal.
"""

import json
import re
import tomllib
from collections.abc import Iterable
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def parsed(source: str) -> dict[str, Any]:
    """The document that ``source`` is.  Raises ``ValueError`` with one sentence."""
    try:
        document = tomllib.loads(source)
        repr(document)  # Python reads hexadecimal numbers that it could not show in a message
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError:  # of the limits of Python's own
        raise ValueError("a number in it has thousands of digits") from None
    return document


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
