"""Pictures of what was measured: the timeline of an iteration, losses against wall-clock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cgc_fast.cluster import IterationReport
from cgc_fast.experiment import Run
from cgc_fast.plotting import import_pyplot, redundancy_colours
from cgc_fast.schedule import Schedule

__all__ = ["plot_experiment", "plot_losses", "plot_timeline"]

_COLOURS = ("#8c8c8c", "#d1813a", "#2a6fbb", "#2e8b57", "#8a4fb0")
_WIDTHS = (1.6, 5.0, 3.0, 1.4, 1.0)


def plot_timeline(
    schedule: Schedule,
    report: IterationReport,
    ax: Any = None,
    *,
    beside: tuple[str, IterationReport] | None = None,
) -> Any:
    """Draw one iteration: a lane a worker, a bar a delivered payload, a line where a block decoded.

    Parameters
    ----------
    schedule : Schedule
    report : IterationReport
        Of the iteration, from `cluster.last_report`.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    beside : (str, IterationReport), optional
        Another scheme's name and its iteration under the same cycle times, drawn thin and grey in each lane.

    Returns
    -------
    matplotlib Axes
    """
    plt = import_pyplot()
    if ax is None:
        _, ax = plt.subplots(figsize=(9, 0.45 * schedule.workers + 1.5), layout="constrained")
    tolerances = [schedule.tolerance(cell) for cell in range(len(schedule.cells))]
    colours = redundancy_colours(schedule, strong=True)
    last_s = [0.0] * schedule.workers
    for delivery in report.deliveries:
        ax.barh(
            delivery.worker,
            delivery.ended_s - last_s[delivery.worker],
            left=last_s[delivery.worker],
            height=0.72,
            color=colours[delivery.cell] if delivery.finite else "black",
            edgecolor="white",
            linewidth=0.6,
        )
        last_s[delivery.worker] = delivery.ended_s
    for worker, moment_s in enumerate(last_s):
        if moment_s < report.elapsed_s:
            ax.barh(
                worker,
                report.elapsed_s - moment_s,
                left=moment_s,
                height=0.72,
                facecolor="none",
                edgecolor="#b0b0b0",
                hatch="////",
                linewidth=0.4,
            )
    for moment_s in report.blocks_s.values():
        ax.axvline(moment_s, color="#202020", linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=3)
    ax.axvline(report.elapsed_s, color="#202020", linewidth=1.6, zorder=3)
    right_s = report.elapsed_s
    if beside is not None:
        name, other = beside
        right_s = max(right_s, other.elapsed_s)
        for delivery in other.deliveries:
            ax.barh(delivery.worker + 0.41, delivery.ended_s, height=0.1, color="#9a9a9a")
        ax.axvline(other.elapsed_s, color="#707070", linewidth=1.4, linestyle="--")
        ax.annotate(
            f"{name} complete ",
            (other.elapsed_s, 0.97),
            xycoords=("data", "axes fraction"),
            ha="right",
            va="top",
            fontsize=8,
            color="#505050",
        )
    ax.set_xlim(0, 1.02 * right_s if right_s > 0 else 1)
    ax.set_ylim(schedule.workers - 0.45, -0.5)
    ax.set_yticks(range(schedule.workers), [f"worker {w}" for w in range(schedule.workers)], fontsize=8)
    ax.set_xlabel("seconds since the iteration began")
    first_cell = {tolerances[delivery.cell]: delivery.cell for delivery in report.deliveries}
    handles = [
        plt.Rectangle((0, 0), 1, 1, color=colours[cell], label=f"needs {schedule.workers - level} of them")
        for level, cell in sorted(first_cell.items())
    ]
    handles.append(
        plt.Rectangle((0, 0), 1, 1, facecolor="none", edgecolor="#b0b0b0", hatch="////", label="abandoned")
    )
    handles.append(plt.Line2D([], [], color="#202020", linestyle=(0, (1, 1.5)), label="a block decodes"))
    handles.append(plt.Line2D([], [], color="#202020", linewidth=1.6, label="gradient complete"))
    if beside is not None:
        label = f"the same workers, {beside[0]}"
        handles.append(plt.Line2D([], [], color="#9a9a9a", linewidth=3, label=label))
    ax.legend(handles=handles, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return ax


def plot_losses(runs: Sequence[Run], ax: Any, samples: int) -> Any:
    """Draw the mean training loss against wall-clock seconds, a line a run."""
    # Lines may coincide: the later ones are thinner.
    for run, colour, width in zip(runs, _COLOURS, _WIDTHS, strict=False):
        seconds = np.concatenate([[0.0], np.cumsum(run.measured_s)])
        ax.plot(seconds, run.losses / samples, color=colour, linewidth=width, label=run.name)
        ax.plot(seconds, run.losses / samples, ".", color=colour, markersize=4 + width)
    ax.set_yscale("log")
    ax.set_xlim(left=0)
    ax.set_xlabel("wall-clock seconds")
    ax.set_ylabel("mean training loss")
    ax.grid(alpha=0.25)
    ax.legend(fontsize=8)
    return ax


def plot_experiment(groups: dict[str, list[Run]], samples: int, path: Path) -> None:
    """Write the picture of an experiment.

    Above, one iteration of the cyclic blocks; below, the losses of each group of runs against wall-clock.

    Parameters
    ----------
    groups : dict
        Title -> runs, the first of them uncoded.
    samples : int
        M.
    path : Path
        Of the PNG file.
    """
    plt = import_pyplot()
    figure = plt.figure(figsize=(11, 7.6), layout="constrained")
    grid = figure.add_gridspec(2, len(groups), height_ratios=[1.0, 1.15])
    first = next(iter(groups.values()))
    uncoded = first[0]
    shown = next((run for run in first if run.name == "cyclic blocks"), first[-1])
    # An iteration like most: the one whose gain is the median gain.
    gains = uncoded.simulated_s / shown.simulated_s
    typical = int(np.argsort(gains)[len(gains) // 2])
    ax = figure.add_subplot(grid[0, :])
    plot_timeline(shown.schedule, shown.reports[typical], ax, beside=(uncoded.name, uncoded.reports[typical]))
    ax.set_title(f"One iteration of {shown.name}: slow workers count for what they finished", fontsize=11)
    for column, (title, runs) in enumerate(groups.items()):
        axis = figure.add_subplot(grid[1, column])
        plot_losses(runs, axis, samples)
        axis.set_title(title, fontsize=11)
    figure.savefig(path, dpi=130)
    plt.close(figure)
