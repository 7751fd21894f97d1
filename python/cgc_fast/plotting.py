"""Pictures of schedules: the rectangle, its cells, and the walks through them. Needs the extra `plot`."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cgc_fast.errors import ArgumentTypeError
from cgc_fast.schedule import Cell, Schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import BoundaryNorm, Colormap

__all__ = ["import_pyplot", "plot_schedule", "tolerance_colours"]

_MOST_WALKS = 8  # more are not told apart
_MOST_EDGES = 300  # more cells than this would be all edges
_HEADS = 3  # arrow heads a walk
# From no tolerance to the highest: pale ones to draw upon, strong ones to stand alone.
_SHADES = ("#f6e9c9", "#d3e6c8", "#a5d3ca", "#7fb6d2")
_STRONG_SHADES = ("#eec77d", "#9ec98c", "#4aa39f", "#22608f")
_COLOURS = ("#b2182b", "#1b6ca8", "#d9730d", "#2e7d32", "#7b3294", "#8c510a", "#c2408b", "#404040")


def plot_schedule(schedule: Schedule, ax: Axes | None = None) -> Axes:
    """Draw the rectangle of coordinates and samples as a schedule tiles and walks it.

    Cells are coloured by `Schedule.tolerance`: how many workers may be missing. An arrow is the walk of one
    worker, in each cell at the height of its row; of many workers a few are drawn, evenly spaced. The hatched
    band is what the first worker drawn sums at each coordinate.

    Parameters
    ----------
    schedule : Schedule
        Any.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    """
    if not isinstance(schedule, Schedule):
        raise ArgumentTypeError(f"schedule: expected a Schedule, got {type(schedule).__name__}")
    plt = import_pyplot()
    if ax is None:
        _, ax = plt.subplots(figsize=(9.0, 4.5), layout="constrained")
    _draw_cells(schedule, ax)
    count = min(schedule.workers, _MOST_WALKS)
    shown = np.unique(np.linspace(0, schedule.workers - 1, count).round().astype(int)).tolist()
    for worker, colour in zip(shown, _COLOURS, strict=False):
        _draw_walk(schedule, worker, colour, ax)
    _draw_support(schedule, shown[0], _COLOURS[0], ax)

    ax.set_xlim(0, schedule.coordinates)
    ax.set_ylim(0, 1)
    ax.set_xlabel("coordinate")
    ax.set_ylabel("samples, as a fraction of all")
    ax.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=5,
        frameon=False,
        fontsize="small",
        handlelength=1.3,
        columnspacing=1.1,
    )
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def import_pyplot() -> ModuleType:
    """Import matplotlib.pyplot; the error where it is missing names the extra that brings it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'cgc_fast[plot]'") from error
    return plt


def tolerance_colours(tolerances: NDArray[np.int64], *, strong: bool = False) -> NDArray[np.float64]:
    """Colours (C, 4) of cells with these tolerances (C,), as in `plot_schedule`, or stronger ones."""
    norm, colours = _colour_scale(tolerances, _STRONG_SHADES if strong else _SHADES)
    return np.asarray(colours(norm(tolerances)), dtype=np.float64)


def _tolerances(schedule: Schedule) -> NDArray[np.int64]:
    """Tolerance (C,) of all cells; 0 for empty ones, which are never seen."""
    cells = enumerate(schedule.cells)
    return np.array([0 if cell.is_empty else schedule.tolerance(index) for index, cell in cells])


def _colour_scale(tolerances: NDArray[np.int64], shades: Sequence[str]) -> tuple[BoundaryNorm, Colormap]:
    from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap

    levels = max(int(tolerances.max()), 1) + 1
    colours = LinearSegmentedColormap.from_list("tolerance", shades, N=max(levels, 256))
    return BoundaryNorm(np.arange(levels + 1) - 0.5, colours.N), colours


def _draw_cells(schedule: Schedule, ax: Axes) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    tolerances = _tolerances(schedule)
    norm, colours = _colour_scale(tolerances, _SHADES)
    filled = [index for index, cell in enumerate(schedule.cells) if not cell.is_empty]
    tiles = [schedule.cells[index] for index in filled]
    ax.add_collection(
        PatchCollection(
            [Rectangle((t.start, t.low), t.width, t.high - t.low) for t in tiles],
            facecolors=colours(norm(tolerances[filled])),
            edgecolors="white" if len(tiles) <= _MOST_EDGES else "none",
            linewidths=1.2,
            zorder=1,
        )
    )
    figure = ax.get_figure()
    if figure is not None:
        bar = figure.colorbar(ScalarMappable(norm, colours), ax=ax, pad=0.015, aspect=28)
        bar.set_label("tolerance: workers that may be missing")
        bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
        bar.ax.minorticks_off()
        bar.outline.set_visible(False)


def _draw_support(schedule: Schedule, worker: int, colour: str, ax: Axes) -> None:
    """Hatch the samples that a worker sums in each cell that it visits."""
    from matplotlib.patches import Rectangle

    label = f"what worker {worker} sums"
    for cell, low, high in zip(*schedule.visited_samples(worker), strict=True):
        tile = schedule.cells[cell]
        band = Rectangle((tile.start, low), tile.width, high - low, label=label)
        band.set(facecolor="none", edgecolor=colour, hatch="////", linewidth=0.0, alpha=0.4, zorder=2)
        ax.add_patch(band)
        label = "_nolegend_"


def _draw_walk(schedule: Schedule, worker: int, colour: str, ax: Axes) -> None:
    """Draw lines through the cells in the order of the visits, from a dot on, with arrow heads."""
    pieces = _paths(schedule, worker)
    label = f"worker {worker}"
    shares = np.arange(1, _HEADS + 1) / _HEADS if len(pieces) == 1 else np.ones(1)
    for piece in pieces:
        ax.plot(*piece.T, color=colour, linewidth=1.6, label=label, zorder=3, clip_on=False)
        label = "_nolegend_"
        steps = np.hypot(*(np.diff(piece, axis=0) / [schedule.coordinates, 1.0]).T)
        travelled = np.concatenate([[0.0], np.cumsum(steps)])
        for share in shares:
            tip, tail = (
                tuple(np.interp(at * travelled[-1], travelled, piece[:, axis]) for axis in (0, 1))
                for at in (share, share - 1e-3)
            )
            head = {"arrowstyle": "-|>", "color": colour, "mutation_scale": 13, "shrinkA": 0, "shrinkB": 0}
            ax.annotate("", xy=tip, xytext=tail, arrowprops=head, zorder=4, annotation_clip=False)
    if pieces:
        ax.plot(*pieces[0][0], "o", color=colour, markersize=4.5, zorder=4, clip_on=False)


def _paths(schedule: Schedule, worker: int) -> list[NDArray[np.float64]]:
    """Corners (P, 2) of a walk, in pieces that each go through neighbouring cells.

    A cell is crossed at the height of the row, or, where the walk goes on to another cell over the same
    coordinates, upward or downward at a place of the row's own.
    """
    margin = 0.012 * schedule.coordinates
    walk = schedule.walks[worker]
    pieces: list[list[tuple[float, float]]] = []
    before: Cell | None = None
    visits = [(schedule.cells[cell], row) for cell, row in zip(walk.cells, walk.rows, strict=True)]
    for index, (cell, row) in enumerate(visits):
        after = visits[index + 1][0] if index + 1 < len(visits) else None
        if before is None or not _touch(before, cell):
            pieces.append([])
        share = (row + 0.5) / cell.code.rows
        if any(other is not None and _overlap(cell, other) for other in (before, after)):
            x = cell.start + share * cell.width
            ends = [(x, cell.low), (x, cell.high)]
            backward = _falls([t.low for t in (before, cell, after) if t is not None])
        else:
            y = cell.low + share * (cell.high - cell.low)
            inner = min(margin, 0.25 * cell.width)
            ends = [(cell.start + inner, y), (cell.stop - inner, y)]
            backward = _falls([t.start for t in (before, cell, after) if t is not None])
        pieces[-1] += reversed(ends) if backward else ends
        before = cell
    return [np.array(piece) for piece in pieces]


def _falls(places: Sequence[float]) -> bool:
    """Whether the first step between places goes down: the step to a cell or, at the first cell, from it."""
    return len(places) > 1 and places[1] < places[0]


def _overlap(one: Cell, other: Cell) -> bool:
    return one.start < other.stop and other.start < one.stop


def _touch(one: Cell, other: Cell) -> bool:
    return (
        one.start <= other.stop
        and other.start <= one.stop
        and one.low <= other.high
        and other.low <= one.high
    )
