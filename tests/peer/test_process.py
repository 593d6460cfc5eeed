"""The settings of the whole process take, and freed memory comes back without page faults where glibc has it."""

import json
import subprocess
import sys

import pytest

from peer import process
from protocol.masking import prg

PROBE = """
import json, resource, sys
import numpy as np
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
from peer import process

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.empty(500_000, np.float64).fill(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
process.tune_process()
faults()
said = {"interval": sys.getswitchinterval(), "kept": process.keep_freed_memory(), "faults": [before, faults()]}
said["files"] = resource.getrlimit(resource.RLIMIT_NOFILE)
print(json.dumps(said))
"""


def test_the_settings_take_in_a_process_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["interval"] == 5e-4
    assert said["files"] == [300, 300]
    if said["kept"]:
        before, after = said["faults"]
        assert after < before / 4


def test_the_quicker_way_to_a_keystream_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "setswitchinterval", lambda seconds: None)
    monkeypatch.setattr(process, "keep_freed_memory", lambda: True)
    monkeypatch.setattr(process, "allow_open_files", lambda: None)
    for quick in prg.Way:
        monkeypatch.setattr(process, "_seconds", lambda way, quick=quick: 1.0 if way is quick else 1.2)
        monkeypatch.setattr(prg, "_way", None)
        process.tune_process()
        assert prg._way is quick


def test_trying_the_ways_changes_nothing() -> None:
    before = prg._way
    assert process.quicker_way() in prg.Way
    assert all(process._seconds(way) > 0 for way in prg.Way)
    assert prg._way is before
