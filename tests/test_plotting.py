import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import matplotlib
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cgc_fast.codes import RepetitionCode
from cgc_fast.errors import ArgumentTypeError
from cgc_fast.plotting import _tolerances, plot_schedule, tolerance_colours
from cgc_fast.schedule import Cell, Schedule, Walk
from cgc_fast.schemes import cyclic_schedule, fractional_repetition_schedule, uncoded_schedule

SIZES = [5724, 1619, 1178, 1114, 1238, 1592, 2449, 5086]


@pytest.fixture(autouse=True, scope="module")
def fonts():
    """Matplotlib keeps the files of fonts open from the first text on: no leak of a test."""
    figure = Figure()
    figure.text(0.5, 0.5, "text")
    figure.draw_without_rendering()


@pytest.fixture(autouse=True)
def figures():
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def lines(ax):
    """Walks by label, as their corners."""
    return {
        line.get_label(): np.column_stack(line.get_data())
        for line in ax.lines
        if line.get_label().startswith("worker")
    }


def pairs(cells=10):
    tiles = [Cell(2 * k, 2 * k + 2, 0, 1, RepetitionCode(2)) for k in range(cells)]
    order = np.arange(cells)
    walks = [Walk(order, np.zeros(cells, dtype=int)), Walk(order[::-1], np.ones(cells, dtype=int))]
    return Schedule(2, 2 * cells, tiles, walks, "announce")


def shared(workers=3, cells=6):
    tiles = [Cell(0, 9, k / cells, (k + 1) / cells, RepetitionCode(workers)) for k in range(cells)]
    walks = [Walk(np.roll(np.arange(cells), -2 * w), [w] * cells) for w in range(workers)]
    return Schedule(workers, 9, tiles, walks, "claim")


@pytest.mark.parametrize(
    "made",
    [
        uncoded_schedule(8, 20_000),
        cyclic_schedule(8, 20_000, SIZES),
        fractional_repetition_schedule(8, 20_000, SIZES),
        fractional_repetition_schedule(7, 28, [4] * 7),
        cyclic_schedule(1, 1, [1]),
        pairs(),
        shared(),
    ],
    ids=["uncoded", "cyclic", "repetition", "not nested", "smallest", "pairs", "shared"],
)
def test_everything_lies_in_the_rectangle(made):
    ax = made.plot()
    assert ax.get_xlim() == (0, made.coordinates)
    assert ax.get_ylim() == (0, 1)
    for corners in lines(ax).values():
        assert ((corners >= 0) & (corners <= [made.coordinates, 1])).all()
    ax.figure.canvas.draw()


def test_cells_are_coloured_by_tolerance():
    made = cyclic_schedule(8, 20_000, SIZES)
    (cells,) = (item for item in plot_schedule(made).collections if isinstance(item, PatchCollection))
    colours = [tuple(colour) for colour in cells.get_facecolor()]
    assert len(colours) == len(made.cells) == 15
    assert len(set(colours[:8])) == 1
    assert len(set(colours)) == 8
    np.testing.assert_array_equal(tolerance_colours(_tolerances(made)), colours)
    strong = tolerance_colours(_tolerances(made), strong=True)
    assert len({tuple(colour) for colour in strong}) == 8
    assert not np.isclose(strong, colours).all(axis=1).any()


def test_colours_are_by_cell_empty_or_not():
    cells = [Cell(0, 4, 0.5, 0.5, RepetitionCode(1)), Cell(0, 4, 0, 1, RepetitionCode(1))]
    made = Schedule(1, 4, cells, [Walk([1], [0])])
    assert tolerance_colours(_tolerances(made)).shape == (2, 4)


def test_walks_run_at_the_height_of_their_rows():
    corners = lines(plot_schedule(cyclic_schedule(8, 20_000, SIZES)))
    assert list(corners) == [f"worker {w}" for w in range(8)]
    for w in range(8):
        np.testing.assert_allclose(corners[f"worker {w}"][:, 1], (w + 0.5) / 8, rtol=1e-12)
        assert (np.diff(corners[f"worker {w}"][:, 0]) >= 0).all()


def test_a_pair_walks_towards_each_other():
    corners = lines(plot_schedule(pairs()))
    assert (np.diff(corners["worker 0"][:, 0]) >= 0).all()
    assert (np.diff(corners["worker 1"][:, 0]) <= 0).all()


def test_stacked_cells_are_crossed_upward():
    ax = plot_schedule(shared())
    x = {label: corners[:, 0] for label, corners in lines(ax).items()}
    for w in range(3):
        np.testing.assert_allclose(x[f"worker {w}"], 9 * (w + 0.5) / 3, rtol=1e-12)
    assert lines(ax)["worker 1"][0].tolist() == pytest.approx([4.5, 1 / 3])


def test_the_band_is_what_the_first_worker_sums():
    made = cyclic_schedule(4, 16, [4, 4, 4, 4])
    bands = [patch for patch in plot_schedule(made).patches if isinstance(patch, Rectangle)]
    assert [(*band.get_xy(), band.get_width(), band.get_height()) for band in bands] == [
        (0, 0.0, 4, 0.25),
        (4, 0.0, 4, 0.5),
        (8, 0.0, 4, 0.75),
        (12, 0.0, 4, 1.0),
    ]


def test_of_many_workers_a_few_are_drawn():
    ax = plot_schedule(cyclic_schedule(100, 1000, [10] * 100))
    assert len(lines(ax)) == 8
    assert {"worker 0", "worker 99"} < set(lines(ax))


def test_draws_where_it_is_told(figures):
    _, (left, right) = figures.subplots(1, 2)
    assert uncoded_schedule(2, 4).plot(right) is right
    assert not left.lines
    labels = (right.get_xlabel(), right.get_ylabel())
    assert labels == ("coordinate", "samples, as a fraction of all")
    assert right.get_legend() is not None


def test_a_schedule_is_wanted():
    with pytest.raises(ArgumentTypeError, match="expected a Schedule, got str"):
        plot_schedule("cyclic")


def test_without_matplotlib_the_extra_is_named():
    script = (
        "import sys; sys.modules['matplotlib'] = None; sys.modules['matplotlib.pyplot'] = None\n"
        "from cgc_fast.schemes import uncoded_schedule\n"
        "try:\n    uncoded_schedule(2, 4).plot()\n"
        "except ImportError as error:\n    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'cgc_fast[plot]'" in run.stdout
