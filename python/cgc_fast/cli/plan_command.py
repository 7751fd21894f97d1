"""`cgc-fast plan`: a scheme with its parameters for a straggler model, as a table, JSON or a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from cgc_fast.cli.options import CyclesPerDerivative, CycleTime, ForwardCycles, Samples, TraceFile, Workers
from cgc_fast.planning import METHODS, OBJECTIVES, SCHEMES, Plan
from cgc_fast.planning import plan as make_plan
from cgc_fast.straggler_models import StragglerModel, Trace, parse_law

__all__ = ["plan", "read_cycle_time"]


def plan(
    coordinates: Annotated[int, typer.Option(help="Number of coordinates L of the gradient.")],
    workers: Workers = None,
    cycle_time: CycleTime = None,
    trace: TraceFile = None,
    objective: Annotated[str, typer.Option(help=f"{' or '.join(sorted(OBJECTIVES))}.")] = "expected_runtime",
    threshold: Annotated[
        float | None,
        typer.Option(help="Seconds, for completion_probability: the probability to complete by then."),
    ] = None,
    scheme: Annotated[
        str, typer.Option(help=f"{', '.join(SCHEMES)}; auto takes the best that fits.")
    ] = "cyclic",
    method: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(METHODS)}; for completion_probability "
            f"{', '.join(OBJECTIVES['completion_probability'])}. By default the best. Schemes without block "
            "sizes have only search."
        ),
    ] = None,
    samples: Samples = 1.0,
    cycles_per_derivative: CyclesPerDerivative = 1.0,
    forward_cycles: ForwardCycles = 0.0,
    max_parts: Annotated[int | None, typer.Option(help="Most parts of M/N samples a worker holds.")] = None,
    min_redundancy: Annotated[int, typer.Option(help="Least number of missing workers to survive.")] = 0,
    max_values_sent: Annotated[
        float | None, typer.Option(help="Most values that a worker may send, in multiples of L.")
    ] = None,
    min_block: Annotated[int, typer.Option(help="Least size of a block that is not empty.")] = 1,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="Workers walk coordinates in rising order only.")
    ] = False,
    feedback: Annotated[
        str | None,
        typer.Option(help="What workers may learn: none, announce (what is decoded), or claim."),
    ] = None,
    latency: Annotated[float, typer.Option(help="Seconds that feedback takes.")] = 0.0,
    draws: Annotated[int, typer.Option(help="Monte Carlo draws.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write the plan to this file, for Plan.load.")] = None,
) -> None:
    """Plan a scheme for a straggler model and show how good it is."""
    model = read_cycle_time(cycle_time, trace)
    made = make_plan(
        _number_of_workers(workers, model),
        coordinates,
        model,
        objective=objective,
        threshold=threshold,
        scheme=scheme,
        method=method,
        samples=samples,
        cycles_per_derivative=cycles_per_derivative,
        forward_cycles=forward_cycles,
        max_parts=max_parts,
        min_redundancy=min_redundancy,
        max_values_sent=max_values_sent,
        min_block=min_block,
        sequential=sequential,
        feedback=feedback,  # type: ignore[arg-type]
        latency=latency,
        draws=draws,
        seed=seed,
    )
    if save is not None:
        made.save(save)
    if as_json:
        typer.echo(json.dumps(made.to_dict(), allow_nan=False))
    else:
        _show(made)


def read_cycle_time(cycle_time: str | None, trace: Path | None) -> object:
    """Turn the options --cycle-time and --trace, of which exactly one is needed, into a `cycle_time`."""
    if (cycle_time is None) == (trace is None):
        raise typer.BadParameter("give exactly one of --cycle-time and --trace")
    if trace is not None:
        return Trace.from_csv(trace)
    assert cycle_time is not None
    return parse_law(cycle_time)


def _number_of_workers(workers: int | None, model: object) -> int:
    if workers is not None:
        return workers
    if isinstance(model, StragglerModel):
        return model.workers
    raise typer.BadParameter("a law says nothing about the number of workers: give --workers")


def _show(made: Plan) -> None:
    console = Console()
    console.print(made.summary(), highlight=False, soft_wrap=True)
    if made.block_sizes is None or made.relaxed_block_sizes is None:
        return
    table = Table("redundancy", "coordinates", "share", "before rounding")
    for level in np.flatnonzero(made.block_sizes):
        size = int(made.block_sizes[level])
        table.add_row(
            str(level), str(size), f"{size / made.coordinates:.1%}", f"{made.relaxed_block_sizes[level]:.2f}"
        )
    console.print(table)
