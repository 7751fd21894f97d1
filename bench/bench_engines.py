"""Iterations over MPI and Ray beside the same exchange written raw with mpi4py and Ray.

20,000 coordinates, almost no computation, no stragglers, uncoded, one to many cells a worker: see
`exchange.py`. Pairs of raw and cgc_fast are run in turn, all in one job; printed are medians over the pairs
of the seconds per iteration, of their ratio, and of what one more cell costs. Exits non-zero if a budget is
missed: cgc_fast takes at most 1.3 times as long as mpi4py and 1.2 times as long as Ray, per iteration and per
cell alike. Over MPI this is measured twice: as it is on one host, whose ranks share memory, and as it is
between hosts: messages alone, which both ways send over TCP. Needs ``pip install 'cgc_fast[mpi,ray]'``; what
is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys

import numpy as np

from bench_overhead import mpiexec_command
from exchange import run_cgc, run_mpi, run_ray

BUDGETS = {"mpi": 1.3, "messages": 1.3, "ray": 1.2}
PACKAGES = {"mpi": "mpi4py", "messages": "mpi4py", "ray": "ray"}
# Of Open MPI: what would pass through memory on one host goes through its TCP stack.
OVER_TCP = {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "tcp,self"}


def report(engine, workers, cells, latencies):
    """Print and judge the pairs: latencies[cells] is (pairs, 2), raw and ours."""
    missed = False
    fewest = cells[0]
    for count in cells:
        raw, ours = 1e6 * np.median(latencies[count], axis=0)
        ratio = np.median(latencies[count][:, 1] / latencies[count][:, 0])
        line = f"{engine:<8} {workers:>7} {count:>5} {raw:>9.0f} {ours:>9.0f} {ratio:>6.2f}"
        missed |= ratio > BUDGETS[engine]
        if count > fewest:
            more = (latencies[count] - latencies[fewest]) / (workers * (count - fewest))
            per_cell = np.median(more, axis=0)
            line += f" {1e6 * per_cell[0]:>9.2f} {1e6 * per_cell[1]:>9.2f} {per_cell[1] / per_cell[0]:>6.2f}"
            missed |= per_cell[1] > BUDGETS[engine] * per_cell[0]
        print(line, flush=True)
    return missed


def run_pairs(engine, raw, ours, workers, cells, pairs, iterations):
    """Take turns; on other ranks than 0 nothing comes of it."""
    latencies = {count: [] for count in cells}
    for _ in range(pairs):
        for count in cells:
            found = [way(workers, count, iterations) for way in (raw, ours)]
            if found[0] is not None:
                latencies[count].append([result["latency_s"] for result in found])
    if found[0] is None:
        return False
    return report(engine, workers, cells, {count: np.array(rows) for count, rows in latencies.items()})


def job(engine, workers, cells, pairs, iterations):
    if engine != "ray":
        from cgc_fast.engines import mpi

        options = {"share_memory": engine == "mpi"}

        def ours(*arguments):
            return mpi.run(lambda: run_cgc(*arguments, engine="mpi", options=options))

        return run_pairs(engine, run_mpi, ours, workers, cells, pairs, iterations)
    from cgc_fast.engines import ray

    def ours(*arguments):
        return run_cgc(*arguments, engine="ray")

    return ray.run(
        lambda: run_pairs(engine, run_ray, ours, workers, cells, pairs, iterations), num_cpus=2 * workers
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cells", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--engines", nargs="+", default=list(BUDGETS))
    parser.add_argument("--job", help="for the processes that this starts")
    options = parser.parse_args()
    if options.job:
        return int(job(options.job, options.workers, options.cells, options.pairs, options.iterations))
    print(f"{'':<22} {'us an iteration':>19} {'':>6} {'us one more cell':>19}")
    print(f"{'':<8} {'workers':>7} {'cells':>5} " + f"{'raw':>9} {'ours':>9} {'ratio':>6} " * 2, flush=True)
    missed = False
    for engine, package in PACKAGES.items():
        if engine not in options.engines:
            continue
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed: left out")
            continue
        command = [sys.executable, *sys.argv, "--job", engine]
        if engine != "ray":
            command = [*mpiexec_command(options.workers + 1), *command]
        environment = {**os.environ, **(OVER_TCP if engine == "messages" else {})}
        missed |= subprocess.run(command, timeout=3000, env=environment).returncode != 0
    print(f"budgets: {BUDGETS['mpi']} of mpi4py, {BUDGETS['ray']} of Ray: {'missed' if missed else 'met'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
