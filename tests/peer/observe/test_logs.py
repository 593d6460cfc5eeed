"""Logs: no secret, no flood."""

import errno
import io
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from peer.observe.logs import LoopErrors, RefusalLog, redact, set_up_logs
from peer.transport.once import MAX_A_DAY
from protocol.base.entropy import SeededEntropy
from protocol.base.errors import Refusal, Refused
from protocol.identity.admission import Authority, issue_token
from protocol.identity.keys import SigningKey

SECRET = "0123456789abcdef" * 4
TOKEN = issue_token(Authority(SigningKey(bytes(32))), 0.0, 1000.0, (), SeededEntropy(1)).encode()


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in ("asyncio", "aiohttp.access", "aiohttp.server")}
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


@pytest.mark.parametrize(
    "text",
    [
        f"token {TOKEN}.",
        f"seed={SECRET}",
        f"0x{SECRET.upper()}",
        f"key:{SECRET}{SECRET}",
        "Authorization: Bearer abc.def",
    ],
)
def test_secrets_are_redacted(text: str) -> None:
    clean = redact(text)
    assert "[redacted]" in clean
    for secret in (TOKEN, SECRET, SECRET.upper(), "abc.def", TOKEN[-20:]):
        assert secret not in clean


def test_ids_are_not_secrets() -> None:
    peer = "00112233445566778899aabbccddeeff"
    assert redact(f"peer {peer}, peer {peer}") == f"peer {peer}, peer {peer}"


@pytest.mark.parametrize("form", ["plain", "json"])
def test_a_traceback_only_for_who_asks(stream: io.StringIO, form: str) -> None:
    for tracebacks in (False, True):
        set_up_logs("info", form, stream=stream, tracebacks=tracebacks)
        try:
            raise ValueError(f"first line\n{SECRET}")
        except ValueError:
            logging.getLogger("peer.test").exception("failed")
        assert ("Traceback" in stream.getvalue()) is tracebacks
        assert "ValueError: first line" in stream.getvalue()
        assert ("add --debug" in stream.getvalue().splitlines()[-1]) is not tracebacks
        assert SECRET not in stream.getvalue()


@pytest.mark.parametrize("form", ["plain", "json"])
def test_lines(stream: io.StringIO, form: str) -> None:
    set_up_logs("info", form, stream=stream, tracebacks=True)
    log = logging.getLogger("peer.test")
    log.debug("not this")
    log.info("a %s b", SECRET)
    try:
        raise ValueError(f"first line\n{SECRET} {TOKEN}")
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    assert SECRET not in text
    assert TOKEN not in text
    assert "not this" not in text
    if form == "json":
        first, second = map(json.loads, text.splitlines())
        assert (first["level"], first["logger"], first["message"]) == ("info", "peer.test", "a [redacted] b")
        assert first["time"].endswith("Z")
        assert "ValueError: first line" in second["error"]
    else:
        assert "INFO    peer.test: a [redacted] b\n" in text
        assert "Traceback" in text


def test_setting_up_twice_does_not_double_lines(stream: io.StringIO) -> None:
    for _ in range(2):
        set_up_logs("warning", "plain", stream=stream)
    logging.getLogger("peer.test").info("quiet")
    logging.getLogger("aiohttp.access").info("chatter")
    logging.getLogger("peer.test").warning("loud")
    assert stream.getvalue().count("\n") == 1


def test_too_many_open_files_are_one_sentence_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, others = [1000.0], list[dict[str, Any]]()
    monkeypatch.setattr("peer.observe.logs.time.monotonic", lambda: now[0])
    loop = SimpleNamespace(default_exception_handler=others.append)
    handler = LoopErrors()
    full = {"message": "socket.accept() out of system resource", "exception": OSError(errno.EMFILE, "too many")}
    for _ in range(3):
        for _ in range(1000):
            handler(loop, full)  # type: ignore[arg-type]
        now[0] += 30
    assert [record.exc_info for record in caplog.records] == [None, None]
    assert "too many open files" in caplog.text
    for context in ({"message": "a bug"}, {"exception": ValueError()}, {"exception": OSError(errno.ENOSPC, "full")}):
        handler(loop, context)  # type: ignore[arg-type]
        assert others.pop() is context


def test_refusals_are_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    log = RefusalLog(logging.getLogger("peer.test"))
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            log.refused("10.0.0.1:7", Refused(Refusal.MALFORMED, "header"))
        log.refused("10.0.0.2:7", Refused(Refusal.MALFORMED))
        log.refused("10.0.0.1:7", Refused(Refusal.REPLAYED))
        log.refused("10.0.0.1:7", Refused(Refusal.BAD_SIGNATURE))
    assert len(caplog.records) == 3
    assert "refused a message from 10.0.0.1:7: the bytes are not a well-formed message (header)" in caplog.text
    assert log.counts == {"MALFORMED": 6, "BAD_SIGNATURE": 1, "REPLAYED": 1}


@pytest.mark.parametrize("reason", Refusal)
def test_what_honest_peers_make_good_by_themselves_is_no_warning(
    caplog: pytest.LogCaptureFixture, reason: Refusal
) -> None:
    with caplog.at_level(logging.INFO):
        RefusalLog(logging.getLogger("peer.test")).refused("10.0.0.1:7", Refused(reason))
    mended = reason.name in ("UNKNOWN_SENDER", "UNKNOWN_EPOCH", "REPLAYED")
    assert [record.levelname for record in caplog.records] == ["INFO" if mended else "WARNING"]


def test_a_stranger_with_many_addresses_is_one_source_and_many_strangers_do_not_fill_the_disk(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = RefusalLog(logging.getLogger("peer.test"))
    for i in range(50):
        log.refused(f"2001:db8:1:2::{i:x}", Refused(Refusal.MALFORMED))
    assert len(caplog.records) == 1
    for i in range(MAX_A_DAY + 50):
        log.refused(f"2001:db8:2:{i:x}::1", Refused(Refusal.MALFORMED))
    assert len(caplog.records) == MAX_A_DAY
    assert log.counts == {"MALFORMED": MAX_A_DAY + 100}


@pytest.mark.parametrize("form", ["plain", "json"])
def test_a_strangers_text_begins_no_line_and_moves_no_cursor(stream: io.StringIO, form: str) -> None:
    set_up_logs("info", form, stream=stream)
    logging.getLogger("peer.test").info("task '%s': takes part", "x\n2030-01-01 peer: all is well\r\x1b[2Jy")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert not any(c in lines[0] for c in "\r\x1b")
