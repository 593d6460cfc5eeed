"""The settings of the whole process take, and freed memory comes back without page faults where glibc has it."""

import json
import subprocess
import sys

PROBE = """
import json, resource, sys
import numpy as np
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
print(json.dumps(said))
"""


def test_the_settings_take_in_a_process_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["interval"] == 5e-4
    if said["kept"]:
        before, after = said["faults"]
        assert after < before / 4
