"""Train one model under the same drawn stragglers by several schemes, and measure what each gains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.cluster import Cluster, IterationReport
from cgc_fast.planning import Plan, plan
from cgc_fast.problems import SoftmaxRegression
from cgc_fast.schedule import Schedule
from cgc_fast.simulation import simulate
from cgc_fast.training import accelerated_gradient

__all__ = ["COMPARED", "Run", "train_by_schemes", "train_without_workers"]

# What is compared, and how its plan is asked for; another scheme is another line.
COMPARED: dict[str, dict[str, str]] = {
    "uncoded": {"method": "uncoded"},
    "best single level": {"method": "single_level"},
    "cyclic blocks": {"scheme": "cyclic"},
    "fractional repetition": {"scheme": "fractional_repetition"},
    "walked blocks": {"scheme": "walked"},
    "shared samples": {"scheme": "shared_samples"},
}


@dataclass
class Run:
    """One training under one scheme; times in seconds.

    Attributes
    ----------
    simulated_s, measured_s : ndarray (I,)
        Time of each iteration: of the model, and as it was.
    losses : ndarray (I + 1,)
        Training loss before the first and after each iteration.
    theta : ndarray (L,)
        Where it ended.
    reports : list of IterationReport
        Who delivered what when.
    """

    name: str
    plan: Plan
    schedule: Schedule
    simulated_s: NDArray[np.float64]
    measured_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    losses: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    theta: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    reports: list[IterationReport] = field(default_factory=list)


def train_without_workers(problem: SoftmaxRegression, iterations: int) -> tuple[NDArray[np.float64], float]:
    """Train in this process with plain gradients; return theta (L,) and the step size."""
    step = 1.0 / problem.smoothness_bound()
    theta = accelerated_gradient(problem.gradient, np.zeros(problem.coordinates), step, iterations)
    return theta, step


def train_by_schemes(
    problem: SoftmaxRegression,
    cycle_time: Any,
    cycle_times: NDArray[np.float64],
    *,
    step: float,
    forward_cycles: float,
    engine: str = "processes",
    seed: int = 0,
    names: tuple[str, ...] | None = None,
    on_iteration: Callable[[Run, int], None] | None = None,
    events: Path | None = None,
) -> Iterator[Run]:
    """Train once a scheme, from zero, under the same cycle times.

    Parameters
    ----------
    problem : SoftmaxRegression
    cycle_time : law, sequence of laws or Trace
        What the plans are made for.
    cycle_times : ndarray (I, N)
        Draws, seconds per cycle, a row an iteration; replayed for every scheme.
    step : float
        Step size of the accelerated gradient method.
    forward_cycles : float
        c of the cost model, for plan, simulation and emulation alike.
    engine : str
        One of `cgc_fast.engines.engine_names()`.
    seed : int
        Of the plans.
    names : tuple of str, optional
        Keys of `COMPARED`; all by default.
    on_iteration : callable, optional
        Called with the run so far and the number of finished iterations.
    events : Path, optional
        Folder for the event logs, one a run, named after it: ``cyclic-blocks.jsonl``.

    Yields
    ------
    Run
        One for each name, when its training is over.
    """
    iterations, workers = cycle_times.shape
    for name in COMPARED if names is None else names:
        made = plan(
            workers,
            problem.coordinates,
            cycle_time,
            samples=problem.samples,
            forward_cycles=forward_cycles,
            seed=seed,
            **COMPARED[name],  # type: ignore[arg-type]
        )
        schedule = made.schedule()
        simulated_s = simulate(schedule, cycle_times, samples=problem.samples, forward_cycles=forward_cycles)
        run = Run(name, made, schedule, simulated_s)
        losses = [problem.loss(np.zeros(problem.coordinates))]
        measured_s: list[float] = []

        with Cluster(
            schedule,
            problem,
            engine=engine,
            cycle_times=cycle_times,
            forward_cycles=forward_cycles,
            events=None if events is None else events / f"{name.replace(' ', '-')}.jsonl",
        ) as cluster:

            def gradient(theta: NDArray[np.float64], cluster: Cluster = cluster) -> NDArray[np.float64]:
                return cluster.gradient(theta)

            def after(
                iteration: int,
                theta: NDArray[np.float64],
                cluster: Cluster = cluster,
                run: Run = run,
                losses: list[float] = losses,
                measured_s: list[float] = measured_s,
            ) -> None:
                assert cluster.last_report is not None
                run.reports.append(cluster.last_report)
                measured_s.append(cluster.last_report.elapsed_s)
                losses.append(problem.loss(theta))
                run.measured_s, run.losses = np.array(measured_s), np.array(losses)
                if on_iteration is not None:
                    on_iteration(run, iteration + 1)

            run.theta = accelerated_gradient(gradient, np.zeros(problem.coordinates), step, iterations, after)
        yield run
