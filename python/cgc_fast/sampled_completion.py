"""Block sizes of a large completion probability from a sample of the cycle times, judged on a hold-out.

The fraction of draws with max_k R_k c_k <= t, c_k the cycles up to level k, is a step function of the
block sizes. It is smoothed: a draw counts as 1 / (1 + sum_k (R_k c_k / t)^(1/h)), which becomes the indicator
as the width h falls, and is climbed with h falling from several starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from cgc_fast.arguments import Cost
from cgc_fast.closed_forms import equalised_block_sizes
from cgc_fast.forward_search import neighbours
from cgc_fast.hold_out import halves, is_larger, per_iteration, standard_error
from cgc_fast.levels import Levels
from cgc_fast.straggler_models import StragglerModel, Trace

__all__ = ["SampledCompletion", "sampled_completion"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Widths h: factors of the runtime within which a draw counts partly are about e^h.
_WIDTHS = (0.3, 0.1, 0.03, 0.01)
_RANKING_WIDTH = 0.03
# Statistics that climbs look at (their winners are chosen by all), and that are kept at once: 128 MiB.
_CLIMB_ENTRIES, _ENTRIES = 100_000, 2**24
_ITERATIONS = 40
# Quantiles of the level times that starts finish together.
_QUANTILES = (0.5, 0.9, 0.99)
# With forward passes: sets of levels looked at after the starts.
_MOST_SETS = 40
# Lowest levels that are tried where workers may never answer.
_MOST_LOWEST = 10
# Share that a climb gives to every level that it may use.
_NEW = 1e-3
_LARGEST_EXPONENT = 200.0


@dataclass(frozen=True, eq=False)
class SampledCompletion:
    """Sizes (K,), real, and entries of a `CompletionReport`."""

    sizes: Array
    report: dict[str, Any]


def sampled_completion(
    levels: Levels,
    model: StragglerModel,
    coordinates: int,
    cost: Cost,
    threshold: float,
    *,
    thin: Callable[[Array], list[Array]],
    rounded: Callable[[Array], Array],
    several: bool = True,
    draws: int = 20_000,
    repeats: int = 1,
    generators: tuple[np.random.Generator, np.random.Generator],
) -> SampledCompletion:
    """Climb the smoothed completion probability of a sample and judge the result on a hold-out.

    Parameters
    ----------
    levels : Levels
        The K levels allowed.
    model : StragglerModel
        Nothing censored; workers may never answer.
    threshold : float
        Seconds.
    thin, rounded : callable
        From real sizes (K,), those that respect the limits on blocks; and whole ones.
    several : bool
        Several starts, sets of levels where c > 0, and one-level plans as candidates; otherwise one climb.
    draws : int
        Of the sample, and again of the hold-out; a trace has its own.
    repeats : int
        So many neighbouring rows of a trace stand for one iteration.
    generators : pair of Generator
        For the sample and for the hold-out.

    Notes
    -----
    A trace is split in time, as in `sampled_plan`: if what its first half gives is not refused on the
    second, the block sizes are the best found for all rows.
    """

    def make(times: Array, count: int) -> _Sample:
        return _Sample(levels, times, count, coordinates, cost, threshold, thin, rounded)

    if isinstance(model, Trace):
        sample, hold_out = (make(half, repeats) for half in halves(model.times, repeats))
        everything = make(model.times, repeats)
    else:
        count = min(draws, max(1, _ENTRIES // levels.workers))
        sample = everything = make(model.draw(generators[0], count), 1)
        hold_out = make(model.draw(generators[1], count), 1)
    sizes, starts = sample.best(several)
    report: dict[str, Any] = {
        "starts": starts,
        "in_sample_probability": sample.probability(sizes),
    }
    if hold_out.count:
        own = hold_out.completed(sizes)
        others = sample.one_level_sizes()
        seen = {name: hold_out.completed(one) for name, one in others.items()}
        name = max(sorted(seen), key=lambda name: float(seen[name].mean()))
        replaced = several and is_larger(seen[name], own)
        if replaced:
            sizes, own = others[name], seen[name]
            report["in_sample_probability"] = sample.probability(sizes)
        report |= {
            "one_level": name,
            "one_level_hold_out_probability": float(seen[name].mean()),
            "hold_out_probability": float(own.mean()),
            "hold_out_standard_error": standard_error(own) if len(own) > 1 else None,
            "replaced": replaced,
        }
    if everything is not sample:
        sizes = (
            everything.one_level_sizes()[report["one_level"]]
            if report.get("replaced")
            else everything.best(several)[0]
        )
    return SampledCompletion(sizes, report)


class _Sample:
    """Draws (S, N), `repeats` neighbouring ones an iteration where they are a trace that was imputed."""

    def __init__(
        self,
        levels: Levels,
        times: Array,
        repeats: int,
        coordinates: int,
        cost: Cost,
        threshold: float,
        thin: Callable[[Array], list[Array]],
        rounded: Callable[[Array], Array],
    ) -> None:
        self.levels = levels
        self.times = times
        self.repeats = repeats
        self.count = len(times) // repeats
        self.coordinates = coordinates
        self.cost = cost
        self.threshold = threshold
        self.thin = thin
        self.rounded = rounded
        self.statistics = levels.statistics(times) if self.count else np.empty((0, len(levels.work)))
        rows = max(200, _CLIMB_ENTRIES // len(levels.work))
        # Spread over the rows, so that neighbouring iterations of a trace do not decide.
        few = self.statistics[:: max(1, len(self.statistics) // rows)]
        self.log_few = np.log(few / threshold)

    def completed(self, sizes: Array) -> Array:
        """Whether each iteration completes in time (count,), averaged over its imputations."""
        done = self.levels.runtimes(self.times, self.statistics, self.rounded(sizes), self.cost)
        return per_iteration(done <= self.threshold, self.repeats)

    def probability(self, sizes: Array) -> float:
        return float(self.completed(sizes).mean())

    def one_level_sizes(self) -> dict[str, Array]:
        """The best single level on these draws, and uncoded where it is allowed."""
        cycles = self.levels.single_level_cycles(self.coordinates, self.cost)
        inside = (self.statistics * cycles <= self.threshold).mean(axis=0)
        sizes = {"single_level": self._one(int(np.argmax(inside)))}
        if self.levels.redundancies[0] == 0:
            sizes["uncoded"] = self._one(0)
        return sizes

    def best(self, several: bool) -> tuple[Array, int]:
        """Sizes (K,), real, of the largest fraction completed that was found, and the number of climbs."""
        every = np.ones(len(self.levels.work), dtype=np.bool_)
        starts = self._starts()
        if not several:
            found = [self._climb(starts[-1], every, 0.0)]
            climbs = 1
        elif self.cost.forward_cycles == 0:
            found = [self._climb(start, every, 0.0) for start in starts]
            found += [self._climb(starts[-1], used, 0.0) for used in self._with_enough_answers()]
            climbs = len(found)
        else:
            found, climbs = self._over_sets(starts, every)
        candidates = [sizes for climbed in found for sizes in climbed]
        if several:
            candidates += starts + list(self.one_level_sizes().values())
        allowed = [sizes for candidate in candidates for sizes in self.thin(candidate)]
        if not allowed:  # a climb alone, and blocks too small: one level always fits
            allowed = [self.one_level_sizes()["single_level"]]
        return max(allowed, key=self._rank), climbs

    def _rank(self, sizes: Array) -> tuple[float, float]:
        whole = self.rounded(sizes)
        smooth, _ = self._smooth(whole, whole > 0, _RANKING_WIDTH, self.cost.forward_cycles)
        return self.probability(sizes), -smooth

    def _starts(self) -> list[Array]:
        """One-level sizes, and those that finish all levels' quantiles together, the highest last."""
        starts = list(self.one_level_sizes().values())
        power = (self.levels.redundancies + 1.0)[None]
        with np.errstate(divide="ignore"):
            quantiles = 1.0 / np.quantile(self.statistics, _QUANTILES, axis=0, method="higher")
        for rates in (*power, *quantiles):
            if rates.any():
                starts.append(equalised_block_sizes(rates, self.levels.work, self.coordinates))
        return starts

    def _with_enough_answers(self) -> list[Mask]:
        """Where workers may never answer: the levels from some lowest one on.

        A level in use, however small, waits for its answers, and a climb does not see what is won when it
        becomes empty.
        """
        answered = np.isfinite(self.statistics).mean(axis=0)
        lowest = np.flatnonzero(np.diff(answered, prepend=answered[0]) > 0)
        lowest = lowest[np.linspace(0, len(lowest) - 1, min(_MOST_LOWEST, len(lowest))).astype(int)]
        return [np.arange(len(answered)) >= level for level in lowest]

    def _climb(self, start: Array, used: Mask, forward: float) -> list[Array]:
        """Sizes after each width, from the widest on."""
        count = np.count_nonzero(used)
        shares = np.maximum(start[used] / self.coordinates, _NEW / count)
        point = np.log(shares / shares.sum())
        found = []
        for width in _WIDTHS:

            def objective(point: Array, width: float = width) -> tuple[float, Array]:
                weights = np.exp(point - point.max())
                weights /= weights.sum()
                sizes = np.zeros(len(used))
                sizes[used] = self.coordinates * weights
                value, gradient = self._smooth(sizes, used, width, forward)
                slope = gradient[used] * self.coordinates
                return value, weights * (slope - float(slope @ weights))

            result = optimize.minimize(
                objective, point, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS}
            )
            point = np.asarray(result.x) - float(np.max(result.x))
            sizes = np.zeros(len(used))
            sizes[used] = np.exp(point)
            found.append(sizes * (self.coordinates / sizes.sum()))
        return found

    def _over_sets(self, starts: list[Array], every: Mask) -> tuple[list[list[Array]], int]:
        """With forward passes: climbs on sets of levels, from the largest of the optimum for c = 0."""
        free = max((self._climb(start, every, 0.0) for start in starts[-2:]), key=lambda f: self._rank(f[-1]))
        order = np.argsort(-free[-1], kind="stable")
        sets: dict[bytes, Mask] = {}
        members = [np.flatnonzero(one) for one in self.one_level_sizes().values()]
        members += [np.flatnonzero(used) for used in self._with_enough_answers()]
        members += [order[:count] for count in (1, 2, 3, 5, 8, len(order)) if count <= len(order)]
        for chosen in members:
            used = np.zeros(len(every), dtype=np.bool_)
            used[chosen] = True
            sets[used.tobytes()] = used
        forward = self.cost.forward_cycles
        seen = {key: self._climb(free[-1], used, forward) for key, used in sets.items()}
        here, left, improved = max(seen, key=lambda key: self._rank(seen[key][-1])), _MOST_SETS, True
        while improved:
            improved = False
            for used in neighbours(sets[here]):
                key = used.tobytes()
                if key in sets:
                    continue
                left -= 1
                if left < 0:
                    break
                sets[key] = used
                carried = np.maximum(seen[here][-1], 0.02 * self.coordinates) * used
                seen[key] = self._climb(carried, used, forward)
                if self._rank(seen[key][-1]) > self._rank(seen[here][-1]):
                    here, improved = key, True
                    break
        return list(seen.values()), len(seen)

    def _smooth(self, sizes: Array, used: Mask, width: float, forward: float) -> tuple[float, Array]:
        """-log odds of the smoothed fraction, and its gradient in the sizes; O(S K)."""
        work = self.levels.work
        scale = self.cost.samples / self.levels.workers
        cycles = scale * (self.cost.cycles_per_derivative * np.cumsum(work * sizes) + forward * work)
        counted = used & (cycles > 0)
        exponents = (self.log_few[:, counted] + np.log(cycles[counted])) / width
        late = np.exp(np.minimum(exponents, _LARGEST_EXPONENT))
        total = late.sum(axis=1)
        inside = 1.0 / (1.0 + total)
        outside = total * inside
        p, q = float(inside.mean()), float(outside.mean())
        # dp / dlog cycles_k, then to the sizes: x_i enters W_k for k >= i.
        slopes = np.zeros(len(work))
        slopes[counted] = -((inside * inside) @ late) / (len(late) * width) / cycles[counted]
        by_sizes = scale * self.cost.cycles_per_derivative * work * np.cumsum(slopes[::-1])[::-1]
        q = max(q, 1e-300)
        return float(np.log(q) - np.log(p)), -by_sizes * (1.0 / p + 1.0 / q)

    def _one(self, level: int) -> Array:
        sizes = np.zeros(len(self.levels.work))
        sizes[level] = self.coordinates
        return sizes
