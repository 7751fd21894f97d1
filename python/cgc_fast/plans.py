"""A plan: a scheme with its parameters for a straggler model, how good it is, and the schedule it makes."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgc_fast.arguments import Cost
from cgc_fast.censoring import complete
from cgc_fast.completion_report import CompletionReport
from cgc_fast.errors import ArgumentValueError, unknown_name
from cgc_fast.partition import redundancy_from_block_sizes
from cgc_fast.plotting import import_pyplot
from cgc_fast.runtime_model import checked_thresholds, completion_and_failure
from cgc_fast.sampled_plans import SampleReport
from cgc_fast.scheme_report import SchemeReport, parts_stored
from cgc_fast.simulation import simulate
from cgc_fast.straggler_models import StragglerModel, Trace, straggler_model_from_dict
from cgc_fast.subgradient import plot_history

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cgc_fast.schedule import Payload, Schedule

__all__ = ["Plan"]

Array = NDArray[np.float64]

_FORMAT = "cgc_fast plan"
_VERSION = 2
_READABLE = (1, _VERSION)  # version 1 has block sizes in any case, and no report on schemes

# Entries that may be infinite or missing.
_REAL_ENTRIES = (
    "expected_runtime",
    "expected_runtime_standard_error",
    "lower_bound",
    "relative_gap",
    "relaxed_gap",
)
_REPORTS: dict[str, type[SampleReport] | type[CompletionReport] | type[SchemeReport]] = {
    "sample_report": SampleReport,
    "completion_report": CompletionReport,
    "scheme_report": SchemeReport,
}


@dataclass(frozen=True, eq=False)
class Plan:
    """A scheme with its parameters for a straggler model, and how good it is. Made by `plan`.

    Attributes
    ----------
    workers, coordinates : int
        N and L.
    scheme : str
        A name in `schemes.SCHEMES`; where "auto" was asked for, the winner.
    method : str
        The method that gave the block sizes; where the best was asked for, the winner. "search" for schemes
        without block sizes.
    objective : str
        What was optimised.
    block_sizes : ndarray of int64 of shape (N,) or None
        x: how many coordinates have redundancy n = 0..N-1; sum L. Read-only. None for the method "search":
        `parameters["schedule"]` takes its place.
    relaxed_block_sizes : ndarray of float64 of shape (N,) or None
        Before rounding; sum L. Read-only.
    samples, cycles_per_derivative, forward_cycles : float
        M, b, c of the cost model.
    expected_runtime : float
        Seconds, of the integer `block_sizes` or of the schedule, forward passes included. For "search" that
        of draws which the parameters were not chosen on; they know nothing of tails that they do not show.
    expected_runtime_standard_error : float
        Of its Monte Carlo estimate; 0 where it is exact, also for a trace, whose rows are the model.
    lower_bound, relative_gap, relaxed_gap : float or None
        A certificate: bound on the relaxed optimum in seconds, relative distance of the integer and of the
        relaxed block sizes from it. None where the method has none.
    cycle_time : StragglerModel or None
        The model planned for; None in a loaded plan whose law could not be stored.
    parameters : dict
        Everything else that was asked for: method, max_parts, min_redundancy, max_values_sent, min_block,
        boundaries, sequential, feedback, latency, draws, seed. For "search" also "schedule": what the
        function of the scheme in `schemes` takes.
    sample_report : SampleReport or None
        For "sample_average", to whose sampled problem the certificate refers: in-sample and hold-out runtime,
        whether another plan was taken instead, and the scope of the certificate.
    completion_report : CompletionReport or None
        For the objective completion_probability: its value at the threshold, what bounds it, and the smallest
        threshold that is possible. The three entries above, which are in seconds, are None then.
    scheme_report : SchemeReport or None
        For "search" and "auto": runtime on draws not chosen on, storage and traffic; for "auto" of every
        scheme that fits, with the margin and why the first one was chosen.
    history : ndarray of float64 of shape (iterations,) or None
        For "subgradient": the mean runtime of each iteration's batch of draws, before its step, in seconds,
        without forward passes. Read-only.
    """

    workers: int
    coordinates: int
    scheme: str
    method: str
    objective: str
    block_sizes: NDArray[np.int64] | None
    relaxed_block_sizes: Array | None
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
    completion_report: CompletionReport | None = None
    scheme_report: SchemeReport | None = None
    history: Array | None = None

    def __post_init__(self) -> None:
        for array in (self.history, self.block_sizes, self.relaxed_block_sizes):
            if array is not None:
                array.flags.writeable = False

    @property
    def coordinate_redundancy(self) -> NDArray[np.int64]:
        """The coordinate view s, int64 (L,): how many workers each coordinate can do without.

        Ascending where there are block sizes.
        """
        if self.block_sizes is not None:
            return redundancy_from_block_sizes(self.block_sizes)
        schedule = self.schedule()
        redundancy = np.full(self.coordinates, self.workers, dtype=np.int64)
        for index, cell in enumerate(schedule.cells):
            if not cell.is_empty:
                own = redundancy[cell.start : cell.stop]
                np.minimum(own, schedule.tolerance(index), out=own)
        return redundancy

    @property
    def cost(self) -> Cost:
        """M, b and c together."""
        return Cost(self.samples, self.cycles_per_derivative, self.forward_cycles)

    def completion_probability(self, threshold: ArrayLike) -> float | Array:
        """P[tau <= t] of the integer block sizes; `cgc_fast.completion_probability` says how and how exactly.

        Of a plan of the method "search": the fraction of `draws` simulated draws, or of a trace's rows.

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
        draws, seed = self.parameters["draws"], self.parameters["seed"]
        if self.block_sizes is None:
            done = np.sort(self._simulated(self.cycle_time))
            given = checked_thresholds(threshold)
            ended = np.count_nonzero(np.isfinite(done))
            late = 1.0 - np.minimum(np.searchsorted(done, given, side="right"), ended) / len(done)
            return (float(1.0 - late), float(late)) if given.ndim == 0 else (1.0 - late, late)
        return completion_and_failure(
            self.block_sizes,
            self.cycle_time,
            threshold,
            self.cost,
            scheme=self.scheme,
            draws=draws,
            seed=seed,
        )

    def _simulated(self, model: StragglerModel) -> Array:
        """Runtimes (S,) of as many draws as the plan was scored on, or of the rows of a trace."""
        generator = np.random.default_rng(self.parameters["seed"])
        model, _ = complete(model, generator)
        times = model.times if isinstance(model, Trace) else model.draw(generator, self.parameters["draws"])
        return simulate(
            self.schedule(),
            times,
            samples=self.samples,
            cycles_per_derivative=self.cycles_per_derivative,
            forward_cycles=self.forward_cycles,
            latency=self.parameters["latency"],
        )

    def schedule(self, code: str | None = None, seed: int = 0, payload: Payload = "float64") -> Schedule:
        """Cells and walks of this plan.

        Parameters
        ----------
        code : {"cyclic", "grouped", "repetition", "auto"}, optional
            "cyclic": cyclic codes at every level; "grouped": cyclic codes in floor(N/(n+1)) groups at level
            n, whose members share rows where they can, which make every worker compute as much, tolerate as
            many stragglers and decode no later, but may make it hold more samples (`cyclic_schedule`);
            "repetition": fractional repetition with as many groups. By default the one that the plan was made
            for; its expected runtime holds for that one, and plans of the method "search" have no other.
            "auto": the same, but a cyclic code that does not keep its promise for such payloads on every
            straggler set, or has too many to try, is replaced by codes that do, for at most a tenth more
            work at that level; a warning says at which levels (`cyclic_schedule`).
        seed : int
            Of the cyclic encoding matrices.
        payload : {"float64", "float32"}
            What partial derivatives are sent as. They are computed and decoded in float64; float32 halves
            what is sent, and leaves what docs/codes.md says.

        Raises
        ------
        ArgumentValueError
            Unknown code or payload, or a code for a plan without block sizes; a cyclic code that leaves too
            little of float32 payloads; a code with which a worker holds more than the `max_parts` that the
            plan was asked for.
        """
        if self.block_sizes is None:
            if code not in (None, "auto"):
                raise ArgumentValueError(
                    f"code: expected None or 'auto' for a plan of the scheme {self.scheme} without block "
                    f"sizes, got {code!r}"
                )
            from cgc_fast.schemes import scheme

            made = scheme(self.scheme, self.workers, self.coordinates, **self.parameters["schedule"])
            return replace(made, payload=payload)
        own = "cyclic" if self.scheme == "cyclic" else "repetition"
        chosen = own if code in (None, "auto") else code
        if chosen in ("cyclic", "grouped"):
            from cgc_fast.schemes.cyclic import cyclic_schedule

            made = cyclic_schedule(
                self.workers,
                self.coordinates,
                self.block_sizes,
                seed=seed,
                payload=payload,
                substitute=code == "auto",
                grouped=chosen == "grouped",
            )
        elif chosen == "repetition":
            from cgc_fast.schemes.fractional_repetition import fractional_repetition_schedule

            made = fractional_repetition_schedule(self.workers, self.coordinates, self.block_sizes)
            made = replace(made, payload=payload)
        else:
            raise unknown_name("code", code, ("cyclic", "grouped", "repetition", "auto"))
        most = self.parameters.get("max_parts")
        if most is not None and (held := parts_stored(made)) > most:
            raise ArgumentValueError(
                f"code: expected one with which no worker holds more than max_parts = {most} parts; got "
                f"{code!r}, with which one holds {held:g}. Take the default, or plan for more"
            )
        return made

    def plot(self, ax: Axes | None = None) -> Axes:
        """Bars of the block sizes against the level, the relaxed ones as dots; needs matplotlib.

        Without block sizes, the rectangle and the walks instead, as `Schedule.plot` draws them.
        """
        plt = import_pyplot()
        achieved = f"{self.expected_runtime:.4g} s expected"
        if self.completion_report is not None:
            achieved = f"completed with probability {self.completion_report.text()}"
        title = f"{self.scheme}, {self.method}: {achieved}"
        if self.block_sizes is None:
            ax = self.schedule().plot(ax)
            ax.set_title(title, loc="left", fontsize=11, pad=34)
            return ax
        if ax is None:
            _, ax = plt.subplots()
        levels = np.arange(self.workers)
        ax.bar(levels, self.block_sizes, label="block sizes")
        assert self.relaxed_block_sizes is not None
        ax.plot(levels, self.relaxed_block_sizes, "k.", label="before rounding")
        ax.set_xlabel("redundancy level n")
        ax.set_ylabel("coordinates")
        ax.set_title(title)
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
            "block_sizes": _array_to_json(self.block_sizes),
            "relaxed_block_sizes": _array_to_json(self.relaxed_block_sizes),
            "samples": self.samples,
            "cycles_per_derivative": self.cycles_per_derivative,
            "forward_cycles": self.forward_cycles,
            **{entry: _to_json(getattr(self, entry)) for entry in _REAL_ENTRIES},
            "cycle_time": None if self.cycle_time is None else self.cycle_time.to_dict(),
            "parameters": self.parameters,
            **{entry: _report_to_json(getattr(self, entry)) for entry in _REPORTS},
            "history": _array_to_json(self.history),
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
        if form["version"] not in _READABLE:
            raise ArgumentValueError(
                f"{name}: expected a plan of version {' or '.join(map(str, _READABLE))}, got version "
                f"{form['version']}, written by another release of cgc_fast"
            )
        try:
            entries = {**form, **{entry: _from_json(form[entry]) for entry in _REAL_ENTRIES}}
            entries["block_sizes"] = _array_from_json(form["block_sizes"], np.int64)
            entries["relaxed_block_sizes"] = _array_from_json(form["relaxed_block_sizes"], np.float64)
            entries["cycle_time"] = straggler_model_from_dict(form["cycle_time"])
            for entry, report in _REPORTS.items():
                made = form.get(entry)  # plans written before there was such a report lack it
                entries[entry] = None if made is None else report.from_dict(made)
            entries["history"] = _array_from_json(form.get("history"), np.float64)  # older files have none
            return cls(**{field.name: entries[field.name] for field in fields(cls)})
        except KeyError as error:
            raise ArgumentValueError(f"{name}: the plan has no entry {error}") from error

    def summary(self) -> str:
        """A few lines for reading."""
        error = self.expected_runtime_standard_error
        accuracy = "exact" if error == 0 else f"standard error {error:.2g} s"
        condition = "" if self.cycle_time is None else self.cycle_time.condition
        return "\n".join(
            (
                f"{self.scheme} plan, {self.workers} workers, {self.coordinates} coordinates",
                f"method            {self.method}",
                *([] if self.completion_report is None else self.completion_report.lines()),
                f"expected runtime  {self.expected_runtime:.6g} s ({accuracy})",
                *([] if not condition else [f"                  {condition}"]),
                *self._certificate(),
                *self._blocks(),
                *([] if self.scheme_report is None else self.scheme_report.lines()),
                f"cost              samples {self.samples:g}, cycles per derivative "
                f"{self.cycles_per_derivative:g}, forward cycles {self.forward_cycles:g}",
                f"cycle time        {self.cycle_time if self.cycle_time is not None else 'not stored'}",
            )
        )

    def _blocks(self) -> list[str]:
        """Line on the block sizes, for the summary."""
        if self.block_sizes is None:
            return []
        used = np.flatnonzero(self.block_sizes)
        blocks = ", ".join(f"{self.block_sizes[n]} at {n}" for n in used[:8])
        return [f"coordinates at redundancy levels  {blocks}{', ...' if len(used) > 8 else ''}"]

    def _certificate(self) -> list[str]:
        """Lines on the certificate of a sampled problem, for the summary."""
        report = self.sample_report
        if self.relative_gap is not None and self.block_sizes is None:
            return [
                f"certificate       within {self.relative_gap:.2g} of the best on the draws that it was made "
                "from, for its numbers of groups"
            ]
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
            f"method={self.method!r}, expected_runtime={self.expected_runtime:.6g}"
            + (f", completed={self.completion_report.text()!r}" if self.completion_report else "")
            + ("" if self.block_sizes is None else f", levels used={np.count_nonzero(self.block_sizes)}")
            + ")"
        )


def _to_json(value: float | None) -> float | str | None:
    return "inf" if value == np.inf else value


def _from_json(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _array_to_json(array: NDArray[Any] | None) -> list[Any] | None:
    return None if array is None else array.tolist()


def _array_from_json(values: list[Any] | None, kind: type[np.generic]) -> NDArray[Any] | None:
    return None if values is None else np.array(values, dtype=kind)


def _report_to_json(report: SampleReport | CompletionReport | SchemeReport | None) -> dict[str, Any] | None:
    return None if report is None else report.to_dict()
