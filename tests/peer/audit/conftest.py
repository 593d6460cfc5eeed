"""A small simulator of recorded rounds, and a directory of honest recordings to tamper with.

It shares the mask stream with the protocol (``protocol.masking.prg``) and nothing with the audit, so that clean
recordings also say that the audit's own arithmetic agrees with the protocol's.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peer.audit.recording import encode_record
from protocol.base.entropy import Entropy, SeededEntropy
from protocol.base.ids import PeerId, RoundId
from protocol.masking.prg import add_masks
from protocol.privacy.guard import may_contribute
from protocol.privacy.record import RoundRecord

TAKEN, LATE, SILENT = "taken", "late", "silent"


def peer_name(i: int) -> PeerId:
    return PeerId(bytes([0xA0 + i]) * 16)


def round_name(i: int) -> RoundId:
    return RoundId(bytes([0x10 + i]) * 16)


@dataclass
class Scene:
    """One round to simulate.  ``parents[i]`` is the parent of node ``i + 1``; fates are of the partials sent."""

    parents: Sequence[int]
    s: int = 3
    bits: int = 32
    dimension: int = 5
    fates: dict[int, str] = field(default_factory=dict)
    """Node -> what becomes of its partial, where not TAKEN."""
    guarded: bool = True
    trustees: Callable[[tuple[PeerId, ...], int], tuple[PeerId, ...]] = lambda up, s: up[1:s]
    seed_of: Callable[[int, int], bytes] | None = None
    """Instead of a fresh seed: from (contributor, trustee) as nodes."""
    value_of: Callable[[int], bytes] | None = None
    seats: Sequence[int] | None = None
    """Which peer sits at which node."""

    def play(self, number: int, entropy: Entropy) -> list[RoundRecord]:
        """Every peer's record; peers that sent nothing leave one too (they abstained)."""
        size = len(self.parents) + 1
        seats = self.seats or range(size)
        names = [peer_name(i) for i in seats]
        word = np.dtype(f"<u{self.bits // 8}")
        records: dict[int, RoundRecord] = {}
        inside: dict[int, list[int]] = {}
        for node in reversed(range(size)):
            chain = self._chain(node)
            up = tuple(names[a] for a in chain[: self.s])
            children = [i + 1 for i, p in enumerate(self.parents) if p == node]
            arrived = [c for c in children if records[c].sent]
            taken = [c for c in arrived if self.fates.get(c, TAKEN) == TAKEN]
            below = [n for c in taken for n in inside[c]]
            opened = {
                names[n]: records[n].masks[names[node]] for n in below if names[node] in records[n].masks
            }  # fmt: skip
            allowed = may_contribute(len(chain), self.s, len(taken), len(opened)) or not self.guarded
            goes = allowed and self.fates.get(node, TAKEN) != SILENT
            value = self.value_of(node) if self.value_of else entropy.token(self.dimension * word.itemsize)
            masks = {
                t: self.seed_of(node, list(names).index(t)) if self.seed_of else entropy.token(32)
                for t in self.trustees(up, self.s)
            }
            vector = np.frombuffer(value, dtype=word).copy()
            for c in taken:
                vector += np.frombuffer(records[c].sent_vector or b"", dtype=word)
            add_masks(vector, [bytes(m) for m in masks.values()], [bytes(m) for m in opened.values()])
            inside[node] = [node, *below]
            is_root = node == 0
            records[node] = RoundRecord(
                round=round_name(number),
                peer=names[node],
                parent=None if is_root else names[chain[0]],
                ancestors=up,
                collusion_threshold=self.s,
                modulus_bits=self.bits,
                contributed=goes,
                sent=goes and not is_root,
                children=tuple(names[c] for c in taken) if goes else (),
                value=value if goes else None,
                masks=masks if goes else {},
                opened=opened,
                received={names[c]: records[c].sent_vector or b"" for c in arrived},
                sent_vector=vector.tobytes() if goes and not is_root else None,
                cohort=len(inside[node]) if goes else 0,
                total=vector.tobytes() if goes and is_root else None,
                published=goes and is_root,
            )
        return [records[node] for node in range(size)]

    def _chain(self, node: int) -> list[int]:
        chain = []
        while node:
            node = self.parents[node - 1]
            chain.append(node)
        return chain


TREE = (0, 1, 1, 2, 2, 3, 3, 3)
"""0 - 1 - (2, 3), 2 - (4, 5), 3 - (6, 7, 8): with S = 3 every leaf has three ancestors."""


class Directory:
    """Recordings on disk, as JSON documents that tests may change before they are written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, list[dict[str, Any]]] = {}

    def add(self, records: Sequence[RoundRecord]) -> "Directory":
        for r in records:
            self.lines.setdefault(r.peer.hex(), []).append(json.loads(encode_record(r)))
        return self

    def line(self, node: int, number: int = 0) -> dict[str, Any]:
        """The record of peer ``node`` in round ``number``."""
        (found,) = [x for x in self.lines[peer_name(node).hex()] if x["round"] == round_name(number).hex()]
        return found

    def write(self) -> Path:
        self.path.mkdir(exist_ok=True)
        for peer, lines in self.lines.items():
            (self.path / f"{peer}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        return self.path


@pytest.fixture
def entropy() -> Entropy:
    return SeededEntropy("audit tests")


@pytest.fixture
def scene() -> type[Scene]:
    return Scene


@pytest.fixture
def empty(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "recordings")


@pytest.fixture
def honest(empty: Directory, entropy: Entropy) -> Directory:
    """Three rounds of nine peers, S = 3: a whole one, one with a late partial, one whose root died unrecorded."""
    empty.add(Scene(TREE).play(0, entropy))
    empty.add(Scene(TREE, fates={8: LATE}).play(1, entropy))
    empty.add(Scene(TREE).play(2, entropy)[1:])
    return empty
