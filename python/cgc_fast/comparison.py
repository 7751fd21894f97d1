"""Schemes, methods and baselines for one straggler model, on common draws, and pictures of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast import baselines
from cgc_fast.arguments import Cost, integer, quantity
from cgc_fast.errors import ArgumentValueError
from cgc_fast.levels import SCHEMES
from cgc_fast.planning import METHODS, plan
from cgc_fast.plotting import import_pyplot
from cgc_fast.runtime_model import runtime
from cgc_fast.schedule import Feedback
from cgc_fast.scheme_choice import candidates
from cgc_fast.simulation import simulate
from cgc_fast.straggler_models import IdenticalLaw, StragglerModel, Trace, as_straggler_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Comparison", "Entry", "compare", "completed"]

Array = NDArray[np.float64]

SWEEP_DRAWS = 4_000  # of a point of a picture; half of them to plan with, the others to score
SPEED_VARIATIONS = (0.02, 0.1, 0.5, 1.0, 2.0, 5.0)
FORWARD_COSTS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)
LAYERS = 10  # of the hierarchical baseline
_BY_THRESHOLD = "by threshold"  # a plan for the completion probability

_COLOURS = {
    "uncoded": "#b0b0b0",
    "single level": "#8c510a",
    "partial stragglers": "#d9730d",
    "load balancing": "#7b3294",
    "hierarchical": "#c2408b",
    "cyclic": "#b2182b",
    "fractional repetition": "#1b6ca8",
    "pairs": "#e0b000",
    "walked": "#00a0a0",
    "shared samples": "#303090",
    "bound": "#2e7d32",
}


@dataclass(frozen=True, eq=False)
class Entry:
    """One row of a comparison.

    Attributes
    ----------
    name : str
        Scheme and method.
    note : str
        Its parameters; or why there are no runtimes.
    runtimes : ndarray of float64 of shape (S,) or None
        Seconds, on the common draws.
    block_sizes : ndarray of int64 of shape (N,) or None
        Of a plan.
    """

    name: str
    note: str
    runtimes: Array | None
    block_sizes: NDArray[np.int64] | None = None

    @property
    def mean(self) -> float:
        """Mean runtime in seconds; NaN if there is none."""
        return float("nan") if self.runtimes is None else float(self.runtimes.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean; NaN if there is none."""
        if self.runtimes is None or not np.isfinite(self.mean) or len(self.runtimes) < 2:
            return float("nan")
        return float(self.runtimes.std(ddof=1) / np.sqrt(len(self.runtimes)))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Entries on common draws of one model, and the threshold of their completion probabilities."""

    model: StragglerModel
    coordinates: int
    cost: Cost
    threshold: float
    entries: tuple[Entry, ...]
    seed: int

    def plot(self) -> Figure:
        """Draw runtimes against workers, speed variation and forward cost; completion; block sizes.

        Needs matplotlib. Every point of the first three pictures is planned on 2,000 draws and scored on as
        many others, by the schemes with block sizes. The speed variation is the part of the cycle time that
        is the same for all, in units of the mean of the rest: mu t0 of a shifted exponential law.
        """
        plt = import_pyplot()
        figure, axes = plt.subplots(2, 3, figsize=(14.0, 8.0), layout="constrained")
        generator = np.random.default_rng(self.seed + 1)
        self._plot_workers(axes[0, 0], generator)
        self._plot_speed_variation(axes[0, 1], generator)
        self._plot_forward_cost(axes[0, 2], generator)
        self._plot_completion(axes[1, 0])
        self._plot_block_sizes(axes[1, 1])
        axes[1, 2].axis("off")
        named: dict[str, Any] = {}
        for ax in (axes[1, 0], axes[0, 2]):  # the latter has more baselines, the former maybe more schemes
            handles, labels = ax.get_legend_handles_labels()
            named.update(zip(labels, handles, strict=True))
        labels = [name for name in _COLOURS if name in named]
        handles = [named[name] for name in labels]
        axes[1, 2].set_title(f"{self.model}\n{self.coordinates} coordinates", fontsize=10, loc="left")
        style: dict[str, Any] = {"frameon": False, "fontsize": "small", "labelspacing": 0.25}
        schemes = axes[1, 2].legend(handles, labels, loc="upper left", ncols=2, title="schemes", **style)
        axes[1, 2].add_artist(schemes)
        handles, labels = axes[1, 1].get_legend_handles_labels()
        if handles:
            axes[1, 2].legend(handles, labels, loc="lower left", title="block sizes", **style)
        for ax in axes.flat:
            for side in ("top", "right"):
                ax.spines[side].set_visible(False)
        return figure  # type: ignore[no-any-return]

    def _plot_workers(self, ax: Axes, generator: np.random.Generator) -> None:
        most = self.model.workers
        if isinstance(self.model, IdenticalLaw):
            most *= 2
        counts = sorted({max(2, round(most * share)) for share in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)} - {1})
        points = []
        for count in counts:
            if isinstance(self.model, IdenticalLaw):
                times = IdenticalLaw(self.model.law, count).draw(generator, SWEEP_DRAWS)
            else:
                columns = np.linspace(0, most - 1, count).round().astype(int)
                times = _draws(self.model, SWEEP_DRAWS, generator)[:, columns]
            points.append(_means(times, self.coordinates, self.cost))
        _lines(ax, counts, points)
        ax.set_xlabel("number of workers N")
        ax.set_ylabel("expected runtime, seconds")

    def _plot_speed_variation(self, ax: Axes, generator: np.random.Generator) -> None:
        times = _draws(self.model, SWEEP_DRAWS, generator)
        finite = times[np.isfinite(times)]
        low = finite.min()
        spread = float(finite.mean() - low) or 1.0
        points = []
        for variation in SPEED_VARIATIONS:
            shifted = times - low + variation * spread
            points.append(_means(shifted, self.coordinates, self.cost))
        _lines(ax, SPEED_VARIATIONS, points, relative=True)
        ax.set_xscale("log")
        ax.set_xlabel("common part of the cycle time / mean of the rest (mu t0)")
        ax.set_ylabel("expected runtime / uncoded")

    def _plot_forward_cost(self, ax: Axes, generator: np.random.Generator) -> None:
        times = _draws(self.model, SWEEP_DRAWS, generator)
        backward = self.cost.cycles_per_derivative * self.coordinates
        points = [
            _means(
                times,
                self.coordinates,
                Cost(self.cost.samples, self.cost.cycles_per_derivative, share * backward),
            )
            for share in FORWARD_COSTS
        ]
        _lines(ax, FORWARD_COSTS, points)
        ax.set_xlabel("cost of a forward pass c / (b L)")
        ax.set_ylabel("expected runtime, seconds")

    def _plot_completion(self, ax: Axes) -> None:
        # Dotted: made for just this threshold.
        shown = [entry for entry in self._best_of_each() if entry.runtimes is not None]
        shown += [e for e in self.entries if e.name.endswith(_BY_THRESHOLD) and e.runtimes is not None]
        runtimes = np.concatenate([entry.runtimes for entry in shown if entry.runtimes is not None])
        finite = runtimes[np.isfinite(runtimes)]
        grid = np.linspace(0.0, np.quantile(finite, 0.995), 400)
        for entry in shown:
            assert entry.runtimes is not None
            width = 4.5 if entry.name == "uncoded" else 1.6
            style = "--" if entry.name == "bound" else "-"
            style = ":" if entry.name.endswith(_BY_THRESHOLD) else style
            colour = _COLOURS[_family(entry.name)]
            label = None if style == ":" else _family(entry.name)
            ax.plot(grid, completed(entry.runtimes, grid), style, color=colour, linewidth=width, label=label)
        ax.axvline(self.threshold, color="black", linewidth=0.8, linestyle=":")
        ax.set_xlim(left=0)
        ax.set_ylim(0, 1.02)
        ax.set_xlabel("threshold t, seconds")
        ax.set_ylabel("completion probability P[runtime <= t]")

    def _plot_block_sizes(self, ax: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        for index, entry in enumerate(e for e in self.entries if e.block_sizes is not None):
            assert entry.block_sizes is not None
            used = np.flatnonzero(entry.block_sizes)
            if len(used) < 2:
                continue
            marker, style = "os^vDPX*"[index % 8], "--" if entry.name.startswith("frac") else "-"
            label = entry.name
            ax.plot(used, entry.block_sizes[used], marker=marker, linestyle=style, markersize=4, label=label)
        ax.set_yscale("log")
        ax.set_xlabel("redundancy level n")
        ax.set_ylabel("block size, coordinates")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))

    def _best_of_each(self) -> list[Entry]:
        """Of the methods of a scheme only the best, so that a picture has one line a colour."""
        best: dict[str, Entry] = {}
        for entry in self.entries:
            key = _family(entry.name)
            if entry.name.endswith(_BY_THRESHOLD) or entry.runtimes is None:
                continue
            if key not in best or entry.mean < best[key].mean:
                best[key] = entry
        return list(best.values())


def compare(
    workers: int,
    coordinates: int,
    cycle_time: object,
    *,
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
    threshold: float | None = None,
    all_schemes: bool = False,
    feedback: Feedback = "none",
    latency: float = 0.0,
    draws: int = 20_000,
    seed: int = 0,
) -> Comparison:
    """Score every method of the schemes with block sizes, and the baselines, on common draws.

    Parameters
    ----------
    workers, coordinates, cycle_time, samples, cycles_per_derivative, forward_cycles
        As in `cgc_fast.plan`.
    threshold : float, optional
        Seconds, of the completion probabilities; for a given one, each scheme also has a plan that maximises
        them. By default 90 % of the iterations of the plan of the least mean end by then.
    all_schemes : bool
        Also those without block sizes, planned for the expected runtime, which takes seconds each.
    feedback : {"none", "announce", "claim"}
        The most that workers of these may learn; with "claim" shared samples are among them.
    latency : float
        Seconds that an announcement takes, or a claim from request to answer.
    draws, seed : int
        Draws for planning, for the speeds of load balancing and, independently, for scoring; a trace is
        planned for, measured and scored on its rows.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        As in `cgc_fast.plan`, where no method at all works.
    """
    cost = Cost(samples, cycles_per_derivative, forward_cycles)
    model = as_straggler_model(cycle_time, integer("workers", workers, 1))
    draws, seed = integer("draws", draws, 1), integer("seed", seed, 0)
    if threshold is not None:
        threshold = quantity("threshold", threshold, positive=True)
    times = _draws(model, draws, np.random.default_rng([seed, 1]))
    planned, refusals = [], []
    for scheme in SCHEMES:
        # Uncoded and single levels are the same in both but for the code, and are among the baselines.
        names = [name for name in METHODS if name not in ("uncoded", "single_level")]
        if scheme != "cyclic":
            names.remove("exact")
        asked: dict[str, dict[str, Any]] = {method.replace("_", " "): {"method": method} for method in names}
        if threshold is not None:
            asked[_BY_THRESHOLD] = {"objective": "completion_probability", "threshold": threshold}
        for what, options in asked.items():
            name = f"{scheme.replace('_', ' ')}, {what}"
            try:
                made = plan(
                    workers,
                    coordinates,
                    model,
                    scheme=scheme,
                    draws=draws,
                    seed=seed,
                    **options,
                    **_keywords(cost),
                )
            except ArgumentValueError as error:
                refusals.append(error)
                planned.append(Entry(name, str(error), None))
                continue
            assert made.block_sizes is not None
            done = runtime(made.block_sizes, times, scheme=scheme, **_keywords(cost))
            note = f"{np.count_nonzero(made.block_sizes)} levels"
            planned.append(Entry(name, note, done, made.block_sizes))
    if len(refusals) == len(planned):
        raise refusals[0]
    if all_schemes:
        planned += _without_block_sizes(model, coordinates, cost, times, feedback, latency, draws, seed)
    learned = _draws(model, draws, np.random.default_rng([seed, 2]))
    entries = _baselines(times, coordinates, cost, learned)
    if threshold is None:
        best = min((e for e in planned if e.runtimes is not None), key=lambda e: e.mean)
        assert best.runtimes is not None
        threshold = float(np.quantile(best.runtimes, 0.9, method="inverted_cdf"))
    bound = Entry("bound", "", baselines.lower_bound(times, coordinates, **_keywords(cost)))
    return Comparison(model, coordinates, cost, threshold, (*entries, *planned, bound), seed)


def completed(runtimes: Array, thresholds: Array | float) -> Array:
    """Completion probabilities P[runtime <= t] at the thresholds, from draws of the runtime.

    All completion probabilities of comparisons come from here.
    """
    return np.asarray(np.searchsorted(np.sort(runtimes), thresholds, side="right") / len(runtimes))


def _keywords(cost: Cost) -> dict[str, Any]:
    return {
        "samples": cost.samples,
        "cycles_per_derivative": cost.cycles_per_derivative,
        "forward_cycles": cost.forward_cycles,
    }


def _draws(model: StragglerModel, count: int, generator: np.random.Generator) -> Array:
    return model.times if isinstance(model, Trace) else model.draw(generator, count)


def _without_block_sizes(
    model: StragglerModel,
    coordinates: int,
    cost: Cost,
    times: Array,
    feedback: Feedback,
    latency: float,
    draws: int,
    seed: int,
) -> list[Entry]:
    """Entries of the schemes that are searched for; load balancing is among the baselines."""
    entries = []
    for scheme, asked in candidates(feedback).items():
        if asked["method"] != "search" or scheme == "load_balancing":
            continue
        name = scheme.replace("_", " ")
        if scheme in SCHEMES:
            name += ", search"
        try:
            made = plan(
                model.workers,
                coordinates,
                model,
                latency=latency,
                draws=draws,
                seed=seed,
                **asked,
                **_keywords(cost),
            )
        except ArgumentValueError as error:
            entries.append(Entry(name, str(error), None))
            continue
        assert made.scheme_report is not None
        done = simulate(made.schedule(), times, latency=latency, threads=0, **_keywords(cost))
        entries.append(Entry(name, made.scheme_report.scores[0].note, done))
    return entries


def _baselines(times: Array, coordinates: int, cost: Cost, learned: Array) -> list[Entry]:
    """Baselines on `times`; the speeds of load balancing are those of the draws `learned`."""
    keywords = _keywords(cost)
    single = baselines.best_single_level(times)
    partial = baselines.best_partial_stragglers_level(times)
    return [
        Entry("uncoded", "", baselines.uncoded(times, coordinates, **keywords)),
        Entry(
            "single level",
            f"level {single}",
            baselines.single_level(times, coordinates, single, **keywords),
        ),
        Entry(
            "partial stragglers",
            f"level {partial}",
            baselines.partial_stragglers(times, coordinates, partial, **keywords),
        ),
        Entry(
            "load balancing",
            "by speed",
            baselines.load_balancing(times, coordinates, 1.0 / learned.mean(axis=0), **keywords),
        ),
        Entry(
            "hierarchical",
            f"{LAYERS} layers",
            baselines.hierarchical(times, coordinates, LAYERS, **keywords),
        ),
    ]


def _means(times: Array, coordinates: int, cost: Cost) -> dict[str, float]:
    """Mean runtimes of one point of a picture: planned on every other draw, scored on the others."""
    learn, score = Trace(times[::2]), np.ascontiguousarray(times[1::2] if len(times) > 1 else times)
    values = {entry.name: entry.mean for entry in _baselines(score, coordinates, cost, learn.times)}
    for scheme in SCHEMES:
        made = plan(times.shape[1], coordinates, learn, scheme=scheme, **_keywords(cost))
        assert made.block_sizes is not None
        done = runtime(made.block_sizes, score, scheme=scheme, **_keywords(cost))
        values[scheme.replace("_", " ")] = float(done.mean())
    values["bound"] = float(baselines.lower_bound(score, coordinates, **_keywords(cost)).mean())
    return values


def _lines(
    ax: Axes, at: Sequence[float], points: Sequence[dict[str, float]], *, relative: bool = False
) -> None:
    for name, colour in _COLOURS.items():
        if name not in points[0]:
            continue
        values = np.array([point[name] for point in points])
        if relative:
            values = values / np.array([point["uncoded"] for point in points])
        style = "--" if name == "bound" else "-"
        # Uncoded is wide enough to be seen below load balancing, its equal if all workers are alike.
        width = {"uncoded": 4.5, "cyclic": 2.2, "fractional repetition": 2.2}.get(name, 1.3)
        ax.plot(at, values, style, color=colour, linewidth=width, marker="o", markersize=3.5, label=name)
    ax.set_ylim(bottom=0)


def _family(name: str) -> str:
    return name.partition(",")[0]
