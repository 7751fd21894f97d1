"""`cgc-fast train`: the main job, end to end, on real data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cgc_fast.errors import unknown_name

__all__ = ["train"]


def train(
    workers: Annotated[int, typer.Option(min=2, help="N, number of worker processes.")] = 8,
    iterations: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 15,
    features: Annotated[int, typer.Option(min=1, help="Random features; ten coordinates each.")] = 2000,
    uncoded_seconds: Annotated[
        float, typer.Option(min=0.0, help="Mean iteration time of the uncoded scheme with c = 0.")
    ] = 0.5,
    shift: Annotated[
        float, typer.Option(min=0.0, help="t0 of the shifted exponential cycle time, in units of 1/mu.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the data split, the features, the draws and the plans.")] = 0,
    scheme: Annotated[
        list[str] | None,
        typer.Option(help="Only this scheme beside uncoded, by its name in the table; may be repeated."),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="processes; serial for a virtual clock; mpi, under mpiexec -n WORKERS+1; ray.")
    ] = "processes",
    output: Annotated[
        Path | None, typer.Option(help="Folder for picture and results; none if absent.")
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option(help="Folder for event logs, one a training, for `cgc-fast timeline`; none if absent."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON only.")] = False,
) -> None:
    """Train softmax regression on handwritten digits while workers straggle, by several schemes.

    Stragglers are emulated: each worker sleeps so that its progress follows a drawn cycle time. The same
    draws are replayed for every scheme. Once with c = 0, the published model, where the forward pass is free,
    and once with the problem's real forward pass, with plans made for it.
    """
    from cgc_fast.engines import lead

    lead(
        engine,
        lambda: _train(
            workers=workers,
            iterations=iterations,
            features=features,
            uncoded_seconds=uncoded_seconds,
            shift=shift,
            seed=seed,
            schemes=scheme,
            engine=engine,
            output=output,
            events=events,
            as_json=as_json,
        ),
    )


def _train(
    *,
    workers: int,
    iterations: int,
    features: int,
    uncoded_seconds: float,
    shift: float,
    seed: int,
    schemes: list[str] | None,
    engine: str,
    output: Path | None,
    events: Path | None,
    as_json: bool,
) -> None:
    # Imported here, so that the other commands and --help stay quick.
    from scipy import stats

    from cgc_fast.datasets import digits_with_random_features
    from cgc_fast.experiment import COMPARED, Run, train_by_schemes, train_without_workers
    from cgc_fast.problems import SoftmaxRegression
    from cgc_fast.training import softmax_accuracy

    for name in schemes or ():
        if name not in COMPARED:
            raise unknown_name("scheme", name, COMPARED)
    # Uncoded first: gains are over it.
    names = tuple(name for name in COMPARED if not schemes or name in {"uncoded", *schemes})
    console = Console(stderr=as_json)
    digits = digits_with_random_features(features=features, seed=seed)
    problem = SoftmaxRegression(digits.train_features, digits.train_labels, classes=10)
    # Shifted exponential, scaled so that the slowest of N workers takes uncoded_seconds for its share.
    slowest = shift + sum(1.0 / k for k in range(1, workers + 1))
    cycles = problem.samples / workers * problem.coordinates
    scale = uncoded_seconds / (cycles * slowest)
    cycle_time = stats.expon(loc=shift * scale, scale=scale)
    cycle_times = cycle_time.rvs(size=(iterations, workers), random_state=np.random.default_rng(seed + 1))

    plain, step = train_without_workers(problem, iterations)

    def accuracies(theta: Any) -> tuple[float, float]:
        return (
            softmax_accuracy(theta, digits.train_features, digits.train_labels),
            softmax_accuracy(theta, digits.test_features, digits.test_labels),
        )

    clocks = {
        "c = 0: the published model, forward pass free": 0.0,
        "real c: forward pass as dear as all derivatives": problem.forward_cycles,
    }
    groups: dict[str, list[Run]] = {title: [] for title in clocks}
    console.print(
        f"{problem.samples} training images, {problem.coordinates} parameters, {workers} workers, "
        f"{iterations} iterations; cycle times: shifted exponential, slowest / fastest mean "
        f"{slowest / (shift + 1.0 / workers):.0f}"
    )
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    with Live(console=console, refresh_per_second=4) as live:
        for title, forward_cycles in clocks.items():
            task = progress.add_task("", total=len(names) * iterations)

            def on_iteration(run: Run, done: int, title: str = title, task: Any = task) -> None:
                finished = len(groups[title])
                progress.update(
                    task,
                    completed=finished * iterations + done,
                    description=f"{title.split(':')[0]}, {run.name}",
                )
                shown = {name: list(runs) for name, runs in groups.items()}
                shown[title].append(run)
                live.update(Group(*_tables(shown, accuracies(plain), None), progress))

            folder = None
            if events is not None:
                folder = events / ("real-c" if forward_cycles else "c-0")
                folder.mkdir(parents=True, exist_ok=True)
            for run in train_by_schemes(
                problem,
                cycle_time,
                cycle_times,
                step=step,
                forward_cycles=forward_cycles,
                engine=engine,
                seed=seed,
                names=names,
                on_iteration=on_iteration,
                events=folder,
            ):
                groups[title].append(run)
        live.update(Group(*_tables(groups, accuracies(plain), accuracies)))

    deviation = max(
        float(np.abs(run.theta - plain).max() / np.abs(plain).max())
        for runs in groups.values()
        for run in runs
    )
    console.print(
        f"Largest deviation of any parameter from training without workers: {deviation:.1e} of the largest "
        "parameter."
    )
    results = {
        "workers": workers,
        "iterations": iterations,
        "coordinates": problem.coordinates,
        "samples": problem.samples,
        "engine": engine,
        "seed": seed,
        "accuracy_without_workers": accuracies(plain),
        "largest_deviation": deviation,
        "clocks": {
            title: [_result(run, runs[0], accuracies(run.theta)) for run in runs]
            for title, runs in groups.items()
        },
    }
    if output is not None:
        from cgc_fast.timeline import plot_experiment

        output.mkdir(parents=True, exist_ok=True)
        plot_experiment(groups, problem.samples, output / "train.png")
        (output / "train.json").write_text(json.dumps(results, indent=1) + "\n")
        console.print(f"Picture: {output / 'train.png'}   results: {output / 'train.json'}")
    if as_json:
        typer.echo(json.dumps(results))


def _result(run: Any, uncoded: Any, accuracy: tuple[float, float]) -> dict[str, Any]:
    return {
        "scheme": run.name,
        "method": run.plan.method,
        "block_sizes": None if run.plan.block_sizes is None else run.plan.block_sizes.tolist(),
        "planned_s": run.plan.expected_runtime,
        "simulated_s": float(run.simulated_s.mean()),
        "measured_s": float(run.measured_s.mean()),
        "speed_up": float(uncoded.measured_s.mean() / run.measured_s.mean()),
        "train_accuracy": accuracy[0],
        "test_accuracy": accuracy[1],
    }


def _tables(groups: dict[str, list[Any]], plain: tuple[float, float], accuracies: Any) -> list[Table]:
    """Make a table a clock; accuracies only when the trainings are over."""
    tables = []
    for title, runs in groups.items():
        if not runs:
            continue
        table = Table(
            title=title,
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        for column in ("seconds an iteration", "planned", "simulated", "measured", "gain", "train", "test"):
            table.add_column(column, justify="left" if not table.columns else "right", no_wrap=True)
        for run in runs:
            done = len(run.measured_s)
            same = float(runs[0].measured_s[:done].mean() / run.measured_s.mean())
            train_accuracy, test_accuracy = ("", "")
            if accuracies is not None:
                train_accuracy, test_accuracy = (f"{value:.2%}" for value in accuracies(run.theta))
            table.add_row(
                run.name,
                f"{run.plan.expected_runtime:.3f}",
                f"{run.simulated_s[:done].mean():.3f}",
                f"{run.measured_s.mean():.3f}",
                f"{same:.2f}x",
                train_accuracy,
                test_accuracy,
            )
        table.add_row("without workers", "", "", "", "", f"{plain[0]:.2%}", f"{plain[1]:.2%}", style="dim")
        tables.append(table)
    return tables
