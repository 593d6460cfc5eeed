"""Libraries that may be missing: each belongs to an extra of this package.

Neighbours: ``plots``, ``table`` and ``cluster`` ask for theirs.  Invariants: nothing is imported before it is needed.
"""

from importlib import import_module
from types import ModuleType

from protocol.base.errors import ConfigurationError


def found(module: str) -> ModuleType | None:
    """The module, if it is installed."""
    try:
        return import_module(module)
    except ImportError:
        return None


def needed(module: str, extra: str, purpose: str) -> ModuleType:
    """The module.  ``ConfigurationError`` says that ``purpose`` needs the extra that brings it."""
    library = found(module)
    if library is None:
        raise ConfigurationError([missing(module, extra, purpose)])
    return library


def missing(module: str, extra: str, purpose: str) -> str:
    """The sentence about a module that is not there."""
    return f"{purpose} needs {module.partition('.')[0]}: pip install 'susurrus[{extra}]'"
