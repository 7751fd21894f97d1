"""`cgc-fast timeline`: what an event log says, as a table, and the picture of one iteration."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from cgc_fast.errors import ArgumentValueError
from cgc_fast.reports import IterationReport, LoggedSchedule, read_events

__all__ = ["timeline"]


def timeline(
    events: Annotated[Path, typer.Argument(help="Event log, as `Cluster(events=...)` writes it.")],
    iteration: Annotated[
        int | None, typer.Option(min=1, help="Number of the iteration to draw; by default the slowest.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Picture of that iteration.")] = Path("timeline.png"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as JSON; draw only if --iteration is given.")
    ] = False,
) -> None:
    """Show who delivered what when: figures of all iterations of an event log, and one of them drawn.

    The picture has a lane for each worker: a bar is a delivered payload, coloured by how many workers its
    block can do without; dotted lines are blocks that decode; what befell a worker is marked.
    """
    schedule, reports = read_events(events)
    summary = _summarise(schedule, reports, iteration)
    if summary.drawn is None:
        raise ArgumentValueError(
            f"{events}: expected iteration {iteration}; the log has {len(summary.elapsed_s)} iterations"
            if summary.elapsed_s and iteration is not None
            else f"{events}: expected at least one iteration, the log has none"
        )
    if as_json:
        typer.echo(json.dumps(_form(summary), allow_nan=False))
    else:
        _show(summary)
    if not as_json or iteration is not None:
        _save(summary.drawn.schedule or schedule, summary.drawn, out)
        if not as_json:
            Console().print(f"Iteration {summary.drawn.iteration}: {out}", highlight=False)


@dataclass
class _Summary:
    """Of all iterations; arrays by worker (N,)."""

    elapsed_s: list[float]
    incomplete: int
    slowest: IterationReport | None
    drawn: IterationReport | None
    counts: dict[str, Any]


def _summarise(schedule: LoggedSchedule, reports: Iterable[IterationReport], wanted: int | None) -> _Summary:
    counts = {what: np.zeros(schedule.workers, dtype=int) for what in _COUNTED}
    summary = _Summary([], 0, None, None, counts)
    for report in reports:
        by = report.schedule or schedule
        visits = np.array(by.visits) if by.feedback == "none" else 0
        summary.elapsed_s.append(report.elapsed_s)
        summary.incomplete += not report.complete
        if summary.slowest is None or report.elapsed_s > summary.slowest.elapsed_s:
            summary.slowest = report
        if report.iteration == wanted:
            summary.drawn = report
        handed_over = np.zeros(schedule.workers, dtype=int)
        for delivery in report.deliveries:
            handed_over[delivery.worker] += 1
            counts["delivered" if delivery.finite else "non-finite"][delivery.worker] += 1
        counts["abandoned"] += np.maximum(0, visits - handed_over)
        for event in report.events:
            if event.what in ("suspected", "lost", "rescue"):
                counts[event.what][event.worker] += 1
    if wanted is None:
        summary.drawn = summary.slowest
    return summary


# As the events are called, in the order of the table.
_COUNTED = ("delivered", "abandoned", "non-finite", "suspected", "lost", "rescue")


def _form(summary: _Summary) -> dict[str, Any]:
    assert summary.slowest is not None
    return {
        "iterations": len(summary.elapsed_s),
        "incomplete": summary.incomplete,
        "mean_s": float(np.mean(summary.elapsed_s)),
        "median_s": float(np.median(summary.elapsed_s)),
        "max_s": float(np.max(summary.elapsed_s)),
        "slowest": summary.slowest.iteration,
        "workers": {what.replace("-", "_"): count.tolist() for what, count in summary.counts.items()},
    }


def _show(summary: _Summary) -> None:
    form = _form(summary)
    console = Console()
    incomplete = f", {summary.incomplete} of them incomplete" if summary.incomplete else ""
    console.print(
        f"{form['iterations']} iterations{incomplete}: mean {form['mean_s']:.4g} s, median "
        f"{form['median_s']:.4g} s, max {form['max_s']:.4g} s (iteration {form['slowest']})",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("worker", *_COUNTED[:-1], "rescues", box=SIMPLE)
    for column in table.columns:
        column.justify = "right"
    for worker, row in enumerate(zip(*summary.counts.values(), strict=True)):
        table.add_row(str(worker), *(str(count) if count else "-" for count in row))
    console.print(table)
    console.print(
        "Payloads that were delivered, not needed any more, and refused; how often a worker was silent for "
        "too long, was lost, and was told to visit rows for others.",
        highlight=False,
    )


def _save(schedule: LoggedSchedule, report: IterationReport, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from cgc_fast.timeline import plot_timeline

    ax = plot_timeline(schedule, report)
    ax.set_title(f"iteration {report.iteration}", fontsize=10, loc="left")
    ax.figure.savefig(path, dpi=110)
    import matplotlib.pyplot as plt

    plt.close(ax.figure)
