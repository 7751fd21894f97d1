"""`cgc-fast compare`: schemes, methods and baselines for one straggler model, side by side."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from cgc_fast.cli.options import CyclesPerDerivative, CycleTime, ForwardCycles, Samples, TraceFile, Workers
from cgc_fast.cli.plan_command import read_cycle_time
from cgc_fast.comparison import Comparison, completed
from cgc_fast.comparison import compare as make_comparison
from cgc_fast.errors import CgcError
from cgc_fast.frontier import Frontier
from cgc_fast.frontier import frontier as make_frontier
from cgc_fast.straggler_models import StragglerModel

__all__ = ["compare"]


def compare(
    coordinates: Annotated[int, typer.Option(help="Number of coordinates L of the gradient.")],
    workers: Workers = None,
    cycle_time: CycleTime = None,
    trace: TraceFile = None,
    samples: Samples = 1.0,
    cycles_per_derivative: CyclesPerDerivative = 1.0,
    forward_cycles: ForwardCycles = 0.0,
    threshold: Annotated[
        float | None, typer.Option(help="Seconds within which iterations should be completed.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Monte Carlo draws.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw runtimes, completion and block sizes.")] = None,
    frontier: Annotated[
        bool,
        typer.Option(
            "--frontier", help="Instead: runtime against storage and traffic, of every scheme that fits."
        ),
    ] = False,
    all_schemes: Annotated[
        bool,
        typer.Option(
            "--all-schemes", help="Also pairs, walked blocks and others without block sizes; takes longer."
        ),
    ] = False,
    max_values_sent: Annotated[
        list[float] | None,
        typer.Option(
            help="With --frontier, most values that a worker may send, in multiples of L; may be repeated."
        ),
    ] = None,
    feedback: Annotated[
        str,
        typer.Option(
            help="With --all-schemes or --frontier, the most that workers may learn: none, announce or claim."
        ),
    ] = "none",
    latency: Annotated[
        float, typer.Option(help="With --all-schemes or --frontier, seconds that feedback takes.")
    ] = 0.0,
) -> None:
    """Compare every method of the schemes with block sizes, and the baselines, on common draws.

    With --all-schemes the others compete, too.

    With --frontier every scheme is planned for at most 1, 2, 4, ... and N parts of the samples a worker, and
    for each --max-values-sent; the picture shows runtime against parts stored and values sent.
    """
    try:
        model = read_cycle_time(cycle_time, trace)
        if workers is None:
            if not isinstance(model, StragglerModel):
                raise typer.BadParameter("a law says nothing about the number of workers: give --workers")
            workers = model.workers
        if frontier:
            points = make_frontier(
                workers,
                coordinates,
                model,
                samples=samples,
                cycles_per_derivative=cycles_per_derivative,
                forward_cycles=forward_cycles,
                max_values_sent=max_values_sent or [1.0],
                feedback=feedback,  # type: ignore[arg-type]
                latency=latency,
                draws=draws,
                seed=seed,
            )
            _show_frontier(points, plot, as_json)
            return
        made = make_comparison(
            workers,
            coordinates,
            model,
            samples=samples,
            cycles_per_derivative=cycles_per_derivative,
            forward_cycles=forward_cycles,
            threshold=threshold,
            all_schemes=all_schemes,
            feedback=feedback,  # type: ignore[arg-type]
            latency=latency,
            draws=draws,
            seed=seed,
        )
        if plot is not None:
            _save(made, plot)
    except (CgcError, OSError, ImportError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps(_form(made), allow_nan=False))
    else:
        _show(made)


def _show_frontier(made: Frontier, plot: Path | None, as_json: bool) -> None:
    if plot is not None:
        import matplotlib

        matplotlib.use("Agg")
        figure = made.plot().get_figure(root=True)
        assert figure is not None
        figure.savefig(plot, dpi=110)
    if as_json:
        rows = [
            {
                "scheme": point.score.name,
                "note": point.score.note,
                "max_parts": point.max_parts,
                "max_values_sent": point.max_values_sent,
                "expected_runtime_s": _number(point.score.runtime),
                "standard_error_s": _number(point.score.standard_error),
                "parts": point.score.parts,
                "values_sent": point.score.values_sent,
                "efficient": point.efficient,
            }
            for point in made.points
        ]
        form = {
            "workers": made.model.workers,
            "coordinates": made.coordinates,
            "bound_s": _number(made.bound),
        }
        typer.echo(json.dumps({**form, "cycle_time": repr(made.model), "points": rows}, allow_nan=False))
        return
    table = Table(
        "parts", "", "seconds", "±", "sent/L", "at most", "", box=SIMPLE, show_edge=False, pad_edge=False
    )
    for column in (*table.columns[:1], *table.columns[2:6]):
        column.justify = "right"
    for point in made.points:
        score = point.score
        table.add_row(
            f"{score.parts:.3g}",
            score.name.replace("_", " "),
            f"{score.runtime:.4g}",
            f"{score.standard_error / score.runtime:.1%}",
            f"{score.values_sent:.3g}",
            f"{point.max_values_sent:g}",
            "*" if point.efficient else "",
        )
    console = Console()
    console.print(f"{made.model}, {made.coordinates} coordinates; bound {made.bound:.4g} s", highlight=False)
    console.print(table)
    console.print(
        "Parts of M/N samples that a worker stores, mean seconds of an iteration ± standard error, values "
        "that all workers send in multiples of L, the most that one may; * nothing is better in all three.",
        highlight=False,
    )


def _save(made: Comparison, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    made.plot().savefig(path, dpi=110)


def _form(made: Comparison) -> dict[str, Any]:
    rows = []
    uncoded = made.entries[0].mean
    for entry in made.entries:
        mean, error = entry.mean, entry.standard_error
        rows.append(
            {
                "name": entry.name,
                "note": entry.note,
                "expected_runtime_s": _number(mean),
                "standard_error_s": _number(error),
                "speed_up_over_uncoded": _number(uncoded / mean) if 0 < mean < math.inf else None,
                "completion_probability": None
                if entry.runtimes is None
                else float(completed(entry.runtimes, made.threshold)),
                "block_sizes": None if entry.block_sizes is None else entry.block_sizes.tolist(),
            }
        )
    return {
        "workers": made.model.workers,
        "coordinates": made.coordinates,
        "cycle_time": repr(made.model),
        "threshold_s": made.threshold,
        "entries": rows,
    }


def _number(value: float) -> float | str | None:
    """JSON has no infinity, and nothing to say is nothing."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else "inf"


def _show(made: Comparison) -> None:
    form = _form(made)
    table = Table(
        "",
        "",
        "seconds",
        "±",
        "gain",
        "P[≤ t]",
        box=SIMPLE,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for index, column in enumerate(table.columns):
        column.justify = "right" if index > 1 else "left"
        column.no_wrap = True
    refused = []
    for row in form["entries"]:
        mean, error = row["expected_runtime_s"], row["standard_error_s"]
        if mean is None:
            refused.append(row)
            continue
        gain = row["speed_up_over_uncoded"]
        table.add_row(
            row["name"],
            row["note"],
            mean if isinstance(mean, str) else f"{mean:.4g}",
            "" if error is None or isinstance(mean, str) else f"{error / mean:.1%}",
            "" if gain is None or isinstance(gain, str) else f"{gain:.2f}×",
            f"{row['completion_probability']:.3f}",
        )
    console = Console()
    console.print(f"{form['cycle_time']}, {form['coordinates']} coordinates", highlight=False)
    console.print(table)
    console.print(
        "Mean seconds of an iteration ± standard error, all on the same draws; gain over uncoded; "
        f"probability to complete within t = {form['threshold_s']:.4g} s.",
        highlight=False,
    )
    for row in refused:
        console.print(f"{row['name']}: {row['note']}", highlight=False)
