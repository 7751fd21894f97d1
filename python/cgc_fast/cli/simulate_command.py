"""`cgc-fast simulate`: iterations of a plan on drawn cycle times, beside the baselines on the same draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from cgc_fast.cli.options import LAW_HELP, CyclesPerDerivative, ForwardCycles, Samples, TraceFile, Workers
from cgc_fast.cli.plan_command import read_cycle_time
from cgc_fast.errors import ArgumentValueError, unknown_name
from cgc_fast.planning import SCHEMES as PLANNED
from cgc_fast.planning import Plan
from cgc_fast.planning import plan as make_plan
from cgc_fast.schemes import single_level_schedule, uncoded_schedule
from cgc_fast.simulation import simulate as simulate_draws
from cgc_fast.straggler_models import StragglerModel, as_straggler_model

__all__ = ["simulate"]

SCHEMES = ("uncoded", "single_level", *PLANNED)
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_SHOWN = (0.05, 0.5, 0.95)


def simulate(
    plan: Annotated[
        Path | None, typer.Argument(help="A plan saved by `cgc-fast plan --save`; or give the options below.")
    ] = None,
    scheme: Annotated[str, typer.Option(help=f"{', '.join(SCHEMES)}.")] = "cyclic",
    coordinates: Annotated[int | None, typer.Option(help="Number of coordinates L of the gradient.")] = None,
    workers: Workers = None,
    cycle_time: Annotated[
        str | None,
        typer.Option(help=f"{LAW_HELP} By default the one that the plan was made for."),
    ] = None,
    trace: TraceFile = None,
    method: Annotated[
        str | None,
        typer.Option(help="How block sizes are planned: as for `cgc-fast plan`; by default the best."),
    ] = None,
    code: Annotated[
        str | None,
        typer.Option(help="Show the same blocks under other codes too: cyclic, grouped, repetition or auto."),
    ] = None,
    samples: Samples = 1.0,
    cycles_per_derivative: CyclesPerDerivative = 1.0,
    forward_cycles: ForwardCycles = 0.0,
    delay: Annotated[float, typer.Option(help="Seconds that a message to the master takes.")] = 0.0,
    latency: Annotated[
        float | None,
        typer.Option(help="Seconds that feedback takes; by default what a plan was made for, or 0."),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Iterations to simulate.")] = 5_000,
    seed: Annotated[int, typer.Option(help="Seed of the draws and of the plan.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Simulate iterations and compare with uncoded and the best single level on the same draws.

    A plan file brings its scheme, sizes and costs along; a law or a trace given beside it replaces its own.
    """
    given = None
    if plan is None or cycle_time is not None or trace is not None:
        given = read_cycle_time(cycle_time, trace)
    if plan is not None:
        made = Plan.load(plan)
    else:
        made = _make_plan(
            scheme,
            coordinates,
            workers,
            given,
            method=method,
            samples=samples,
            cycles_per_derivative=cycles_per_derivative,
            forward_cycles=forward_cycles,
            latency=0.0 if latency is None else latency,
            seed=seed,
        )
    model = made.cycle_time if given is None else as_straggler_model(given, made.workers)
    if model is None:
        raise ArgumentValueError("the plan names no law of the cycle times: give --cycle-time or --trace")
    if latency is None:
        latency = made.parameters.get("latency", 0.0)
    results = _compare(made, model, draws, seed, code=code, delay=delay, latency=latency)
    if as_json:
        made_for = {"workers": made.workers, "coordinates": made.coordinates, "method": made.method}
        results_on = {"draws": draws, "seed": seed, "schemes": results}
        typer.echo(json.dumps({**made_for, **results_on}, allow_nan=False))
    else:
        _show(results)


def _make_plan(
    scheme: str,
    coordinates: int | None,
    workers: int | None,
    cycle_time: object,
    *,
    method: str | None,
    **others: Any,
) -> Plan:
    if scheme not in SCHEMES:
        raise unknown_name("scheme", scheme, SCHEMES)
    if coordinates is None:
        raise typer.BadParameter("give a plan, or --coordinates and --cycle-time or --trace")
    if workers is None:
        if not isinstance(cycle_time, StragglerModel):
            raise typer.BadParameter("a law says nothing about the number of workers: give --workers")
        workers = cycle_time.workers
    if scheme in ("uncoded", "single_level"):  # cyclic schedules with all coordinates at one level
        scheme, method = "cyclic", scheme
    return make_plan(workers, coordinates, cycle_time, scheme=scheme, method=method, **others)


def _compare(
    made: Plan,
    model: StragglerModel,
    draws: int,
    seed: int,
    *,
    code: str | None,
    delay: float,
    latency: float,
) -> list[dict[str, Any]]:
    """Statistics of the plan and of the baselines, on the same draws."""
    times = model.draw(np.random.default_rng(seed), draws)
    # What a single level costs is proportional to n + 1, forward passes included.
    nth_fastest = np.sort(times, axis=1)[:, ::-1].mean(axis=0)
    best_level = int(np.argmin(np.arange(1, made.workers + 1) * nth_fastest))
    single = made.method in ("uncoded", "single_level")
    name = made.method if single else made.scheme
    schedules = {
        name: made.schedule(),
        **({} if code is None else {f"{name}, {code} codes": made.schedule(code)}),
        "uncoded": uncoded_schedule(made.workers, made.coordinates),
        f"best single level, {best_level}": single_level_schedule(made.workers, made.coordinates, best_level),
    }
    runtimes = {
        name: simulate_draws(
            schedule,
            times,
            samples=made.samples,
            cycles_per_derivative=made.cycles_per_derivative,
            forward_cycles=made.forward_cycles,
            delay=delay,
            latency=latency,
        )
        for name, schedule in schedules.items()
    }
    uncoded = float(runtimes["uncoded"].mean())
    return [_statistics(name, runtime, uncoded) for name, runtime in runtimes.items()]


def _statistics(name: str, runtime: NDArray[np.float64], uncoded_mean: float) -> dict[str, Any]:
    """Statistics in seconds; infinity as "inf", and None where it leaves nothing to say."""
    mean = float(runtime.mean())
    finite = np.isfinite(mean)
    quantiles = np.quantile(runtime, _QUANTILES, method="inverted_cdf")
    return {
        "scheme": name,
        "mean_s": mean if finite else "inf",
        "standard_error_s": float(runtime.std() / np.sqrt(runtime.size)) if finite else None,
        "quantiles_s": {
            f"{level:g}": float(value) if np.isfinite(value) else "inf"
            for level, value in zip(_QUANTILES, quantiles, strict=True)
        },
        "completed": float(np.isfinite(runtime).mean()),
        "speed_up_over_uncoded": uncoded_mean / mean
        if finite and mean and np.isfinite(uncoded_mean)
        else None,
    }


def _show(results: list[dict[str, Any]]) -> None:
    table = Table("", "mean", "±", *(f"{level:.0%}" for level in _SHOWN), "gain", box=SIMPLE)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in results:
        gain, error = row["speed_up_over_uncoded"], row["standard_error_s"]
        table.add_row(
            row["scheme"],
            _seconds(row["mean_s"]),
            "" if error is None or not row["mean_s"] else f"{error / row['mean_s']:.1%}",
            *(_seconds(row["quantiles_s"][f"{level:g}"]) for level in _SHOWN),
            "" if gain is None else f"{gain:.2f}×",
        )
    console = Console()
    console.print(table)
    console.print(
        "Seconds an iteration: mean ± standard error, quantiles; gain over uncoded.",
        highlight=False,
    )
    for row in results:
        if row["completed"] < 1.0:
            console.print(f"{row['scheme']}: {row['completed']:.1%} of the iterations end.", highlight=False)


def _seconds(value: float | str) -> str:
    if isinstance(value, str):
        return value
    digits, _, exponent = f"{value:.4g}".partition("e")
    return f"{digits}e{int(exponent)}" if exponent else digits
