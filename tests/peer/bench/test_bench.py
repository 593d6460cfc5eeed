"""The bench measures what it says: contributions as in a large tree, exact, over the real transport, with every key."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from peer.bench import run, table
from peer.bench.chain import Chain
from peer.bench.floor import Floor
from peer.bench.measure import medians_ms
from peer.bench.stages import Hop, seeds_by_hop
from protocol.aggregation.jobs import Absorb, AddOwn
from protocol.aggregation.shape import child_caps
from protocol.masking import masks
from protocol.wire import codec
from protocol.wire.messages import Partial
from tests.peer.terminal import terminal

KEYS = [
    "dimension", "collusion_threshold", "branching", "modulus_bits", "encode_ms", "mask_ms", "seal_ms", "open_ms",
    "combine_ms", "unmask_ms", "total_ms", "plain_ms", "floor_ms", "ratio_to_floor", "ratio_to_plain", "with_http_ms",
    "plain_with_http_ms", "ratio_to_plain_with_http", "bytes_per_contribution", "plain_bytes",
]  # fmt: skip


def make(threshold: int = 3, bits: int = 32, dimension: int = 1000) -> Chain:
    return Chain(dimension, threshold, bits, time.time())


async def walk(chain: Chain, steps: int) -> None:
    for _ in range(steps):
        await chain.secure_step(chain.direct)


# --- rows -----------------------------------------------------------------------------------------------------


async def test_a_row_has_exactly_the_keys_and_plausible_figures() -> None:
    row = await run.measure_row(650, 3, 32, 0.05)
    assert list(row) == KEYS
    assert all(row[key] > 0 for key in KEYS)
    assert row["plain_bytes"] == 2600
    assert 2600 < row["bytes_per_contribution"] <= 1.6 * 2600
    assert row["ratio_to_floor"] == pytest.approx(row["total_ms"] / row["floor_ms"], rel=0.01)
    assert row["ratio_to_plain"] == pytest.approx(row["total_ms"] / row["plain_ms"], rel=0.01)
    http = row["with_http_ms"] / row["plain_with_http_ms"]
    assert row["ratio_to_plain_with_http"] == pytest.approx(http, rel=0.01)
    assert row["with_http_ms"] > row["total_ms"]


@pytest.mark.parametrize(("bits", "share"), [(16, 0.52), (32, 1.02)])
async def test_bytes_at_a_hundred_thousand_coordinates(bits: int, share: float) -> None:
    chain = make(3, bits, 100_000)
    await walk(chain, 8)
    assert chain.envelope_bytes <= share * 400_000


def test_one_document_and_progress_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    async def row(dimension: int, threshold: int, bits: int, seconds: float) -> dict[str, Any]:
        asked.append((dimension, threshold, bits))
        return dict.fromkeys(KEYS, 1) | {"dimension": dimension}

    monkeypatch.setattr(run, "measure_row", row)
    assert run.run_bench(True) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert list(document) == ["machine", "rows"]
    assert asked == [(d, s, w) for d in (1000, 10_000, 100_000, 1_000_000) for s in (2, 3, 4) for w in (16, 32)]
    assert len(document["rows"]) == 24
    assert len(said.err.splitlines()) == 24

    assert run.run_bench(False) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    lines = text.splitlines()
    assert len({len(line) for line in lines[1:26]}) == 1
    for column in table.COLUMNS:
        assert f"  {column.heading}: {column.meaning}" in lines
    assert {column.key for column in table.COLUMNS} == {*KEYS} - {"branching"}


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shown = terminal(monkeypatch)

    async def row(*_: Any) -> dict[str, Any]:
        return dict.fromkeys(KEYS, 1)

    monkeypatch.setattr(run, "measure_row", row)
    assert run.run_bench(True) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 24
    assert "bench 24/24: d = 1000000, S = 4, w = 32\n" in shown.getvalue()
    assert "100%" in shown.getvalue()


# --- what a step does -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [2, 3, 4])
@pytest.mark.parametrize("bits", [16, 32, 64])
async def test_the_chain_is_exact(threshold: int, bits: int) -> None:
    chain = make(threshold, bits)
    for steps in (1, threshold, 12):
        await walk(chain, steps)
        await chain.check()


async def test_long_vectors_are_exact_too() -> None:
    chain = make(3, 32, 70_000)
    await walk(chain, 9)
    await chain.check()


@pytest.mark.parametrize("threshold", [2, 3, 4])
async def test_a_contribution_costs_what_it_costs_in_a_large_tree(
    threshold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeds drawn, seeds opened and seeds on an edge are the means over a binary tree of a million nodes."""
    chain = make(threshold)
    opened, drawn, carried = [], [], []
    absorb, draw, decode = Absorb.run, masks.draw, codec.decode

    def counted_absorb(self: Absorb) -> object:
        result = absorb(self)
        opened.append(len(result.seeds))
        return result

    def counted_draw(entropy: Any, count: int) -> list[bytes]:
        drawn.append(count)
        return draw(entropy, count)

    def counted_decode(plaintext: Any) -> object:
        message = decode(plaintext)
        assert isinstance(message, Partial)
        carried.append(tuple(len(group) for group in message.seeds))
        return message

    monkeypatch.setattr(Absorb, "run", counted_absorb)
    monkeypatch.setattr(masks, "draw", counted_draw)
    monkeypatch.setattr(codec, "decode", counted_decode)
    await walk(chain, 20)
    assert set(opened[threshold:]) == set(drawn) == {threshold - 1}
    assert set(carried[threshold:]) == {seeds_by_hop(threshold)}

    nodes, seeds, crossings = 0, 0, 0
    level = [(0, 1_000_000, 1)]  # depth, cap, how many alike
    while level:
        below: dict[tuple[int, int], int] = {}
        for depth, cap, alike in level:
            nodes += alike
            mine = range(2, min(depth, threshold) + 1)
            seeds += alike * len(mine)
            crossings += alike * sum(mine)
            for child in child_caps(depth, cap, 2, threshold):
                below[depth + 1, child] = below.get((depth + 1, child), 0) + alike
        level = [(depth, cap, alike) for (depth, cap), alike in below.items()]
    assert nodes == 1_000_000
    assert seeds / nodes == pytest.approx(threshold - 1, rel=1e-4)
    assert crossings / nodes == pytest.approx(sum(seeds_by_hop(threshold)), rel=1e-4)


async def test_the_same_over_the_real_transport() -> None:
    chain = make(3, 32, 100_000)  # large enough for the transport's own way with large bodies
    async with Hop(chain) as hop:
        for _ in range(7):
            await chain.secure_step(hop.carry)
            await chain.plain_step(hop.carry)
        assert hop._server.bytes_in > 12 * 400_000
    await chain.check()


async def test_the_plain_sum_grows_by_the_gradient() -> None:
    chain = make()
    sums = []

    async def carry(place: Any, envelope: bytes) -> Partial:
        partial = await chain.direct(place, envelope)
        sums.append(np.frombuffer(partial.vector, np.float32).copy())
        return partial

    for _ in range(4):
        await chain.plain_step(carry)
    for count, total in enumerate(sums, start=1):
        assert np.allclose(total, count * chain.gradient, rtol=1e-5)


@pytest.mark.parametrize("job", [AddOwn, Absorb])
async def test_work_done_twice_is_noticed(job: type, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = make()
    honest: Callable[[Any], object] = job.run  # type: ignore[attr-defined]

    def twice(self: Any) -> object:
        honest(self)
        return honest(self)

    monkeypatch.setattr(job, "run", twice)
    await walk(chain, 6)
    with pytest.raises(ArithmeticError):
        await chain.check()


# --- the floor and the clock ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_the_floor_encodes_and_adds(bits: int) -> None:
    chain = make(3, bits, 5000)
    before = chain.gradient.copy()
    floor = Floor(chain.gradient, chain.encoding, 3)
    words = floor.encode().view(f"<i{bits // 8}").astype(np.float64)
    exact = chain.gradient.astype(np.float64) * chain.encoding.levels
    assert np.abs(words - exact).max() <= 1.0 + 1e-3
    assert floor.run().shape == chain.gradient.shape
    assert np.array_equal(chain.gradient, before)


async def test_stages_take_turns_and_medians_are_per_call() -> None:
    order: list[str] = []

    def stage(name: str) -> Callable[[], Awaitable[None]]:
        async def run_it() -> None:
            order.append(name)
            end = time.process_time() + (0.004 if name == "slow" else 0.002)
            while time.process_time() < end:
                pass
            await asyncio.sleep(0)

        return run_it

    found = await medians_ms({"slow": stage("slow"), "quick": stage("quick")}, 0.0)
    assert order[:4] == ["slow", "slow", "quick", "quick"]  # warming up
    assert order[4:8] in (["slow", "quick", "slow", "quick"], ["slow", "quick", "quick", "slow"])
    assert 3.9 < found["slow"] < 8
    assert 1.9 < found["quick"] < 4
