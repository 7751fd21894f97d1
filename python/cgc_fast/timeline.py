"""Pictures of what was measured: the timeline of an iteration, losses against wall-clock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast.experiment import Run
from cgc_fast.plotting import import_pyplot, tolerance_colours
from cgc_fast.reports import IterationReport, LoggedSchedule

__all__ = ["plot_experiment", "plot_losses", "plot_timeline"]

_COLOURS = ("#8c8c8c", "#d1813a", "#2a6fbb", "#2e8b57", "#8a4fb0", "#c2408b", "#202020")
_WIDTHS = (1.6, 5.0, 3.0, 1.4, 1.2, 1.2, 1.0)
_LANE = 0.72  # height of a bar, of a lane of 1
_MOST_INCHES = 16.0
_MOST_NAMES = 40  # more lanes than this are not all named
_ABANDONED: dict[str, Any] = {
    "facecolor": "none",
    "edgecolor": "#b0b0b0",
    "hatch": "////",
    "linewidth": 0.4,
}
_DECODES: dict[str, Any] = {"color": "#202020", "linewidth": 0.8, "linestyle": (0, (1, 1.5))}
_OVER: dict[str, Any] = {"color": "#202020", "linewidth": 1.6}
# What befell a worker -> marker, colour, size, words.
_MARKS = {
    "suspected": ("D", "#d98200", 6.0, "silent for too long: suspected"),
    "killed": ("s", "#7b1fa2", 6.0, "killed: it hung"),
    "lost": ("X", "#c62828", 8.5, "lost: process gone"),
    "ready": (">", "#2e7d32", 8.0, "its successor is ready"),
    "rescue": ("P", "#1565c0", 8.0, "told to visit more rows"),
}


def plot_timeline(
    schedule: LoggedSchedule,
    report: IterationReport,
    ax: Any = None,
    *,
    beside: tuple[str, IterationReport] | None = None,
) -> Any:
    """Draw one iteration: a lane a worker, a bar a delivered payload, a line where a block decoded.

    What befell a worker is marked in its lane: lost, killed, suspected, its successor ready, told to visit
    more rows. The legend explains what occurs.

    Parameters
    ----------
    schedule : LoggedSchedule
        From `read_events`, or `LoggedSchedule.of(schedule)`.
    report : IterationReport
        Of the iteration, from `read_events` or `cluster.last_report`.
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
        height = min(0.45 * schedule.workers + 1.5, _MOST_INCHES)
        _, ax = plt.subplots(figsize=(9, height), layout="constrained")
    tolerances = np.array(
        [0 if c.start == c.stop or c.low == c.high else c.tolerance for c in schedule.cells]
    )
    colours = tolerance_colours(tolerances, strong=True)
    for delivery in report.deliveries:
        ax.barh(
            delivery.worker,
            delivery.ended_s - delivery.began_s,
            left=delivery.began_s,
            height=_LANE,
            color=colours[delivery.cell] if delivery.finite else "black",
            edgecolor="white",
            linewidth=0.6,
        )
    abandoned = [_draw_abandoned(schedule, report, worker, ax) for worker in range(schedule.workers)]
    for moment_s in report.blocks_s.values():
        ax.axvline(moment_s, **_DECODES, zorder=3)
    ax.axvline(report.elapsed_s, **_OVER, zorder=3)
    right_s = report.elapsed_s
    if beside is not None:
        right_s = max(right_s, beside[1].elapsed_s)
        _draw_beside(*beside, ax)
    for event in report.events:
        if event.what in _MARKS:
            marker, colour, size, _ = _MARKS[event.what]
            # Between those two there is no bar; the others stay clear of the bars.
            height = 0.0 if event.what in ("lost", "ready") else 0.5 * _LANE
            ax.plot(
                event.at_s,
                event.worker - height,
                marker,
                color=colour,
                markersize=size,
                markeredgecolor="white",
                markeredgewidth=0.7,
                zorder=5,
                clip_on=False,
            )
    margin_s = 0.02 * right_s
    ax.set_xlim(-0.25 * margin_s if report.events else 0, right_s + margin_s if right_s > 0 else 1)
    ax.set_ylim(schedule.workers - 0.45, -0.6)
    every = -(-schedule.workers // _MOST_NAMES)
    ax.set_yticks(
        range(0, schedule.workers, every),
        [f"worker {w}" for w in range(0, schedule.workers, every)],
        fontsize=8,
    )
    ax.set_xlabel("seconds since the iteration began")
    handles = _legend(plt, report, tolerances, colours, hatched=any(abandoned))
    if beside is not None:
        label = f"the same workers, {beside[0]}"
        handles.append(plt.Line2D([], [], color="#9a9a9a", linewidth=3, label=label))
    ax.legend(handles=handles, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return ax


def _draw_abandoned(schedule: LoggedSchedule, report: IterationReport, worker: int, ax: Any) -> bool:
    """Hatch what a worker was at when it was lost or the iteration ended; whether there is any."""
    mine = [delivery for delivery in report.deliveries if delivery.worker == worker]
    events = [event for event in report.events if event.worker == worker]
    # From each delivery, or the arrival of a successor, to whatever comes next.
    starts_s = [0.0, *(d.ended_s for d in mine), *(e.at_s for e in events if e.what == "ready")]
    lost_s = [event.at_s for event in events if event.what == "lost"]
    spans = [(max((s for s in starts_s if s <= at_s), default=0.0), at_s) for at_s in lost_s]
    # Whoever replaced a worker does what it is told, not the walk.
    last_lost_s = max(lost_s, default=-1.0)
    due = sum(event.rows for event in events if event.at_s >= last_lost_s)
    due += 0 if lost_s else schedule.visits[worker]
    is_there = not lost_s or any(event.what == "ready" and event.at_s >= last_lost_s for event in events)
    # With feedback they are done when others have done the rest.
    if (
        schedule.feedback == "none"
        and is_there
        and due > sum(delivery.ended_s > last_lost_s for delivery in mine)
    ):
        spans.append((max(starts_s), report.elapsed_s))
    spans = [(start_s, stop_s) for start_s, stop_s in spans if stop_s > start_s]
    for start_s, stop_s in spans:
        ax.barh(worker, stop_s - start_s, left=start_s, height=_LANE, **_ABANDONED)
    for at_s in lost_s:  # nobody there until the successor is
        until_s = min(
            (e.at_s for e in events if e.what == "ready" and e.at_s >= at_s), default=report.elapsed_s
        )
        ax.plot([at_s, until_s], [worker, worker], color="#c8c8c8", linewidth=1.0, zorder=1)
    return bool(spans)


def _draw_beside(name: str, other: IterationReport, ax: Any) -> None:
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


def _legend(
    plt: Any,
    report: IterationReport,
    tolerances: NDArray[np.int64],
    colours: NDArray[np.float64],
    *,
    hatched: bool,
) -> list[Any]:
    """Handles for what occurs."""
    first_cell = {int(tolerances[delivery.cell]): delivery.cell for delivery in report.deliveries}
    handles = [
        plt.Rectangle((0, 0), 1, 1, color=colours[cell], label=f"{level} workers may be missing")
        for level, cell in sorted(first_cell.items())
    ]
    for handle in handles:
        handle.set_label(
            handle.get_label().replace("1 workers", "1 worker").replace("0 workers", "no worker")
        )
    if not all(delivery.finite for delivery in report.deliveries):
        handles.append(plt.Rectangle((0, 0), 1, 1, color="black", label="NaN or infinity: refused"))
    if hatched:
        handles.append(plt.Rectangle((0, 0), 1, 1, **_ABANDONED, label="abandoned"))
    if report.blocks_s:
        handles.append(plt.Line2D([], [], **_DECODES, label="a block decodes"))
    over = "gradient complete" if report.complete else "ended, incomplete"
    handles.append(plt.Line2D([], [], **_OVER, label=over))
    occurred = {event.what for event in report.events}
    handles += [
        plt.Line2D([], [], linestyle="", marker=marker, color=colour, markersize=size, label=label)
        for what, (marker, colour, size, label) in _MARKS.items()
        if what in occurred
    ]
    return handles


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
    plot_timeline(
        LoggedSchedule.of(shown.schedule),
        shown.reports[typical],
        ax,
        beside=(uncoded.name, uncoded.reports[typical]),
    )
    ax.set_title(f"One iteration of {shown.name}: slow workers count for what they finished", fontsize=11)
    for column, (title, runs) in enumerate(groups.items()):
        axis = figure.add_subplot(grid[1, column])
        plot_losses(runs, axis, samples)
        axis.set_title(title, fontsize=11)
    figure.savefig(path, dpi=130)
    plt.close(figure)
