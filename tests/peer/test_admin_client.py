"""Asking a running peer: the token goes to loopback only, and every failure is a sentence."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from peer import admin_client
from peer.admin_client import ask
from peer.errors import NotRunningError, PeerError
from peer.home import create_home, open_home
from tests.peer.admin import TOKEN, Stub, running_peer


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    with running_peer(tmp_path / "home") as running:
        yield running


def test_a_question_and_its_answer(stub: Stub) -> None:
    stub.answer("/rounds?limit=3", [1, 2], X_Extra="yes")
    answer = ask(stub.home, "/rounds", limit=3, task=None)
    assert answer.json() == [1, 2]
    assert answer.headers["x-extra"] == "yes"
    assert stub.asked == [("/rounds?limit=3", f"Bearer {TOKEN}")]


def test_the_peers_own_sentence_is_passed_on(stub: Stub) -> None:
    stub.answer("/model", {"error": "this peer holds no such task"}, status=404)
    with pytest.raises(PeerError, match="^this peer holds no such task$"):
        ask(stub.home, "/model")
    stub.answer("/model", b"<html>", status=500)
    with pytest.raises(PeerError, match="HTTP status 500"):
        ask(stub.home, "/model")
    stub.answer("/model", b"", status=401)
    with pytest.raises(PeerError, match="restart the peer"):
        ask(stub.home, "/model")


def test_what_is_no_json_or_too_much_is_a_sentence(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.answer("/status", b"{")
    with pytest.raises(PeerError, match="another version"):
        ask(stub.home, "/status").json()
    monkeypatch.setattr(admin_client, "MAX_ANSWER", 3)
    stub.answer("/status", b"xxxx")
    with pytest.raises(PeerError, match="larger than 3 bytes"):
        ask(stub.home, "/status")


def test_nobody_runs(tmp_path: Path) -> None:
    create_home(tmp_path / "h", seed=bytes(32), chain=None, config="")
    with pytest.raises(NotRunningError, match="no peer runs in .*; start it with: susurrus run"):
        ask(tmp_path / "h", "/status")


def test_the_token_never_leaves_this_machine(tmp_path: Path) -> None:
    create_home(tmp_path / "h", seed=bytes(32), chain=None, config="")
    with open_home(tmp_path / "h") as home:
        home.write_admin("192.0.2.1:80", TOKEN)
        with pytest.raises(PeerError, match="not this machine") as caught:
            ask(tmp_path / "h", "/status")
        assert TOKEN not in str(caught.value)


def test_a_peer_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_home(tmp_path / "h", seed=bytes(32), chain=None, config="")
    monkeypatch.setattr(admin_client, "TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent, open_home(tmp_path / "h") as home:
        home.write_admin(f"127.0.0.1:{silent.getsockname()[1]}", TOKEN)
        with pytest.raises(PeerError, match="did not answer within"):
            ask(tmp_path / "h", "/status")
        port = silent.getsockname()[1]
        silent.close()
        home.write_admin(f"127.0.0.1:{port}", TOKEN)
        with pytest.raises(NotRunningError, match="is starting or stopping"):
            ask(tmp_path / "h", "/status")
