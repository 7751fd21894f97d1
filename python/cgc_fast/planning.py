"""Plans: block sizes for a straggler model, how good they are, and the schedule that they make."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgc_fast.arguments import Cost, integer
from cgc_fast.censoring import complete
from cgc_fast.closed_forms import mean_rate_block_sizes, mean_time_block_sizes
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError, NotCertified, unknown_name
from cgc_fast.exact_method import ExactOptimum, minimise_exactly, relaxed_gap_target
from cgc_fast.exact_runtime import ExactRuntime, exactly_solvable
from cgc_fast.levels import CyclicLevels, Levels, make_levels
from cgc_fast.mixtures import never_probability
from cgc_fast.order_statistics import Means
from cgc_fast.partition import check_boundaries, redundancy_from_block_sizes, round_block_sizes
from cgc_fast.runtime_model import Estimate, completion_and_failure, evaluate
from cgc_fast.sampled_plans import Rivals, SampledPlan, SampleReport, sampled_plan
from cgc_fast.straggler_models import (
    AtMostNever,
    IdenticalLaw,
    StragglerModel,
    Trace,
    as_straggler_model,
    straggler_model_from_dict,
)
from cgc_fast.subgradient import BATCH, minimise_by_subgradient, plot_history

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cgc_fast.schedule import Schedule

__all__ = ["METHODS", "OBJECTIVES", "Plan", "plan"]

Array = NDArray[np.float64]

OBJECTIVES = ("expected_runtime",)
METHODS = (
    "exact",
    "mean_rate",
    "mean_time",
    "sample_average",
    "single_level",
    "subgradient",
    "uncoded",
)

_FORMAT = "cgc_fast plan"
_VERSION = 1

# Entries that may be infinite or missing.
_REAL_ENTRIES = (
    "expected_runtime",
    "expected_runtime_standard_error",
    "lower_bound",
    "relative_gap",
    "relaxed_gap",
)

# Relative difference of two sample means that counts as a tie.
_TIE = 5e-4

# Up to here the exact method is worth its time where no method is asked for.
_EXACT_WORKERS = 1000

# Whole numbers beyond are rounded where block sizes are real.
_MOST_COORDINATES = 2**53

# Statistics that the subgradient method keeps at once: 128 MiB.
_SUBGRADIENT_ENTRIES = 2**24


@dataclass(frozen=True, eq=False)
class Plan:
    """Block sizes for a straggler model, and how good they are. Made by `plan`.

    Attributes
    ----------
    workers, coordinates : int
        N and L.
    scheme : str
        "cyclic" or "fractional_repetition".
    method : str
        The method that gave the block sizes; where the best was asked for, the winner.
    objective : str
        What was optimised.
    block_sizes : ndarray of int64 of shape (N,)
        x: how many coordinates have redundancy n = 0..N-1; sum L. Read-only.
    relaxed_block_sizes : ndarray of float64 of shape (N,)
        Before rounding; sum L. Read-only.
    samples, cycles_per_derivative, forward_cycles : float
        M, b, c of the cost model.
    expected_runtime : float
        Seconds, of the integer `block_sizes`, forward passes included.
    expected_runtime_standard_error : float
        Of its Monte Carlo estimate; 0 where it is exact, also for a trace, whose rows are the model.
    lower_bound, relative_gap, relaxed_gap : float or None
        A certificate: bound on the relaxed optimum in seconds, relative distance of the integer and of the
        relaxed block sizes from it. None where the method has none.
    cycle_time : StragglerModel or None
        The model planned for; None in a loaded plan whose law could not be stored.
    parameters : dict
        Everything else that was asked for: method, max_parts, min_redundancy, min_block, boundaries,
        sequential, draws, seed.
    sample_report : SampleReport or None
        For "sample_average", to whose sampled problem the certificate refers: in-sample and hold-out runtime,
        whether another plan was taken instead, and the scope of the certificate.
    history : ndarray of float64 of shape (iterations,) or None
        For "subgradient": the mean runtime of each iteration's batch of draws, before its step, in seconds,
        without forward passes. Read-only.
    """

    workers: int
    coordinates: int
    scheme: str
    method: str
    objective: str
    block_sizes: NDArray[np.int64]
    relaxed_block_sizes: Array
    samples: float
    cycles_per_derivative: float
    forward_cycles: float
    expected_runtime: float
    expected_runtime_standard_error: float
    lower_bound: float | None
    relative_gap: float | None
    relaxed_gap: float | None
    cycle_time: StragglerModel | None
    parameters: dict[str, Any]
    sample_report: SampleReport | None = None
    history: Array | None = None

    def __post_init__(self) -> None:
        if self.history is not None:
            self.history.flags.writeable = False
        self.block_sizes.flags.writeable = False
        self.relaxed_block_sizes.flags.writeable = False

    @property
    def coordinate_redundancy(self) -> NDArray[np.int64]:
        """The coordinate view s, int64 (L,), ascending."""
        return redundancy_from_block_sizes(self.block_sizes)

    def completion_probability(self, threshold: ArrayLike) -> float | Array:
        """P[tau <= t] of the integer block sizes; `cgc_fast.completion_probability` says how and how exactly.

        Raises
        ------
        ArgumentValueError
            The plan was loaded without its law.
        """
        return self._completion(threshold)[0]

    def failure_probability(self, threshold: ArrayLike) -> float | Array:
        """P[tau > t]; where it is exact, to six digits however small it is."""
        return self._completion(threshold)[1]

    def _completion(self, threshold: ArrayLike) -> tuple[float | Array, float | Array]:
        if self.cycle_time is None:
            raise ArgumentValueError("cycle_time: this plan was loaded without the law that it was made for")
        cost = Cost(self.samples, self.cycles_per_derivative, self.forward_cycles)
        draws, seed = self.parameters["draws"], self.parameters["seed"]
        return completion_and_failure(
            self.block_sizes,
            self.cycle_time,
            threshold,
            cost,
            scheme=self.scheme,
            draws=draws,
            seed=seed,
        )

    def schedule(self, code: str | None = None, seed: int = 0) -> Schedule:
        """Cells and walks of this plan.

        Parameters
        ----------
        code : {"cyclic", "repetition"}, optional
            "cyclic": cyclic codes at every level; "repetition": fractional repetition with
            floor(N/(n+1)) groups at level n. By default the one that the plan was made for; its expected
            runtime holds for that one.
        seed : int
            Of the cyclic encoding matrices.

        Raises
        ------
        ArgumentValueError
            Unknown code.
        """
        if code is None:
            code = "cyclic" if self.scheme == "cyclic" else "repetition"
        if code == "cyclic":
            from cgc_fast.schemes.cyclic import cyclic_schedule

            return cyclic_schedule(self.workers, self.coordinates, self.block_sizes, seed=seed)
        if code == "repetition":
            from cgc_fast.schemes.fractional_repetition import fractional_repetition_schedule

            return fractional_repetition_schedule(self.workers, self.coordinates, self.block_sizes)
        raise unknown_name("code", code, ("cyclic", "repetition"))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Bars of the block sizes against the level, the relaxed ones as dots; needs matplotlib."""
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        levels = np.arange(self.workers)
        ax.bar(levels, self.block_sizes, label="block sizes")
        ax.plot(levels, self.relaxed_block_sizes, "k.", label="before rounding")
        ax.set_xlabel("redundancy level n")
        ax.set_ylabel("coordinates")
        ax.set_title(f"{self.scheme}, {self.method}: {self.expected_runtime:.4g} s expected")
        ax.legend()
        return ax

    def plot_history(self, ax: Axes | None = None) -> Axes:
        """Draw the runtimes of the batches against the iteration, and the plan's as a line; needs matplotlib.

        Raises
        ------
        ArgumentValueError
            The method keeps no history.
        """
        if self.history is None:
            raise ArgumentValueError(
                f"history: expected a plan of the method subgradient, got {self.method}, which keeps none"
            )
        return plot_history(self.history, self.expected_runtime, ax)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON; `Plan.load` gives back every number exactly.

        A law that SciPy does not know by name is left out: the loaded plan has cycle_time None.
        """
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.to_dict(), file, indent=1, allow_nan=False)
            file.write("\n")

    def to_dict(self) -> dict[str, Any]:
        """JSON form, as `save` writes it; infinity is the string "inf"."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "workers": self.workers,
            "coordinates": self.coordinates,
            "scheme": self.scheme,
            "method": self.method,
            "objective": self.objective,
            "block_sizes": self.block_sizes.tolist(),
            "relaxed_block_sizes": self.relaxed_block_sizes.tolist(),
            "samples": self.samples,
            "cycles_per_derivative": self.cycles_per_derivative,
            "forward_cycles": self.forward_cycles,
            **{entry: _to_json(getattr(self, entry)) for entry in _REAL_ENTRIES},
            "cycle_time": None if self.cycle_time is None else self.cycle_time.to_dict(),
            "parameters": self.parameters,
            "sample_report": None if self.sample_report is None else self.sample_report.to_dict(),
            "history": None if self.history is None else self.history.tolist(),
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read what `save` wrote.

        Raises
        ------
        ArgumentValueError
            The file is no plan, or of a later version.
        """
        name = os.fspath(path)
        with open(path, encoding="utf-8") as file:
            try:
                form = json.load(file)
            except ValueError as error:
                raise ArgumentValueError(f"{name}: expected a plan as JSON; {error}") from error
        if not isinstance(form, dict) or form.get("format") != _FORMAT:
            raise ArgumentValueError(f"{name}: expected a plan written by Plan.save")
        if form["version"] != _VERSION:
            raise ArgumentValueError(
                f"{name}: expected a plan of version {_VERSION}, got version {form['version']}, written by "
                "another release of cgc_fast"
            )
        try:
            entries = {**form, **{entry: _from_json(form[entry]) for entry in _REAL_ENTRIES}}
            entries["block_sizes"] = np.array(form["block_sizes"], dtype=np.int64)
            entries["relaxed_block_sizes"] = np.array(form["relaxed_block_sizes"], dtype=np.float64)
            entries["cycle_time"] = straggler_model_from_dict(form["cycle_time"])
            report = form["sample_report"]
            entries["sample_report"] = None if report is None else SampleReport.from_dict(report)
            history = form.get("history")  # older files have none
            entries["history"] = None if history is None else np.array(history, dtype=np.float64)
            return cls(**{field.name: entries[field.name] for field in fields(cls)})
        except KeyError as error:
            raise ArgumentValueError(f"{name}: the plan has no entry {error}") from error

    def summary(self) -> str:
        """A few lines for reading."""
        used = np.flatnonzero(self.block_sizes)
        error = self.expected_runtime_standard_error
        accuracy = "exact" if error == 0 else f"standard error {error:.2g} s"
        condition = "" if self.cycle_time is None else self.cycle_time.condition
        blocks = ", ".join(f"{self.block_sizes[n]} at {n}" for n in used[:8])
        return "\n".join(
            (
                f"{self.scheme} plan, {self.workers} workers, {self.coordinates} coordinates",
                f"method            {self.method}",
                f"expected runtime  {self.expected_runtime:.6g} s ({accuracy})",
                *([] if not condition else [f"                  {condition}"]),
                *self._certificate(),
                f"coordinates at redundancy levels  {blocks}{', ...' if len(used) > 8 else ''}",
                f"cost              samples {self.samples:g}, cycles per derivative "
                f"{self.cycles_per_derivative:g}, forward cycles {self.forward_cycles:g}",
                f"cycle time        {self.cycle_time if self.cycle_time is not None else 'not stored'}",
            )
        )

    def _certificate(self) -> list[str]:
        """Lines on the certificate of a sampled problem, for the summary."""
        report = self.sample_report
        if report is None or self.relative_gap is None:
            return []
        lines = [
            f"certificate       within {self.relative_gap:.2g} of the sample's best, over {report.scope}"
        ]
        if report.hold_out_runtime is not None:
            lines.append(
                f"sample            {report.in_sample_runtime:.6g} s on the draws optimised over, "
                f"{report.hold_out_runtime:.6g} s on others"
            )
        if report.replaced:
            lines.append(f"                  {report.chosen} replaces the optimum, which lost on the others")
        return lines

    def __repr__(self) -> str:
        return (
            f"Plan(workers={self.workers}, coordinates={self.coordinates}, scheme={self.scheme!r}, "
            f"method={self.method!r}, expected_runtime={self.expected_runtime:.6g}, "
            f"levels used={np.count_nonzero(self.block_sizes)})"
        )


def plan(
    workers: int,
    coordinates: int,
    cycle_time: object,
    *,
    objective: str = "expected_runtime",
    scheme: str = "cyclic",
    method: str | None = None,
    samples: float = 1,
    cycles_per_derivative: float = 1.0,
    forward_cycles: float = 0.0,
    max_parts: int | None = None,
    min_redundancy: int = 0,
    min_block: int = 1,
    boundaries: Sequence[int] | NDArray[np.int64] | None = None,
    sequential: bool = False,
    draws: int = 20_000,
    seed: int = 0,
) -> Plan:
    """Choose block sizes for a straggler model.

    Parameters
    ----------
    workers, coordinates : int
        N >= 1 and L >= 1; L < N is allowed.
    cycle_time : frozen scipy.stats law, sequence of N laws, or Trace
        Seconds per cycle: i.i.d. workers, independent workers, or measured iterations. Censored entries of a
        trace are drawn from the pooled survival curve (`censoring.impute`); the expected runtime is then
        over the imputed rows.
    objective : {"expected_runtime"}
        What to optimise.
    scheme : {"cyclic", "fractional_repetition"}
        Which codes the levels use.
    method : str, optional
        None takes the best of all, by their exact expected runtimes or those on common draws: never worse
        there than the best single level or uncoded. For a trace what the methods make of its first half
        competes on the second (`sampled_plan`), and the winner is made anew from all rows. "exact" (cyclic
        codes, i.i.d. workers with a continuous law) minimises the expected runtime as if c = 0, with a
        certificate if c = 0; None uses it there. "sample_average" minimises the mean over draws with a
        certificate and, where c > 0, searches the set of levels (`sampled_plan`). "mean_time", "mean_rate",
        "subgradient" [WANG22] propose block sizes as if c = 0; "single_level" is the best classic gradient
        code [TANDON17]; "uncoded" waits for every worker.
    samples, cycles_per_derivative, forward_cycles : float
        M (a scale of time), b and c: computing costs b cycles per sample and coordinate, and c once per
        sample that a worker touches.
    max_parts : int, optional
        Most parts of M/N samples that a worker may hold; levels that need more are not used.
    min_redundancy : int
        Least number d of missing workers that every coordinate must survive; lower levels are not used.
        If the law says that workers may never answer (`Never`), the expected runtime is that given that at
        most d of them do not.
    min_block : int
        Least size of a block that is not empty, 1..L.
    boundaries : sequence of int, optional
        Coordinates where blocks may be cut, strictly ascending in 0..L. Anywhere if None.
    sequential : bool
        Whether workers must walk coordinates in rising order only. Both schemes always do.
    draws, seed : int
        Monte Carlo draws of an iteration, for optimising and, independently, for scoring; and their seed.
        Neither matters to a closed form with exact means, except in its score.

    Returns
    -------
    Plan

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        Impossible arguments; unknown names; no level has a finite mean; a method cannot work with this
        model (the mean rate does not exist, uncoded is not among the levels allowed).

    Warns
    -----
    NotCertified
        "sample_average" missed its gap of 1e-4; the plan says what it reached.

    Examples
    --------
    >>> from scipy import stats
    >>> made = plan(4, 100, stats.expon(loc=50, scale=1000), method="mean_time")
    >>> made.block_sizes
    array([35, 15, 17, 33])
    """
    workers = integer("workers", workers, 1)
    coordinates = integer("coordinates", coordinates, 1)
    if coordinates > _MOST_COORDINATES:
        raise ArgumentValueError(f"coordinates: expected at most 2^53, got {coordinates}")
    draws = integer("draws", draws, 1)
    seed = integer("seed", seed, 0)
    if not isinstance(objective, str) or objective not in OBJECTIVES:
        raise unknown_name("objective", objective, OBJECTIVES)
    if method is not None and (not isinstance(method, str) or method not in METHODS):
        raise unknown_name("method", method, METHODS)
    if not isinstance(sequential, bool):
        raise ArgumentTypeError(f"sequential: expected True or False, got {sequential!r}")
    cost = Cost(samples, cycles_per_derivative, forward_cycles)
    min_block = integer("min_block", min_block, 1, coordinates)
    levels = make_levels(scheme, workers, min_redundancy=min_redundancy, max_parts=max_parts)
    cuts = None if boundaries is None else check_boundaries(boundaries, coordinates)
    model = as_straggler_model(cycle_time, workers)
    model = _given_enough_answers(model, min_redundancy)
    search = _Search(scheme, levels, model, coordinates, cost, draws, seed, min_block, cuts)
    proposals = search.all() if method is None else {method: search.propose(method)}
    relaxed = {
        name: [sizes] if name == "sample_average" else search.thinned(sizes)
        for name, sizes in proposals.items()
    }
    candidates = [(name, sizes) for name, options in relaxed.items() for sizes in options]
    rounded = [round_block_sizes(sizes, coordinates, cuts).astype(np.float64) for _, sizes in candidates]
    evaluation = evaluate(levels, rounded, search.model, search.means, cost, draws, search.generator("score"))
    # Of each method the best of what `min_block` left.
    best: dict[str, int] = {}
    for index, (name, _) in enumerate(candidates):
        if name not in best or evaluation.sampled[index] < evaluation.sampled[best[name]]:
            best[name] = index
    estimates = {name: evaluation.estimates[index] for name, index in best.items()}
    winner = candidates[0][0]
    if method is None:
        winner = _best({name: float(evaluation.sampled[index]) for name, index in best.items()}, estimates)
    sampled = search.sampled if "sample_average" in proposals else None
    if sampled and winner not in ("sample_average", sampled.report.chosen):
        sampled = None
    lower_bound = relative_gap = relaxed_gap = None
    if winner == "exact" and search.optimum is not None and forward_cycles == 0:
        lower_bound = search.optimum.lower_bound
        relative_gap = max(0.0, estimates[winner].value / lower_bound - 1.0)
        relaxed_gap = search.optimum.gap
        if relaxed_gap > relaxed_gap_target(workers):
            warnings.warn(
                f"method exact reached the relative gap {relaxed_gap:.2g} before rounding instead of "
                f"{relaxed_gap_target(workers):g} after {search.optimum.steps} steps",
                NotCertified,
                stacklevel=2,
            )
    elif sampled is not None:
        lower_bound, relative_gap, relaxed_gap = (
            sampled.lower_bound,
            sampled.relative_gap,
            sampled.relaxed_gap,
        )
    return Plan(
        workers=workers,
        coordinates=coordinates,
        scheme=scheme,
        method=_method_name(winner, sampled),
        objective=objective,
        block_sizes=levels.expand(rounded[best[winner]]).astype(np.int64),
        relaxed_block_sizes=levels.expand(candidates[best[winner]][1]),
        samples=cost.samples,
        cycles_per_derivative=cost.cycles_per_derivative,
        forward_cycles=cost.forward_cycles,
        expected_runtime=estimates[winner].value,
        expected_runtime_standard_error=estimates[winner].standard_error,
        lower_bound=lower_bound,
        relative_gap=relative_gap,
        relaxed_gap=relaxed_gap,
        cycle_time=model,
        parameters={
            "method": method,
            "max_parts": None if max_parts is None else int(max_parts),
            "min_redundancy": int(min_redundancy),
            "min_block": min_block,
            "boundaries": None if cuts is None else cuts.tolist(),
            "sequential": sequential,
            "draws": draws,
            "seed": seed,
        },
        sample_report=None if sampled is None else sampled.report,
        history=search.history if winner == "subgradient" else None,
    )


def _method_name(winner: str, sampled: SampledPlan | None) -> str:
    """The method that gave the sizes: another one, if it took the place of the sampled optimum."""
    return winner if sampled is None else sampled.report.chosen


def _to_json(value: float | None) -> float | str | None:
    return "inf" if value == np.inf else value


def _from_json(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _given_enough_answers(model: StragglerModel, min_redundancy: int) -> StragglerModel:
    """Condition i.i.d. workers that may never answer on as many answers as every level can do with."""
    if not isinstance(model, IdenticalLaw) or not never_probability(model.law) > 0:
        return model
    if min_redundancy == 0:
        raise ArgumentValueError(
            f"cycle_time: every worker may never answer ({model!r}), so all may, and the expected runtime is "
            "infinite at every level; give min_redundancy=d >= 1 to minimise the mean given that at most d "
            "workers never answer"
        )
    return AtMostNever(model.law, model.workers, min_redundancy)


class _Search:
    """Proposals of real block sizes (K,) over the levels allowed, with sum L.

    All but the mean rates of the levels are needed by every method: which levels have a finite mean decides
    which may be used at all.
    """

    def __init__(
        self,
        scheme: str,
        levels: Levels,
        model: StragglerModel,
        coordinates: int,
        cost: Cost,
        draws: int,
        seed: int,
        min_block: int,
        cuts: NDArray[np.int64] | None,
    ) -> None:
        self.scheme = scheme
        self.levels = levels
        self.coordinates = coordinates
        self.cost = cost
        self.optimum: ExactOptimum | None = None  # once the exact method has run
        self.history: Array | None = None  # seconds, once the subgradient method has run
        self.draws = draws
        self.seed = seed
        self.rivals: Rivals | None = None  # of the sampled optimum of a trace
        self.min_block = min_block
        self.cuts = cuts
        purposes = ("means", "rates", "optimise", "score", "hold_out", "impute")
        self._seeds = dict(zip(purposes, np.random.SeedSequence(seed).spawn(len(purposes)), strict=True))
        # The model as planned for: nothing censored, `repeats` rows an iteration of a trace.
        self.model, self.repeats = complete(model, self.generator("impute"))
        model = self.model
        self.means: Means = levels.mean_statistics(model, draws=draws, generator=self.generator("means"))
        self.usable = np.isfinite(self.means.values)
        if not self.usable.any():
            raise ArgumentValueError(self._no_usable_level())

    def generator(self, purpose: str) -> np.random.Generator:
        """Return a generator of its own for each purpose, so that draws to score with are fresh."""
        return np.random.default_rng(self._seeds[purpose])

    def all(self) -> dict[str, Array]:
        """Every proposal that exists; single levels other than the best cannot win."""
        if isinstance(self.model, Trace):
            return self._chosen_on_hold_out()
        proposals = {"single_level": self.single_level()}
        exact = isinstance(self.levels, CyclicLevels) and exactly_solvable(self.model)
        exact = exact and self.levels.workers <= _EXACT_WORKERS
        if exact:
            proposals["exact"] = self.exact()
        if not exact or self.cost.forward_cycles > 0:
            proposals |= {"mean_time": self.mean_time(), "subgradient": self.subgradient()}
            if np.isfinite(self._rates).all():
                proposals["mean_rate"] = self.mean_rate()
        if self.levels.redundancies[0] == 0 and self.usable[0]:
            proposals["uncoded"] = self.uncoded()
        if not exact or self.cost.forward_cycles > 0:
            proposals["sample_average"] = self.sample_average()
        return proposals

    def _chosen_on_hold_out(self) -> dict[str, Array]:
        """What methods make of the first half of a trace competes on the second.

        The proposal that won there, made from all rows, has the name "sample_average" in any case; unless it
        is a one-level one, it must also beat those in the mean over all rows.
        """
        self.rivals = self._rivals
        proposals = {"sample_average": self.sample_average()}
        if self.sampled.report.chosen not in ("single_level", "uncoded"):
            proposals["single_level"] = self.single_level()
            if self.levels.redundancies[0] == 0 and self.usable[0]:
                proposals["uncoded"] = self.uncoded()
        return proposals

    def _rivals(self, times: Array) -> dict[str, list[Array]]:
        """Block proposals of the other methods, made from some rows (S, N) of the trace."""
        part = _Search(
            self.scheme,
            self.levels,
            Trace(times),
            self.coordinates,
            self.cost,
            self.draws,
            self.seed,
            self.min_block,
            self.cuts,
        )
        # Levels at which some other row never ends cannot be used.
        part.usable = self.usable
        part.means = Means(np.where(self.usable, part.means.values, np.inf), part.means.exact)
        proposals = {"mean_time": part.mean_time(), "subgradient": part.subgradient()}
        if np.isfinite(part._rates).all():
            proposals["mean_rate"] = part.mean_rate()
        return {name: self.thinned(sizes) for name, sizes in proposals.items()}

    def propose(self, method: str) -> Array:
        """Sizes of the method of that name."""
        methods: dict[str, Callable[[], Array]] = {
            "exact": self.exact,
            "mean_rate": self.mean_rate,
            "mean_time": self.mean_time,
            "sample_average": self.sample_average,
            "single_level": self.single_level,
            "subgradient": self.subgradient,
            "uncoded": self.uncoded,
        }
        return methods[method]()

    def exact(self) -> Array:
        if not isinstance(self.levels, CyclicLevels) or not exactly_solvable(self.model):
            raise ArgumentValueError(
                "method exact: expected the scheme cyclic and i.i.d. workers with a continuous law, got "
                f"{self.scheme} and {self.model!r}; use subgradient"
            )
        allowed = np.zeros(self.levels.workers, dtype=np.bool_)
        allowed[self.levels.redundancies[self.usable]] = True
        start = self.levels.expand(self.mean_time())
        self.optimum = minimise_exactly(ExactRuntime(self.model), start, allowed, self.cost)
        return self.levels.gather(self.optimum.block_sizes)

    def mean_time(self) -> Array:
        return mean_time_block_sizes(self.means.values, self.levels.work, self.coordinates)

    def mean_rate(self) -> Array:
        exist = np.isfinite(self._rates)
        if not exist.all():
            bad = int(self.levels.redundancies[np.argmin(exist)])
            raise ArgumentValueError(
                f"method mean_rate: the mean rate of level {bad}, E[1/R], is infinite for {self.model!r}: "
                "cycle times come too close to 0; use mean_time, or a law that is bounded away from 0"
                + (f", or max_parts={bad}" if bad else "")
            )
        return mean_rate_block_sizes(self._rates, self.levels.work, self.coordinates)

    def subgradient(self) -> Array:
        levels, usable = self.levels, self.usable
        draws = min(self.draws, max(BATCH, _SUBGRADIENT_ENTRIES // self.levels.workers))
        times = self.model.draw(self.generator("optimise"), draws)
        statistics = np.ascontiguousarray(levels.statistics(times)[:, usable])
        sizes = np.zeros(len(usable))
        start = self.mean_time()[usable]
        result = minimise_by_subgradient(statistics, levels.work[usable], start)
        sizes[usable] = result.block_sizes
        self.history = self.cost.samples / levels.workers * self.cost.cycles_per_derivative * result.history
        return sizes

    def sample_average(self) -> Array:
        return self.sampled.sizes

    @cached_property
    def sampled(self) -> SampledPlan:
        """The minimum of the sample average, judged on a hold-out."""
        return sampled_plan(
            self.levels,
            self.usable,
            self.model,
            self.coordinates,
            self.cost,
            min_block=self.min_block,
            boundaries=self.cuts,
            draws=self.draws,
            repeats=self.repeats,
            generators=(self.generator("optimise"), self.generator("hold_out")),
            rivals=self.rivals,
        )

    def thinned(self, sizes: Array) -> list[Array]:
        """The sizes, or with `min_block` those among their thinned versions that respect it.

        The smallest block is dropped, and the others scaled up, again and again. Which versions there are
        does not depend on `min_block`, so a smaller one leaves no fewer.
        """
        if self.min_block == 1:
            return [sizes]
        allowed = []
        while True:
            blocks = round_block_sizes(sizes, self.coordinates, self.cuts)
            if blocks[blocks > 0].min() >= self.min_block:
                allowed.append(sizes)
            if np.count_nonzero(sizes) == 1:
                return allowed
            sizes = sizes.copy()
            sizes[np.argmin(np.where(sizes > 0, sizes, np.inf))] = 0.0
            sizes *= self.coordinates / sizes.sum()

    def single_level(self) -> Array:
        # Forward passes multiply all levels' cycles alike.
        return self._at(int(np.argmin(self.levels.work * self.means.values)))

    def uncoded(self) -> Array:
        if self.levels.redundancies[0] != 0:
            raise ArgumentValueError(
                "method uncoded: its level 0 is excluded by min_redundancy; the lowest level allowed is "
                f"{self.levels.redundancies[0]}"
            )
        if not self.usable[0]:
            raise ArgumentValueError(
                f"method uncoded: the slowest worker's mean cycle time is infinite for {self.model!r}; the "
                f"lowest usable level is {self.levels.redundancies[np.argmax(self.usable)]}"
            )
        return self._at(0)

    def _at(self, level: int) -> Array:
        sizes = np.zeros(len(self.levels.work))
        sizes[level] = self.coordinates
        return sizes

    @cached_property
    def _rates(self) -> Array:
        """E[1/R_k] of the usable levels, 0 at the others: these stay empty."""
        rates = self.levels.mean_statistics(
            self.model, rates=True, draws=self.draws, generator=self.generator("rates")
        )
        return np.where(self.usable, rates.values, 0.0)

    def _no_usable_level(self) -> str:
        every = make_levels(self.scheme, self.levels.workers)
        means = every.mean_statistics(self.model, draws=self.draws, generator=self.generator("means")).values
        finite = every.redundancies[np.isfinite(means)]
        allowed = f"{self.levels.redundancies[0]} to {self.levels.redundancies[-1]}"
        if not len(finite):
            return f"cycle_time: no level has a finite expected runtime for {self.model!r}"
        return (
            f"max_parts: no block sizes over the levels {allowed} have a finite expected runtime for "
            f"{self.model!r}; the lowest usable level is {finite[0]}, which takes max_parts >= "
            f"{finite[0] + 1}"
        )


def _best(sampled: dict[str, float], estimates: dict[str, Estimate]) -> str:
    """Name of the best proposal: by the common draws, and never above what is known of one-level ones.

    A block plan must beat the best one-level proposal on the common draws, and also in the number that it
    reports, which for a single level is exact where possible: so noise cannot make it look better, or
    report worse. Among block plans one with a certificate wins ties, since what it loses is luck of
    the draws.
    """
    if all(estimate.standard_error == 0 for estimate in estimates.values()):
        return min(estimates, key=lambda name: (estimates[name].value, name != "uncoded"))
    one_level = min(
        (name for name in ("uncoded", "single_level") if name in estimates),
        key=lambda name: estimates[name].value,
    )
    others = [name for name in sampled if name not in ("uncoded", "single_level")]
    best = min(others, key=sampled.__getitem__)
    if sampled.get("sample_average", np.inf) <= sampled[best] * (1.0 + _TIE):
        best = "sample_average"
    wins = sampled[best] < sampled[one_level] and estimates[best].value < estimates[one_level].value
    return best if wins else one_level
