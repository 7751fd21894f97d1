"""`cgc-fast reproduce`: the published figures side by side with ours."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from cgc_fast.errors import CgcError
from cgc_fast.published import FIGURES, NOTES, Point, plot_points
from cgc_fast.published import reproduce as compute_points

__all__ = ["reproduce"]


def reproduce(
    draws: Annotated[int, typer.Option(help="Monte Carlo draws of what is not exact.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the points as JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the figures into this file.")] = None,
) -> None:
    """Compute the published figures of block coordinate gradient coding, one row a point."""
    try:
        points = compute_points(draws=draws, seed=seed)
        if plot is not None:
            import matplotlib

            matplotlib.use("Agg")
            plot_points(points).savefig(plot, dpi=110)
    except (CgcError, OSError, ImportError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    if as_json:
        rows = [{**asdict(point), "difference": point.difference} for point in points]
        typer.echo(json.dumps({"points": rows, "not_reproduced": list(NOTES)}, allow_nan=False))
    else:
        _show(points)


def _show(points: list[Point]) -> None:
    console = Console()
    for figure in FIGURES:
        title = figure.replace("_vs_", " against ").replace("_", " ")
        unit = " (in 1e7 M b / N)" if figure == FIGURES[0] else ""
        at = "lg t" if figure.endswith("threshold") else "N"
        headings = (at, "", "published", "ours", "±", "difference", "by")
        table = Table(*headings, box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
        for index in (0, 2, 3, 4, 5):
            table.columns[index].justify = "right"
        for point in points:
            if point.figure == figure:
                table.add_row(
                    f"{point.at:g}",
                    point.column,
                    f"{point.published:.3f}",
                    f"{point.ours:.4f}",
                    f"{point.standard_error:.4f}" if point.standard_error else "",
                    f"{point.difference:+.3f}",
                    point.method,
                )
        console.print(f"{title}{unit}", style="bold", highlight=False)
        console.print(table)
    for note in NOTES:
        console.print(note, highlight=False)
