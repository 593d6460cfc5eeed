"""A peer that ends with whoever started it."""

import os
from pathlib import Path

import pytest

from peer import lifeline
from protocol.base.errors import ConfigurationError
from tests.peer.driving import until
from tests.peer.running import Homes, running


async def test_a_peer_leaves_when_the_other_end_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setenv(lifeline.VARIABLE, str(reading))
    async with running(Homes(tmp_path).make("a")) as peer:
        assert not peer.run.done()
        os.close(writing)
        await until(peer.run.done)
        assert peer.run.result() == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading)


@pytest.mark.parametrize("text", ["", "x", "-1", "987654", str(2**80), "file"])
def test_what_is_no_pipe_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "file").open("w") as file:
        monkeypatch.setenv(lifeline.VARIABLE, str(file.fileno()) if text == "file" else text)
        with pytest.raises(ConfigurationError, match="SUSURRUS_LIFELINE: .* is not the number of a pipe"):
            lifeline.inherited()
    monkeypatch.delenv(lifeline.VARIABLE)
    assert lifeline.inherited() is None


def test_the_variable_is_among_those_that_are_known() -> None:
    from peer.config_schema import OTHER_VARIABLES

    assert lifeline.VARIABLE in OTHER_VARIABLES
