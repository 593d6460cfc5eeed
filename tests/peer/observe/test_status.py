"""What people are shown of a running peer: where it stands, whom it knows, why it waits."""

from peer.observe.status import Evaluation, StatusBoard, peak_rss_mb
from protocol import reports
from protocol.base.errors import Refusal, Refused
from protocol.base.ids import text
from tests.peer.observe.conftest import TASK
from tests.protocol.world import World


async def test_a_peer_alone_without_task(empty_board: StatusBoard) -> None:
    status = await empty_board.status()
    assert (status["members_alive"], status["reachable"], status["gate"]) == (1, False, "on battery")
    assert status["task"] is status["age"] is status["accuracy"] is status["last_progress_seconds"] is None
    assert status["is_root"] is False
    assert status["rounds_published"] == status["rounds_failed"] == status["contributions"] == 0
    assert empty_board.peers() == []


async def test_a_peer_that_trains(board: StatusBoard, world: World) -> None:
    node = world.peers[0].node
    assert node is not None
    status = await board.status()
    assert (status["peer"], status["network"]) == (text(node.peer), text(node.network))
    assert (status["members_alive"], status["reachable"], status["gate"]) == (5, True, "open")
    assert (status["task"], status["task_id"], status["last_age"]) == ("toy", text(TASK.id), TASK.last_age)
    assert status["age"] > 0
    assert 0 <= status["last_progress_seconds"] < 2
    assert (status["bytes_in"], status["bytes_out"]) == (11, 22)
    assert status["accuracy"] is status["evaluated_age"] is status["refused"] is status["waiting"] is None


async def test_the_keys_are_the_same_with_and_without_task_but_for_the_tasks_own(
    board: StatusBoard, empty_board: StatusBoard
) -> None:
    without, with_task = set(await empty_board.status()), set(await board.status())
    assert with_task - without == {"task_id", "refused", "waiting", "last_age", "evaluated_age"}
    assert without <= with_task


async def test_an_evaluation_is_shown_with_the_age_that_it_is_of(board: StatusBoard) -> None:
    board.evaluations[TASK.id] = Evaluation(3, 0.5, 0.875)
    status = await board.status()
    assert (status["evaluated_age"], status["loss"], status["accuracy"]) == (3, 0.5, 0.875)


async def test_why_nothing_happens_is_said(board: StatusBoard) -> None:
    board.observer.report(reports.Waiting(TASK.id, 2))
    board.tallies.refusals[TASK.id] = "shard.csv cannot be read"
    status = await board.status()
    assert status["waiting"] == "waiting for 2 more peers"
    assert status["refused"] == "shard.csv cannot be read"


async def test_what_was_refused_is_one_number_for_messages_and_one_for_the_transport(
    board: StatusBoard, empty_board: StatusBoard
) -> None:
    for reason in (Refusal.MALFORMED, Refusal.MALFORMED, Refusal.REPLAYED):
        board.observer.refused("10.0.0.1", Refused(reason))
    status, empty = await board.status(), await empty_board.status()
    assert (status["messages_refused"], status["requests_refused"]) == (3, 5)
    assert (empty["messages_refused"], empty["requests_refused"]) == (0, 0)


async def test_everybody_remembered_is_listed_the_dead_too(board: StatusBoard, world: World) -> None:
    gone = world.peers[4]
    world.kill(gone)
    world.run(30.0)
    found = {peer["peer"]: peer for peer in board.peers()}
    assert found[text(world.peers[1].id)]["state"] == "alive"
    assert found[text(world.peers[1].id)]["addresses"] == ["10.0.0.1:1"]
    assert found.get(text(gone.id), {"state": "forgotten"})["state"] in ("dead", "forgotten")
    assert list(found) == sorted(found)


async def test_a_task_is_found_by_its_id_and_the_newest_without(board: StatusBoard) -> None:
    newest = board.entry(None)
    assert newest is not None
    assert newest.task == TASK
    assert board.entry(text(TASK.id)) is newest
    assert board.entry("00" * 16) is None


def test_the_memory_of_this_process_is_in_megabytes() -> None:
    assert 10 < peak_rss_mb() < 100_000
