"""`cgc-fast timeline`: figures of an event log, and the picture of one iteration."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import cgc_fast as cgc
from cgc_fast.cli import app
from cgc_fast.experiment import COMPARED
from cgc_fast.reports import Delivery, EventLog, IterationReport, LoggedSchedule, WorkerEvent
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.timeline import plot_timeline
from own_problems import Quadratic

SCHEDULE = cyclic_schedule(3, 6, np.array([2, 4, 0]))
LOGGED = LoggedSchedule.of(SCHEDULE)
# Cells by tolerance; the visits of a walk in this order.
ALL, TWO = (
    next(c for c, cell in enumerate(LOGGED.cells) if cell.start < cell.stop and cell.tolerance == level)
    for level in (0, 1)
)


@pytest.fixture(autouse=True, scope="module")
def fonts():
    """Matplotlib keeps the files of fonts open from the first text on: no leak of a test."""
    figure = Figure()
    figure.text(0.5, 0.5, "text")
    figure.draw_without_rendering()


@pytest.fixture(autouse=True)
def figures():
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def plain(iteration, elapsed_s=3.0, complete=True):
    """Workers 0 and 1 deliver both rows, worker 2 the first."""
    cells = [(worker, cell) for worker in range(3) for cell in (ALL, TWO) if (worker, cell) != (2, TWO)]
    return IterationReport(
        iteration,
        elapsed_s,
        complete,
        [Delivery(w, c, w, 1.0 * (c == TWO), 1.0 + (c == TWO) * (1 + w), True) for w, c in cells],
        {ALL: 1.0, TWO: elapsed_s},
        {0: 1.0, 1: elapsed_s},
    )


def eventful(iteration):
    """Worker 1 is lost, its successor starts over; 2 hangs; 0 sends NaN and visits more."""
    return IterationReport(
        iteration,
        10.0,
        True,
        [
            Delivery(0, ALL, 0, 0.0, 1.0, True),
            Delivery(0, TWO, 0, 1.0, 2.0, False),
            Delivery(1, ALL, 1, 0.0, 1.0, True),
            Delivery(1, TWO, 1, 5.0, 8.0, True),
            Delivery(0, TWO, 2, 6.0, 10.0, True),
        ],
        {ALL: 1.0, TWO: 10.0},
        {0: 1.0, 1: 10.0},
        [
            WorkerEvent(2.0, 0, "non-finite", "cell 1, row 0"),
            WorkerEvent(3.0, 1, "lost", "exit code -9"),
            WorkerEvent(4.0, 2, "suspected"),
            WorkerEvent(5.0, 1, "ready"),
            WorkerEvent(5.0, 1, "rescue", "cell 1 row 1", 1),
            WorkerEvent(6.0, 0, "rescue", "cell 1 row 2", 1),
            WorkerEvent(9.0, 2, "killed", "silent for 8 s"),
        ],
    )


def write(path, reports):
    log = EventLog(path, SCHEDULE)
    for report in reports:
        log.iteration(report)
    log.close()
    return path


def run(*arguments):
    result = CliRunner().invoke(app, ["timeline", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5_000


def test_figures_of_all_iterations(tmp_path):
    path = write(tmp_path / "events.jsonl", [plain(1), eventful(2), plain(3, 5.0, complete=False)])
    code, out, err = run(path, "--json")
    assert code == 0, err
    assert json.loads(out) == {
        "iterations": 3,
        "incomplete": 1,
        "mean_s": 6.0,
        "median_s": 5.0,
        "max_s": 10.0,
        "slowest": 2,
        "workers": {
            "delivered": [6, 6, 2],
            "abandoned": [0, 0, 4],
            "non_finite": [1, 0, 0],
            "suspected": [0, 0, 1],
            "lost": [0, 1, 0],
            "rescue": [1, 1, 0],
        },
    }
    assert list(tmp_path.iterdir()) == [path]  # figures alone draw nothing


def test_the_slowest_is_drawn_unless_another_is_asked_for(tmp_path, monkeypatch):
    path = write(tmp_path / "events.jsonl", [plain(1), eventful(2), plain(3)])
    code, out, err = run(path, "--out", tmp_path / "slowest.png")
    assert code == 0, err
    assert "3 iterations: mean 5.333 s, median 3 s, max 10 s (iteration 2)" in out
    assert "Iteration 2:" in out
    assert is_picture(tmp_path / "slowest.png")
    rows = [line.split() for line in out.splitlines() if line.split() and line.split()[0].isdigit()]
    assert ["1", "6", "-", "-", "-", "1", "1"] in rows
    code, out, err = run(path, "--iteration", 3, "--out", tmp_path / "third.png", "--json")
    assert code == 0, err
    assert json.loads(out)["iterations"] == 3
    assert is_picture(tmp_path / "third.png")
    assert (tmp_path / "third.png").read_bytes() != (tmp_path / "slowest.png").read_bytes()
    monkeypatch.chdir(tmp_path)
    assert run(path)[0] == 0
    assert is_picture(tmp_path / "timeline.png")


def test_what_cannot_be_drawn_is_refused(tmp_path):
    path = write(tmp_path / "events.jsonl", [plain(1)])
    for arguments, message in (
        ([path, "--iteration", 7], "expected iteration 7; the log has 1 iterations"),
        ([write(tmp_path / "none.jsonl", [])], "expected at least one iteration, the log has none"),
        ([tmp_path / "absent.jsonl"], "No such file"),
        ([__file__], "expected an event as JSON"),
        ([path, "--iteration", 0], "--iteration"),
    ):
        code, _, err = run(*arguments, "--out", tmp_path / "picture.png")
        assert code == 2
        assert message in err
    assert not (tmp_path / "picture.png").exists()


def test_a_log_that_was_cut_off_is_shown_up_to_there(tmp_path):
    path = write(tmp_path / "events.jsonl", [plain(1), plain(2)])
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.warns(UserWarning, match="line 3: cut off in the middle"):
        code, out, _ = run(path, "--json")
    assert code == 0
    assert json.loads(out)["iterations"] == 1


def bars(ax):
    """(worker, from, to, hatched), sorted."""
    found = []
    for patch in ax.patches:
        start = float(patch.get_x())
        worker = round(patch.get_y() + patch.get_height() / 2)
        found.append((worker, start, start + float(patch.get_width()), patch.get_hatch() is not None))
    return sorted(found)


def marks(ax):
    """(lane, moment, marker), sorted."""
    return sorted(
        (
            round(line.get_ydata()[0] + 0.36 if line.get_marker() not in "X>" else line.get_ydata()[0]),
            float(line.get_xdata()[0]),
            line.get_marker(),
        )
        for line in ax.lines
        if line.get_marker() not in ("None", "")
    )


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_plain_iteration():
    ax = plot_timeline(LOGGED, plain(1))
    assert bars(ax) == [
        (0, 0.0, 1.0, False),
        (0, 1.0, 2.0, False),
        (1, 0.0, 1.0, False),
        (1, 1.0, 3.0, False),
        (2, 0.0, 1.0, False),
        (2, 1.0, 3.0, True),  # what it was at is abandoned; the others were done
    ]
    assert marks(ax) == []
    assert legend(ax) == [
        "no worker may be missing",
        "1 worker may be missing",
        "abandoned",
        "a block decodes",
        "gradient complete",
    ]
    assert sorted(float(line.get_xdata()[0]) for line in ax.lines) == [1.0, 3.0, 3.0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["worker 0", "worker 1", "worker 2"]


def test_what_befell_workers_is_marked_and_explained():
    ax = plot_timeline(LOGGED, eventful(1))
    assert bars(ax) == [
        (0, 0.0, 1.0, False),
        (0, 1.0, 2.0, False),
        (0, 6.0, 10.0, False),
        (1, 0.0, 1.0, False),
        (1, 1.0, 3.0, True),  # lost with the process
        (1, 5.0, 8.0, False),
        (2, 0.0, 10.0, True),
    ]
    black = [patch for patch in ax.patches if patch.get_facecolor()[:3] == (0, 0, 0) and patch.get_fill()]
    assert [float(patch.get_x()) for patch in black if not patch.get_hatch()] == [1.0]
    assert marks(ax) == [
        (0, 6.0, "P"),
        (1, 3.0, "X"),
        (1, 5.0, ">"),
        (1, 5.0, "P"),
        (2, 4.0, "D"),
        (2, 9.0, "s"),
    ]
    gaps = [line for line in ax.lines if list(line.get_ydata()) == [1, 1]]
    assert [list(map(float, line.get_xdata())) for line in gaps] == [[3.0, 5.0]]
    assert legend(ax)[2:] == [
        "NaN or infinity: refused",
        "abandoned",
        "a block decodes",
        "gradient complete",
        "silent for too long: suspected",
        "killed: it hung",
        "lost: process gone",
        "its successor is ready",
        "told to visit more rows",
    ]


def test_nothing_delivered_and_not_complete():
    report = IterationReport(1, 2.0, False)
    ax = plot_timeline(LOGGED, report)
    assert bars(ax) == [(worker, 0.0, 2.0, True) for worker in range(3)]
    assert legend(ax) == ["abandoned", "ended, incomplete"]
    plot_timeline(LOGGED, IterationReport(1, 0.0, False)).figure.canvas.draw()


def test_beside_another_scheme():
    ax = plot_timeline(LOGGED, plain(1), beside=("uncoded", plain(1, 9.0)))
    assert "the same workers, uncoded" in legend(ax)
    assert ax.get_xlim()[1] >= 9.0
    assert any(isinstance(line, Line2D) and float(line.get_xdata()[0]) == 9.0 for line in ax.lines)


def test_of_many_workers_some_are_named():
    many = LoggedSchedule.of(cyclic_schedule(100, 100, np.array([100] + [0] * 99)))
    ax = plot_timeline(many, IterationReport(1, 1.0, False))
    assert len(ax.get_yticklabels()) <= 40
    assert ax.figure.get_size_inches()[1] <= 16


def test_train_writes_logs_that_timeline_reads(tmp_path):
    arguments = ["train", "--workers", "3", "--iterations", "2", "--features", "30", "--json"]
    arguments += ["--uncoded-seconds", "0.02", "--engine", "serial", "--events", str(tmp_path / "logs")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    logs = sorted(path.relative_to(tmp_path / "logs").as_posix() for path in tmp_path.rglob("*.jsonl"))
    names = sorted(name.replace(" ", "-") for name in COMPARED)
    assert logs == [f"{clock}/{name}.jsonl" for clock in ("c-0", "real-c") for name in names]
    measured = json.loads(done.stdout)["clocks"]
    for clock, runs in zip(("c-0", "real-c"), measured.values(), strict=True):
        for result in runs:
            path = tmp_path / "logs" / clock / f"{result['scheme'].replace(' ', '-')}.jsonl"
            code, out, err = run(path, "--json")
            assert code == 0, err
            assert json.loads(out)["mean_s"] == pytest.approx(result["measured_s"], rel=1e-12)


def test_a_log_of_a_cluster_is_drawn(tmp_path):
    problem = Quadratic.random(9, 6)
    draws = np.random.default_rng(0).exponential(size=(3, 3))
    path = tmp_path / "events.jsonl"
    with cgc.Cluster(SCHEDULE, problem, engine="serial", cycle_times=draws, events=path) as cluster:
        times = [(cluster.gradient(np.ones(6)), cluster.last_report.elapsed_s)[1] for _ in range(3)]
    code, out, err = run(path, "--out", tmp_path / "timeline.png")
    assert code == 0, err
    assert f"(iteration {1 + int(np.argmax(times))})" in out
    assert is_picture(tmp_path / "timeline.png")
