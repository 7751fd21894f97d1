"""Draw the pictures of the documentation, but for the one that `make demo` draws.

Run: python docs/make_images.py
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer

import matplotlib
import numpy as np
from scipy import stats

import cgc_fast as cgc
from cgc_fast.frontier import frontier
from cgc_fast.schemes import (
    cyclic_schedule,
    fractional_repetition_schedule,
    load_balancing_schedule,
    pairs_schedule,
    shared_samples_schedule,
    walked_schedule,
)
from cgc_fast.schemes.circles import Block, contiguous_groups

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from cgc_fast.timeline import plot_timeline

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Draw all of them."""
    draw_schedules()
    draw_schemes()
    draw_frontier()
    draw_timeline()


def draw_schedules() -> None:
    """Draw three schemes for the same eight workers."""
    law = stats.expon(loc=50, scale=1000)
    plan = cgc.plan(workers=8, coordinates=20_000, cycle_time=law)
    uncoded = cgc.plan(workers=8, coordinates=20_000, cycle_time=law, method="uncoded")
    figure, axes = plt.subplots(3, 1, figsize=(9, 12), layout="constrained")
    for title, schedule, ax in (
        ("uncoded: each worker a part, all are needed", uncoded.schedule(), axes[0]),
        ("cyclic blocks: redundancy rises from block to block", plan.schedule(), axes[1]),
        (
            "fractional repetition: groups compute the same, any one decodes",
            plan.schedule("repetition"),
            axes[2],
        ),
    ):
        schedule.plot(ax)
        ax.set_title(title, loc="left", fontsize=11, pad=34)
    figure.savefig(IMAGES / "schedules.png", dpi=110)
    plt.close(figure)


def draw_schemes() -> None:
    """Draw each scheme for six workers, a picture a scheme."""
    pairs_of_six = contiguous_groups(6, 3)
    blocks = [
        Block(5_000, contiguous_groups(6, 6)),
        Block(7_000, pairs_of_six),
        Block(8_000, contiguous_groups(6, 1)),
    ]
    walked = [
        Block(8_000, contiguous_groups(6, 6)),
        Block(12_000, contiguous_groups(6, 1), starts=3, cells=2),
    ]
    by_speed = [0.0, 0.3, 0.5, 0.6, 0.75, 0.95, 1.0]
    for name, schedule in {
        "load_balancing": load_balancing_schedule(6, 20_000, by_speed),
        "cyclic": cyclic_schedule(6, 20_000, [5_000, 3_000, 4_000, 3_000, 0, 5_000]),
        "fractional_repetition": fractional_repetition_schedule(6, 20_000, blocks=blocks),
        "pairs": pairs_schedule(6, 20_000, cells=8),
        "walked": walked_schedule(6, 20_000, walked),
        "shared_samples": shared_samples_schedule(6, 20_000, contiguous_groups(6, 2), pieces=8),
    }.items():
        ax = schedule.plot()
        ax.figure.savefig(IMAGES / f"scheme_{name}.png", dpi=90)
        plt.close(ax.figure)


def draw_frontier() -> None:
    """Draw runtime against storage and traffic for twenty workers."""
    law = stats.expon(loc=50, scale=1000)
    made = frontier(20, 20_000, law, samples=20, feedback="claim", draws=2_000)
    ax = made.plot()
    ax.figure.savefig(IMAGES / "frontier.png", dpi=90)
    plt.close(ax.figure)


def draw_timeline() -> None:
    """Draw one iteration of eight worker processes, one of which is killed and one stopped for a while."""
    rng = np.random.default_rng(0)
    problem = cgc.problems.LeastSquares(rng.normal(size=(64, 2200)), rng.normal(size=64))
    schedule = cyclic_schedule(8, 2200, [400, 500, 500, 500, 300, 0, 0, 0])
    # Seconds per cycle, emulated; the first iteration shows each worker's habits.
    cycle_times = np.array([9.0, 4.0, 3.0, 5.0, 6.0, 4.0, 7.0, 2.5]) * np.array([[0.1e-5], [1.5e-5]])
    with TemporaryDirectory() as folder:
        log = Path(folder) / "events.jsonl"
        with cgc.Cluster(
            schedule, problem, cycle_times=cycle_times, forward_cycles=0.0, events=log
        ) as cluster:
            cluster.gradient(np.zeros(2200))
            process_ids = [worker.process_id for worker in cluster.health().workers]
            faults = [
                Timer(0.8, os.kill, (process_ids[2], signal.SIGKILL)),
                Timer(0.2, os.kill, (process_ids[5], signal.SIGSTOP)),
                Timer(2.2, os.kill, (process_ids[5], signal.SIGCONT)),
            ]
            for fault in faults:
                fault.start()
            cluster.gradient(np.zeros(2200))
            for fault in faults:
                fault.join()
        recorded, reports = cgc.read_events(log)
        report = list(reports)[-1]
    ax = plot_timeline(recorded, report)
    ax.set_title("worker 2 is killed, worker 5 stopped for two seconds; the gradient is exact", fontsize=10)
    ax.figure.savefig(IMAGES / "timeline.png", dpi=110)
    plt.close(ax.figure)


if __name__ == "__main__":
    main()
