"""A long run of random faults: `make soak`, or `python tests/soak.py [iterations] [seed]`.

Kills from outside and from inside, exceptions, SIGSTOP and later SIGCONT, delays and NaN, seeded, over
clusters of seven schedules, one after another. Every gradient is compared with the plain one. At the end
comes a table; exit status 1 if anything hung, leaked, grew or was not exact.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import cgc_fast as cgc
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.schemes.fractional_repetition import fractional_repetition_schedule
from cgc_fast.schemes.pairs import pairs_schedule
from cgc_fast.schemes.shared_samples import shared_samples_schedule
from cgc_fast.schemes.single_level import single_level_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule
from own_problems import Unreliable

WORKERS, SAMPLES, COORDINATES = 4, 23, 40
# Shares of the iterations in which it is tried; each strikes one worker.
SHARES = {"kill": 0.03, "stop": 0.03, "die": 0.02, "raise": 0.02, "late": 0.06, "nan": 0.06}
REPLANS = 0.02  # share of the iterations before which all are given their walks anew
HANG_S = 60.0  # no iteration takes so long, whatever else the machine does
# Reports, measured times and the allocator's pools grow a little at first; a leak of one payload, segment or
# report an iteration would be far more.
MOST_GROWTH_KIB = 4096


@dataclass
class Figures:
    """What was counted."""

    iterations: int = 0
    faults: Counter = field(default_factory=Counter)
    events: Counter = field(default_factory=Counter)
    worst_error: float = 0.0  # as a share of what is promised
    seconds: float = 0.0
    slowest_s: float = 0.0
    hangs: int = 0
    replans: int = 0
    leaks: list = field(default_factory=list)
    memory_kib: list = field(default_factory=list)  # after a tenth, at the end
    descriptors: list = field(default_factory=list)  # before, after

    @property
    def failures(self) -> list[str]:
        """What must not be."""
        found = [f"{self.hangs} hangs"] if self.hangs else []
        found += [f"left behind: {leak}" for leak in self.leaks]
        if self.worst_error > 1:
            found.append(f"error {self.worst_error:.3g} times what is promised")
        if self.memory_kib and self.memory_kib[1] - self.memory_kib[0] > MOST_GROWTH_KIB:
            found.append(f"memory grew from {self.memory_kib[0]} to {self.memory_kib[1]} KiB")
        return found

    def table(self) -> str:
        """As text."""
        faults = ", ".join(f"{what} {count}" for what, count in sorted(self.faults.items()))
        rows = [
            ("iterations, all exact" if self.worst_error <= 1 else "iterations", str(self.iterations)),
            ("faults", f"{sum(self.faults.values())}: {faults}"),
            ("largest error / promise", f"{self.worst_error:.2g}"),
            ("deaths noticed", str(self.events["lost"])),
            ("replacements", str(self.events["ready"])),
            ("orders to visit rows of others, or once more", str(self.events["rescue"])),
            ("suspected, killed for silence", f"{self.events['suspected']}, {self.events['killed']}"),
            ("times that the workers were given their walks anew", str(self.replans)),
            ("non-finite payloads", str(self.events["non-finite"])),
            ("hangs", str(self.hangs)),
            ("leaks (processes, threads, descriptors, segments)", str(len(self.leaks))),
            ("memory of the master after 10 %, at the end", " / ".join(f"{m} KiB" for m in self.memory_kib)),
            ("descriptors before, after", " / ".join(map(str, self.descriptors))),
            ("seconds in all, slowest iteration", f"{self.seconds:.1f}, {self.slowest_s:.2f}"),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


class Watchdog:
    """Close the cluster if an iteration takes too long: then it fails instead of waiting for ever."""

    def __init__(self, cluster: cgc.Cluster) -> None:
        self.fired = False
        self._cluster = cluster
        self._beat = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def alive(self) -> None:
        self._beat = time.monotonic()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            if time.monotonic() - self._beat > HANG_S:
                self.fired = True
                print(f"hang:\n{self._cluster.health()}\n{self._cluster.last_report}", file=sys.stderr)
                self._cluster.close()
                return


def schedules() -> list:
    """The schemes that take turns."""
    return [
        uncoded_schedule(WORKERS, COORDINATES),
        cyclic_schedule(WORKERS, COORDINATES, np.array([10, 12, 18, 0])),
        single_level_schedule(WORKERS, COORDINATES, 1),
        fractional_repetition_schedule(WORKERS, COORDINATES, np.array([10, 16, 0, 14])),
        pairs_schedule(WORKERS, COORDINATES, cells=4, feedback="announce"),
        shared_samples_schedule(WORKERS, COORDINATES, [(0, 1), (2, 3)], pieces=6, ratio=2.0),
        shared_samples_schedule(WORKERS, COORDINATES, [range(WORKERS)], pieces=10),
    ]


def children() -> set[int]:
    """All child processes, zombies included."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == os.getpid():
            found.add(int(stat.parent.name))
    return found


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def memory_kib() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def segments() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:cgc_fast")


def strike_from_outside(what: str, cluster: cgc.Cluster, chance: random.Random, helpers: list) -> bool:
    """Kill or stop one worker now or in a moment; False if none is ready for it."""
    ready = [w.process_id for w in cluster.health().workers if w.state == "ready" and w.process_id]
    if not ready:
        return False
    victim = chance.choice(ready)
    delay_s = chance.choice([0.0, 0.0, chance.uniform(0.0, 0.002)])
    # One in five for so long that it is suspected, if it is needed.
    stopped_s = chance.choice([chance.uniform(0.0, 0.2)] * 4 + [chance.uniform(0.6, 1.0)])

    def strike() -> None:
        time.sleep(delay_s)
        try:
            if what == "kill":
                os.kill(victim, signal.SIGKILL)
                return
            os.kill(victim, signal.SIGSTOP)
            time.sleep(stopped_s)
            os.kill(victim, signal.SIGCONT)
        except ProcessLookupError:  # it is gone, and even buried
            pass

    helper = threading.Thread(target=strike)
    helper.start()
    helpers[:] = [h for h in helpers if h.is_alive()] + [helper]
    return True


def soak(iterations: int, seed: int, say=lambda text: None, rounds: int = 14) -> Figures:
    """Run so many iterations, spread over `rounds` clusters; bad figures come back, they are not raised."""
    chance = random.Random(seed)
    generator = np.random.default_rng(seed)
    figures = Figures()
    gc.collect()
    before = children(), threading.active_count(), descriptors(), segments()
    began = time.monotonic()
    plan = schedules()
    for turn in range(rounds):
        schedule = plan[turn % len(plan)]
        share = iterations * (turn + 1) // rounds - iterations * turn // rounds
        inside = {}
        for iteration in range(2, share + 1):
            for what in ("die", "raise", "late", "nan"):
                if chance.random() < SHARES[what]:
                    inside[iteration] = (what, chance.randrange(SAMPLES))
        with tempfile.TemporaryDirectory() as folder:
            problem = Unreliable.random(SAMPLES, COORDINATES, seed=turn).with_faults(inside, folder)
            run_one(schedule, problem, share, chance, generator, figures, iterations)
        say(f"{figures.iterations:>6} iterations, {figures.events['lost']} deaths, {figures.hangs} hangs")
        if figures.hangs:
            break
    figures.seconds = time.monotonic() - began
    figures.memory_kib.append(memory_kib())
    after = children(), threading.active_count(), descriptors(), segments()
    deadline = time.monotonic() + 5
    while after != before and time.monotonic() < deadline:
        time.sleep(0.02)
        gc.collect()
        after = children(), threading.active_count(), descriptors(), segments()
    figures.descriptors = [before[2], after[2]]
    for name, one, other in zip(
        ("processes", "threads", "descriptors", "segments"), before, after, strict=True
    ):
        if one != other:
            figures.leaks.append(f"{name} {one} -> {other}")
    return figures


def run_one(schedule, problem, share, chance, generator, figures, iterations) -> None:
    """One cluster of the run."""
    promise = max(cell.code.promise for cell in schedule.cells)
    helpers: list[threading.Thread] = []
    cluster = cgc.Cluster(schedule, problem)
    watchdog = Watchdog(cluster)
    try:
        for iteration in range(1, share + 1):
            for what in ("kill", "stop"):
                if chance.random() < SHARES[what]:
                    figures.faults[what] += strike_from_outside(what, cluster, chance, helpers)
            if chance.random() < REPLANS:
                cluster.replan(schedule)
                figures.replans += 1
            theta = generator.normal(size=COORDINATES)
            began = time.monotonic()
            gradient = cluster.gradient(theta)
            figures.slowest_s = max(figures.slowest_s, time.monotonic() - began)
            watchdog.alive()
            error = abs(gradient - problem.gradient(theta)).max()
            if error > promise * problem.scale(theta, schedule.workers):
                print(f"not exact: {schedule}\n{cluster.last_report}", file=sys.stderr)
            figures.worst_error = max(
                figures.worst_error, error / (promise * problem.scale(theta, schedule.workers))
            )
            figures.events.update(event.what for event in cluster.last_report.events)
            if iteration in problem.faults:
                figures.faults[problem.faults[iteration][0]] += 1
            figures.iterations += 1
            if figures.iterations == max(1, iterations // 10):
                figures.memory_kib.append(memory_kib())
            if chance.random() < 0.2:  # a user computes, too; and processes get a chance to start
                time.sleep(chance.uniform(0.0, 0.02))
    except cgc.ClusterClosed:
        assert watchdog.fired
        figures.hangs += 1
    finally:
        watchdog.stop()
        for helper in helpers:
            helper.join()
        cluster.close()


def main() -> int:
    """Run as a script."""
    iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    figures = soak(iterations, seed, lambda text: print(text, flush=True))
    print(figures.table())
    for failure in figures.failures:
        print(f"FAILED: {failure}")
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
