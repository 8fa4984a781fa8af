"""The device and what is set up for it."""

import subprocess
import sys

import pytest

from hilum.errors import ConfigError
from hilum.train.device import choose_device

REUSE = """
import resource
import statistics
import torch
from hilum.train.device import choose_device
choose_device("cpu")
faults = []
for _ in range(60):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(16 << 20)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(statistics.median(faults[30:])))  # the heap settles within ten, differently in each process
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
def test_on_a_cpu_freed_memory_is_used_again():
    done = subprocess.run([sys.executable, "-c", REUSE], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000  # of the 16,384 pages that 64 MiB are


def test_an_unknown_device_is_refused_with_a_way_out():
    with pytest.raises(ConfigError, match=r"--device is 'abacus'.*use cpu, or auto"):
        choose_device("abacus")
