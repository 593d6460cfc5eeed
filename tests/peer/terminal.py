"""Standard error on a terminal that remembers what it showed."""

import io
import sys

import pytest


class Terminal(io.StringIO):
    """What is written to a terminal; ``there`` is False for something else."""

    there = True

    def isatty(self) -> bool:
        return self.there


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """From now on; in a fixture it would be too early, as pytest puts its own capture there for the test."""
    shown = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", shown)
    return shown
