"""Commands that hang, babble, fail and fork: an answer or one sentence, and never a process left behind."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from peer.power.command import Command, CommandFailed, find
from tests.peer.power.termux import Prefix, gone


def command(prefix: Prefix, text: str, *, timeout_s: float = 10.0, limit: int = 1000) -> Command:
    prefix.script("stub", text)
    return Command(str(prefix.root / "bin" / "stub"), timeout_s=timeout_s, limit=limit)


def children_of(prefix: Prefix) -> list[int]:
    """Process ids that stubs have written to ``children``."""
    file = prefix.root / "children"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


async def test_what_it_writes_comes_back(prefix: Prefix) -> None:
    assert await command(prefix, "echo '{}'; echo noise >&2").run() == b"{}\n"


async def test_it_gets_no_input(prefix: Prefix) -> None:
    assert await command(prefix, "cat; echo end").run() == b"end\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("echo '{}'; exit 3", "failed with code 3"),
        ("kill -9 $$", "failed with code -9"),
        ("exec sleep 1000", "did not answer within 0.3 s"),
        ("echo '{}'; exec sleep 1000", "did not answer within 0.3 s"),
        ("exec >&-; exec sleep 1000", "did not answer within 0.3 s"),
        ("trap '' TERM INT HUP; while :; do sleep 1; done", "did not answer within 0.3 s"),
        ("exec yes", "wrote more than 1000 bytes"),
        ("head -c 5000 /dev/zero", "wrote more than 1000 bytes"),
    ],
)
async def test_no_answer_is_one_sentence(prefix: Prefix, text: str, sentence: str) -> None:
    began = time.monotonic()
    with pytest.raises(CommandFailed, match=sentence):
        await command(prefix, text, timeout_s=0.3).run()
    assert time.monotonic() - began < 4.0


async def test_a_command_that_is_not_there_or_no_program(prefix: Prefix, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="cannot be started: no such file"):
        await Command(str(tmp_path / "nowhere")).run()
    prefix.script("stub", "")
    (prefix.root / "bin" / "stub").chmod(0o644)
    with pytest.raises(CommandFailed, match="cannot be started: permission denied"):
        await Command(str(prefix.root / "bin" / "stub")).run()


async def test_all_that_a_hanging_command_has_started_is_killed(prefix: Prefix) -> None:
    hang = command(
        prefix, f"for i in 1 2 3; do sleep 1000 & echo $! >> {prefix.root}/children; done; wait", timeout_s=0.5
    )
    with pytest.raises(CommandFailed, match="did not answer"):
        await hang.run()
    assert len(children_of(prefix)) == 3
    for pid in children_of(prefix):
        await until_gone(pid)


async def test_an_answer_counts_although_a_child_of_it_stays_and_the_child_is_killed(prefix: Prefix) -> None:
    began = time.monotonic()
    assert await command(prefix, f"sleep 1000 & echo $! > {prefix.root}/children; echo '{{}}'").run() == b"{}\n"
    assert time.monotonic() - began < 5.0
    for pid in children_of(prefix):
        await until_gone(pid)


async def until_gone(pid: int) -> None:
    """Orphans are reaped by the machine's init: wait for that, or for init to have left a zombie."""
    end = time.monotonic() + 5.0
    while not gone(pid) and time.monotonic() < end:
        if ") Z " in Path(f"/proc/{pid}/stat").read_text():
            return
        await asyncio.sleep(0.01)
    assert gone(pid)


async def test_one_child_at_a_time_however_often_it_is_asked(prefix: Prefix) -> None:
    hang = command(prefix, "exec sleep 1000", timeout_s=0.5)
    answers = await asyncio.gather(*(hang.run() for _ in range(5)), return_exceptions=True)
    assert sorted(str(answer) for answer in answers) == ["did not answer within 0.5 s"] + 4 * [
        "still hangs from the last time"
    ]
    assert len(prefix.pids()) == 1


async def test_a_cancelled_run_leaves_no_child(prefix: Prefix) -> None:
    running = asyncio.create_task(command(prefix, "exec sleep 1000").run())
    while not prefix.pids():  # noqa: ASYNC110  (nobody is told)
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert all(gone(pid) for pid in prefix.pids())


async def test_no_file_descriptor_is_left(prefix: Prefix) -> None:
    stub = command(prefix, "echo '{}'; exec >&-; exec sleep 1000", timeout_s=0.05)
    before: set[str] = set()
    for round_ in range(4):
        with pytest.raises(CommandFailed):
            await stub.run()
        await asyncio.sleep(0)
        if round_ == 0:
            before = set(os.listdir("/proc/self/fd"))
    assert len(set(os.listdir("/proc/self/fd"))) <= len(before)


def test_commands_are_found_in_the_prefix_first(prefix: Prefix, tmp_path: Path) -> None:
    prefix.script("termux-x", "")
    other = Prefix(tmp_path / "other")
    other.script("termux-x", "")
    elsewhere = {"PATH": str(other.root / "bin")}
    assert find("termux-x", elsewhere | {"PREFIX": str(prefix.root)}) == str(prefix.root / "bin" / "termux-x")
    assert find("termux-x", elsewhere) == str(other.root / "bin" / "termux-x")
    assert find("termux-x", {}) is None
    assert find("termux-y", elsewhere | {"PREFIX": str(prefix.root)}) is None
