"""Freed memory that is kept: counted in pages that the kernel has to map anew."""

import os
import platform
import resource
import subprocess
import sys

import pytest

from controlgen.utils.malloc import retain_freed_memory

GLIBC = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
# Thirty-two megabytes in eight blocks are written to and freed, as the activations of a step are.
FAULTS = """
import resource, sys
import torch
from controlgen.utils.malloc import retain_freed_memory
if sys.argv[1] == "kept":
    assert retain_freed_memory()
torch.set_num_threads(1)
def step():
    blocks = [torch.ones(2**20) for _ in range(8)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
STEP = 32 * 2**20 // resource.getpagesize()


def faults(how: str) -> int:
    # Whether glibc by itself gives a block back depends on what lies behind it; told so, it does.
    # What the caller's own environment tells it is left out.
    back = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    back["MALLOC_MMAP_THRESHOLD_"] = "131072"
    command = [sys.executable, "-c", FAULTS, how]
    process = subprocess.run(command, capture_output=True, text=True, check=True, env=back)
    return int(process.stdout)


@pytest.mark.skipif(not GLIBC, reason="glibc's allocator alone is told")
def test_what_is_freed_is_not_mapped_anew() -> None:
    saved, given_back = faults("kept"), faults("back")
    assert saved < STEP  # of twenty steps
    assert given_back > 10 * STEP


def test_another_system_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert not retain_freed_memory()
