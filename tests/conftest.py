"""Shared fixtures: every test must leave nothing behind."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from pathlib import Path

# As many test processes run as there are cores: threads of BLAS in each would be in one another's way.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import matplotlib
import pytest
from hypothesis import settings

matplotlib.use("Agg")
# Deterministic and without a deadline: the machine may be slow, a test asserts behaviour.
settings.register_profile("suite", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("suite")
# A background job, or one under nohup, ignores these, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def child_processes() -> set[int]:
    """Process ids of all children of this process, zombies included."""
    children = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            children.add(int(stat.parent.name))
    return children


def open_descriptors() -> dict[str, str]:
    """What each descriptor of this process refers to, but for the fonts that matplotlib keeps open."""
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:  # the listing's own descriptor
            continue
        if not target.endswith(".ttf"):
            found[entry] = target
    return found


def segments() -> int:
    """Anonymous shared-memory segments that this process has mapped."""
    return Path("/proc/self/maps").read_text().count("memfd:cgc_fast")


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Compare processes, threads, descriptors and segments before and after each test.

    What is alive before a test, a hundred thousand objects of imported modules above all, cannot be its
    garbage: it is frozen, so that every collection in and after the test looks only at what the test made.
    """
    gc.collect()
    gc.freeze()
    before = child_processes(), threading.active_count(), len(open_descriptors()), segments()
    yield
    deadline = time.monotonic() + 5
    while True:
        gc.collect()
        after = child_processes(), threading.active_count(), len(open_descriptors()), segments()
        leaks = [
            *(after[0] - before[0]),
            *(["thread"] * (after[1] - before[1])),
            *(["descriptor"] * (after[2] - before[2])),
            *(["segment"] * (after[3] - before[3])),
        ]
        if not leaks or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    assert not leaks, f"left behind: {leaks}; descriptors: {open_descriptors()}"
