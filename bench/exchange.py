"""One exchange, four times: theta out, partial derivatives back cell by cell, summed as they arrive.

The same problem, kernels and sums for worker processes of cgc_fast, mpi4py, `multiprocessing.Pool` and
`multiprocessing.Pipe`, each written as its own users would. Uncoded: every row is needed, so that nothing
depends on who is fast. Run as ``python exchange.py HOW WORKERS CELLS ITERATIONS`` (under mpiexec for
mpi4py); prints one JSON line: seconds per iteration, and processor seconds of all processes per iteration. A
fifth way, "alone", exchanges nothing: what the kernels of one worker and all sums take in one process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

COORDINATES = 20_000
SAMPLES_OF_WORKER = 2
WARM_UP = 30


def problem_of(workers):
    from cgc_fast.problems import LeastSquares

    generator = np.random.default_rng(0)
    samples = SAMPLES_OF_WORKER * workers
    return LeastSquares(generator.normal(size=(samples, COORDINATES)), generator.normal(size=samples))


def columns(cells):
    cuts = np.linspace(0, COORDINATES, cells + 1).astype(int)
    return list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))


def ranges_of(worker):
    return np.array([[worker * SAMPLES_OF_WORKER, (worker + 1) * SAMPLES_OF_WORKER]])


def processor_s(pids):
    """Processor seconds of this process and of these others."""
    others = sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids)
    return time.process_time() + 1e-9 * others


def measured(step, problem, iterations, pids):
    """Time `step(theta)` -> gradient; check it; return seconds and processor seconds per iteration."""
    generator = np.random.default_rng(1)
    thetas = generator.normal(size=(4, COORDINATES))
    for theta in thetas:
        gradient, expected = step(theta), problem.gradient(theta)
        assert abs(gradient - expected).max() <= 1e-12 * abs(expected).max() * (1 + len(pids))
    for i in range(WARM_UP):
        step(thetas[i % 4])
    seconds = []
    before_s = processor_s(pids)
    for i in range(iterations):
        began = time.perf_counter()
        step(thetas[i % 4])
        seconds.append(time.perf_counter() - began)
    return {
        "latency_s": float(np.median(seconds)),
        "processor_s": (processor_s(pids) - before_s) / iterations,
    }


# --- cgc_fast --------------------------------------------------------------------------------------------


def run_cgc(workers, cells, iterations, engine="processes", options=None):
    import cgc_fast as cgc
    from cgc_fast.schedule import Cell, Schedule, Walk

    tiles = [
        Cell(start, stop, w / workers, (w + 1) / workers, cgc.RepetitionCode(1))
        for w in range(workers)
        for start, stop in columns(cells)
    ]
    walks = [Walk(np.arange(w * cells, (w + 1) * cells), np.zeros(cells, int)) for w in range(workers)]
    problem = problem_of(workers)
    out = np.empty(COORDINATES)
    schedule = Schedule(workers, COORDINATES, tiles, walks)
    with cgc.Cluster(schedule, problem, engine, engine_options=options) as cluster:
        pids = [worker.process_id for worker in cluster.health().workers]
        return measured(lambda theta: cluster.gradient(theta, out=out), problem, iterations, pids)


# --- alone -----------------------------------------------------------------------------------------------


def run_alone(workers, cells, iterations):
    """Kernels and sums called as the others call them, one worker after the other, nothing handed over."""
    from cgc_fast.combine import weighted_sum

    problem, blocks, one = problem_of(workers), columns(cells), np.ones(1)
    shards = [problem.shard(ranges_of(w)) for w in range(workers)]
    payloads = np.empty((workers, COORDINATES))
    gradient = np.empty(COORDINATES)
    kernels, sums = [], []

    def step(theta):
        for worker, shard in enumerate(shards):
            began = time.perf_counter()
            shard.begin(theta, 1)
            for a, b in blocks:
                shard.derivatives(a, b, ranges_of(worker), one, payloads[worker, a:b])
            kernels.append(time.perf_counter() - began)
        began = time.perf_counter()
        gradient[:] = 0.0
        for worker in range(workers):
            for a, b in blocks:
                weighted_sum([payloads[worker, a:b]], one, out=gradient[a:b], accumulate=True)
        sums.append(time.perf_counter() - began)
        return gradient

    result = measured(step, problem, iterations, [])
    return {**result, "kernels_s": float(np.median(kernels)), "sums_s": float(np.median(sums))}


# --- mpi4py ----------------------------------------------------------------------------------------------


def run_mpi(workers, cells, iterations):
    from mpi4py import MPI

    from cgc_fast.combine import weighted_sum

    comm = MPI.COMM_WORLD
    assert comm.size == workers + 1
    blocks, one = columns(cells), np.ones(1)
    theta = np.empty(COORDINATES)
    going = np.ones(1)
    if comm.rank > 0:
        worker = comm.rank - 1
        problem, mine = problem_of(workers).shard(ranges_of(worker)), ranges_of(worker)
        payload = np.empty(COORDINATES)
        sends = [comm.Send_init(payload[a:b], dest=0, tag=c) for c, (a, b) in enumerate(blocks)]
        iteration = 0
        while True:
            comm.Bcast(going, root=0)
            if not going[0]:
                break
            comm.Bcast(theta, root=0)
            iteration += 1
            problem.begin(theta, iteration)
            for send, (a, b) in zip(sends, blocks, strict=True):
                problem.derivatives(a, b, mine, one, payload[a:b])
                send.Start()
            MPI.Prequest.Waitall(sends)
        comm.gather(time.process_time(), root=0)
        return None
    problem = problem_of(workers)
    gradient = np.empty(COORDINATES)
    payloads = np.empty((workers, COORDINATES))
    receives = [
        comm.Recv_init(payloads[w, a:b], source=w + 1, tag=c)
        for w in range(workers)
        for c, (a, b) in enumerate(blocks)
    ]

    def step(theta):
        gradient[:] = 0.0
        MPI.Prequest.Startall(receives)
        comm.Bcast(going, root=0)
        comm.Bcast(theta, root=0)
        missing = len(receives)
        while missing:
            arrived = MPI.Request.Waitsome(receives)
            for index in arrived:
                w, (a, b) = index // cells, blocks[index % cells]
                weighted_sum([payloads[w, a:b]], one, out=gradient[a:b], accumulate=True)
            missing -= len(arrived)
        return gradient

    # All ranks are on this machine.
    pids = comm_pids(comm)
    result = measured(step, problem, iterations, pids)
    going[0] = 0
    comm.Bcast(going, root=0)
    comm.gather(time.process_time(), root=0)
    return result


def comm_pids(comm):
    """Process ids of the other ranks, found among the children of mpiexec."""
    parent = os.getppid()
    pids = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = stat.read_text().rpartition(")")[2].split()
        if int(fields[1]) == parent and int(stat.parent.name) != os.getpid():
            pids.append(int(stat.parent.name))
    assert len(pids) == comm.size - 1
    return pids


# --- Ray -------------------------------------------------------------------------------------------------


def run_ray(workers, cells, iterations):
    import ray

    from cgc_fast.combine import weighted_sum

    @ray.remote(num_cpus=1)
    class Actor:
        def __init__(self, worker):
            self.problem = problem_of(workers).shard(ranges_of(worker))
            self.mine, self.iteration = ranges_of(worker), 0
            self.payload = np.empty(COORDINATES)

        def pid(self):
            return os.getpid()

        def run(self, theta):
            self.iteration += 1
            self.problem.begin(theta, self.iteration)
            for a, b in columns(cells):
                self.problem.derivatives(a, b, self.mine, np.ones(1), self.payload[a:b])
                yield self.payload[a:b]

    problem, one, blocks = problem_of(workers), np.ones(1), columns(cells)
    gradient = np.empty(COORDINATES)
    actors = [Actor.remote(worker) for worker in range(workers)]

    def step(theta):
        gradient[:] = 0.0
        reference = ray.put(theta)
        going = dict.fromkeys((actor.run.remote(reference) for actor in actors), 0)
        while going:
            for generator in ray.wait(list(going), num_returns=1)[0]:
                try:
                    payload = ray.get(next(generator))
                except StopIteration:
                    del going[generator]
                    continue
                a, b = blocks[going[generator]]
                weighted_sum([payload], one, out=gradient[a:b], accumulate=True)
                going[generator] += 1
        return gradient

    try:
        return measured(step, problem, iterations, ray.get([actor.pid.remote() for actor in actors]))
    finally:
        for actor in actors:
            ray.kill(actor)


# --- multiprocessing.Pool --------------------------------------------------------------------------------

_pool = {}


def pool_start(workers):
    _pool["problem"] = problem_of(workers)
    _pool["iteration"] = 0


def pool_task(task):
    worker, cells, theta = task
    problem, mine, one = _pool["problem"], ranges_of(worker), np.ones(1)
    _pool["iteration"] += 1
    problem.begin(theta, _pool["iteration"])
    found = []
    for a, b in columns(cells):
        out = np.empty(b - a)
        problem.derivatives(a, b, mine, one, out)
        found.append(out)
    return found


def run_pool(workers, cells, iterations):
    from cgc_fast.combine import weighted_sum

    problem, one, blocks = problem_of(workers), np.ones(1), columns(cells)
    gradient = np.empty(COORDINATES)
    with get_context("spawn").Pool(workers, pool_start, (workers,)) as pool:
        pids = [process.pid for process in pool._pool]

        def step(theta):
            gradient[:] = 0.0
            for found in pool.imap_unordered(pool_task, [(w, cells, theta) for w in range(workers)]):
                for (a, b), payload in zip(blocks, found, strict=True):
                    weighted_sum([payload], one, out=gradient[a:b], accumulate=True)
            return gradient

        return measured(step, problem, iterations, pids)


# --- pipes -----------------------------------------------------------------------------------------------


def pipe_worker(pipe: Connection, worker, workers, cells):
    problem, mine, one = problem_of(workers).shard(ranges_of(worker)), ranges_of(worker), np.ones(1)
    theta, iteration = np.empty(COORDINATES), 0
    payloads = [np.empty(b - a) for a, b in columns(cells)]
    while pipe.recv_bytes_into(theta) == theta.nbytes:
        iteration += 1
        problem.begin(theta, iteration)
        for (a, b), payload in zip(columns(cells), payloads, strict=True):
            problem.derivatives(a, b, mine, one, payload)
            pipe.send_bytes(payload)


def run_pipes(workers, cells, iterations):
    from cgc_fast.combine import weighted_sum

    problem, one, blocks = problem_of(workers), np.ones(1), columns(cells)
    gradient = np.empty(COORDINATES)
    context = get_context("spawn")
    pipes, processes = [], []
    for worker in range(workers):
        ours, theirs = Pipe()
        process = context.Process(target=pipe_worker, args=(theirs, worker, workers, cells))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    payloads = {pipe: [np.empty(b - a) for a, b in blocks] for pipe in pipes}

    def step(theta):
        gradient[:] = 0.0
        for pipe in pipes:
            pipe.send_bytes(theta)
        arrived = dict.fromkeys(pipes, 0)
        while arrived:
            for pipe in wait(list(arrived)):
                cell = arrived[pipe]
                a, b = blocks[cell]
                pipe.recv_bytes_into(payloads[pipe][cell])
                weighted_sum([payloads[pipe][cell]], one, out=gradient[a:b], accumulate=True)
                arrived[pipe] += 1
                if arrived[pipe] == cells:
                    del arrived[pipe]
        return gradient

    result = measured(step, problem, iterations, [process.pid for process in processes])
    for pipe in pipes:
        pipe.send_bytes(b"stop----")
    for process in processes:
        process.join()
    return result


HOW = {"alone": run_alone, "cgc_fast": run_cgc, "mpi4py": run_mpi, "pool": run_pool, "pipes": run_pipes}

if __name__ == "__main__":
    result = HOW[sys.argv[1]](*map(int, sys.argv[2:]))
    if result is not None:
        print(json.dumps(result))
