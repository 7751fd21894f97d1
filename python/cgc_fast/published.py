"""The published figures [WANG22] side by side with ours, point by point."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cgc_fast import baselines
from cgc_fast.arguments import integer
from cgc_fast.comparison import completed
from cgc_fast.planning import plan
from cgc_fast.plotting import import_pyplot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "NOTES", "Point", "plot_points", "reproduce"]

Array = NDArray[np.float64]

FIGURES = (
    "expected_runtime_vs_workers",
    "completion_probability_vs_workers",
    "completion_probability_vs_threshold",
)
NOTES = (
    "large_threshold: the published column does not follow from its own formula and the parameters given; "
    "ours is what the formula gives.",
    "mean_rate, mean_time at N >= 30: the published order of the two is Monte Carlo noise of about 1 %.",
    "optimal, stationary_point: published by a sampled method; ours is exact, and never worse.",
)

_COLOURS = {
    "optimal": "#b2182b",
    "stationary_point": "#b2182b",
    "mean_rate": "#1b6ca8",
    "mean_time": "#2e7d32",
    "large_threshold": "#7b3294",
    "single_level": "#8c510a",
    "tandon_partial": "#d9730d",
}
_UNIT = 1e7  # the published runtimes are given in


@dataclass(frozen=True)
class Point:
    """One published number and ours.

    Attributes
    ----------
    figure, column : str
        Of `data/reference`.
    at : float
        Number of workers, or log10 of the threshold.
    published, ours : float
        Runtimes in units of 1e7 (M/N) b, or probabilities.
    standard_error : float
        Of ours; 0 where it is exact.
    method : str
        What gave ours.
    """

    figure: str
    column: str
    at: float
    published: float
    ours: float
    standard_error: float
    method: str

    @property
    def difference(self) -> float:
        """Ours minus published."""
        return self.ours - self.published


def reproduce(*, draws: int = 100_000, seed: int = 0) -> list[Point]:
    """Compute every point of the three published figures.

    Parameters
    ----------
    draws, seed : int
        Monte Carlo draws of what is not exact, and their seed.

    Notes
    -----
    About 20 s with 100,000 draws.
    """
    draws, seed = integer("draws", draws, 100), integer("seed", seed, 0)
    return [
        *_expected_runtimes(draws, seed),
        *_completion_probabilities(FIGURES[1], draws, seed),
        *_completion_probabilities(FIGURES[2], draws, seed),
    ]


def plot_points(points: list[Point]) -> Figure:
    """Draw the three figures: lines are ours, circles published; needs matplotlib."""
    plt = import_pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(15.0, 4.8), layout="constrained")
    for name, ax in zip(FIGURES, axes, strict=True):
        mine = [point for point in points if point.figure == name]
        columns = list(dict.fromkeys(point.column for point in mine))
        for column in columns:
            colour = _COLOURS[column]
            line = [point for point in mine if point.column == column]
            at = [point.at for point in line]
            label = column.replace("_", " ")
            if column == "stationary_point":
                label += " (ours: exact)"
            ax.plot(at, [p.ours for p in line], "-", color=colour, linewidth=1.6, label=label)
            ax.plot(at, [p.published for p in line], "o", color=colour, fillstyle="none", markersize=6)
        ax.plot([], [], "-", color="black", label="lines: ours")
        ax.plot([], [], "o", color="black", fillstyle="none", label="circles: published")
        runtimes = name == FIGURES[0]
        ax.set_xlabel("log10 of the threshold" if name == FIGURES[2] else "number of workers N")
        ax.set_ylabel("expected runtime / (1e7 M b / N)" if runtimes else "completion probability")
        if runtimes:
            ax.set_ylim(bottom=0)
        else:
            ax.set_ylim(top=1.01)
        ax.set_title(name.replace("_vs_", " against ").replace("_", " "), fontsize=11)
        ax.legend(frameon=False, fontsize="small", loc="lower right")
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    return figure  # type: ignore[no-any-return]


def _rows(figure: str) -> Iterator[dict[str, str]]:
    text = (resources.files("cgc_fast") / "data" / "reference" / f"{figure}.csv").read_text("utf-8")
    yield from csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))


def _expected_runtimes(draws: int, seed: int) -> Iterator[Point]:
    law, coordinates = stats.expon(loc=50, scale=1000), 20_000
    for row in _rows(FIGURES[0]):
        workers = int(row.pop("workers"))
        for column, text in row.items():
            if column == "tandon_partial":
                generator = np.random.default_rng([seed, workers])
                times = law.rvs(size=(draws, workers), random_state=generator)
                values = baselines.partial_stragglers(times, coordinates, samples=workers)
                ours, error, method = values.mean(), values.std() / np.sqrt(draws), "draws"
            else:
                method = "exact" if column == "optimal" else column
                # The figures leave out the factor M/N: with M = N it is 1.
                made = plan(workers, coordinates, law, method=method, samples=workers, draws=draws, seed=seed)
                ours, error = made.expected_runtime, made.expected_runtime_standard_error
            yield Point(
                FIGURES[0],
                column,
                workers,
                float(text) / _UNIT,
                float(ours) / _UNIT,
                float(error) / _UNIT,
                method,
            )


def _completion_probabilities(figure: str, draws: int, seed: int) -> Iterator[Point]:
    law, coordinates, samples = stats.expon(loc=1, scale=10), 40_000, 50
    drawn: dict[int, Array] = {}
    for row in _rows(figure):
        if "workers" in row:
            workers, log_threshold = int(row.pop("workers")), 6.5
            at: float = workers
        else:
            workers, log_threshold = 20, float(row.pop("log10_t"))
            at = log_threshold
        threshold = 10.0**log_threshold
        if workers not in drawn:
            generator = np.random.default_rng([seed, workers])
            drawn[workers] = law.rvs(size=(draws, workers), random_state=generator)
        times = drawn[workers]
        baseline = {"single_level": baselines.single_level, "tandon_partial": baselines.partial_stragglers}
        for column, text in row.items():
            if column in baseline:
                ours = _most_completed(baseline[column], times, coordinates, samples, threshold)
                error, method = float(np.sqrt(ours * (1 - ours) / draws)), "draws"
            else:
                method = "exact" if column == "stationary_point" else column
                report = plan(
                    workers,
                    coordinates,
                    law,
                    objective="completion_probability",
                    threshold=threshold,
                    method=method,
                    samples=samples,
                ).completion_report
                assert report is not None
                ours, error = report.probability, report.standard_error
            yield Point(figure, column, at, float(text), ours, error, method)


def _most_completed(
    scheme: Callable[..., Array], times: Array, coordinates: int, samples: float, threshold: float
) -> float:
    """Completion probability of the best level of a baseline."""
    return max(
        float(completed(scheme(times, coordinates, level, samples=samples), threshold))
        for level in range(times.shape[1])
    )
