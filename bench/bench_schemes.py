"""Every scheme through `cgc_fast.plan`, beside the goals that it was specified by.

Prints means and standard errors on draws that nothing was chosen on, in units of 10^7 (M/N) b seconds,
L = 20,000; a prototype's figure or that of free feedback; the goal, and whether it is met. Fails if one is
missed by more than three standard errors.
Run: python bench/bench_schemes.py [draws, default 100000] [section ...], sections walked fractional pairs
shared traces auto chunks groups.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats

import cgc_fast as cgc
from bench_opportunistic import decode_times
from cgc_fast import baselines
from cgc_fast.datasets import TRACES, load_trace
from cgc_fast.forward_search import search_levels
from cgc_fast.hold_out import halves, is_larger, standard_error
from cgc_fast.levels import make_levels
from cgc_fast.scheme_report import parts_stored
from cgc_fast.schemes.cyclic_groups import cyclic_groups

COORDINATES = 20_000
UNIT = 1e7
STARTS = {0.05: 50.0, 1.0: 1000.0}  # mu t0 -> t0, at mu = 1e-3
CHUNK_DRAWS = 10_000  # at once: what is sorted for them takes memory

# (mu t0, workers) -> published optimum, prototype, goal
WALKED = {
    (0.05, 10): (2.338, 1.59, None),
    (0.05, 20): (2.820, 1.82, 1.85),
    (0.05, 48): (3.929, 2.19, 2.25),
    (1.0, 10): (6.157, 4.87, None),
    (1.0, 20): (7.345, 5.41, 5.45),
    (1.0, 48): (9.055, 6.05, 6.10),
}
# (mu t0, workers, c / (b L)) -> prototype
FRACTIONAL = {
    (0.05, 10, 0.0): 2.12,
    (0.05, 20, 0.0): 2.24,
    (0.05, 48, 0.0): 2.45,
    (1.0, 10, 0.0): 5.59,
    (1.0, 20, 0.0): 6.08,
    (1.0, 48, 0.0): 6.64,
    (0.05, 20, 0.25): 4.05,
    (0.05, 20, 1.0): 7.95,
    (1.0, 20, 0.25): 9.60,
    (1.0, 20, 1.0): 17.97,
}
PAIRS = {
    (0.05, 0.0): 3.71,
    (0.05, 0.25): 5.56,
    (0.05, 1.0): 10.80,
    (1.0, 0.0): 5.79,
    (1.0, 0.25): 8.68,
    (1.0, 1.0): 17.12,
}
# (mu t0, c / (b L)) -> free feedback with 2, 4 and 20 parts
SHARED = {
    (0.05, 0.0): (3.71, 2.05, 0.84),
    (0.05, 0.25): (4.64, 2.56, 1.05),
    (0.05, 1.0): (7.42, 4.09, 1.67),
    (1.0, 0.0): (5.79, 4.37, 3.38),
    (1.0, 0.25): (7.24, 5.46, 4.22),
    (1.0, 1.0): (11.58, 8.74, 6.75),
}
TRACE_GOALS = {"gpu_training_10_workers": 0.25, "llm_training_32_replicas": 0.90}
# l -> published means of the classic codes and of chunk-level coding, in their own setting
CHUNKS = {1: (5.59, 2.55), 2: (8.26, 3.92), 3: (10.97, 5.65)}

failures: list[str] = []


def law(ratio: float) -> object:
    return stats.expon(loc=STARTS[ratio], scale=1000.0)


def check(name: str, mean: float, error: float, goal: float | None) -> str:
    if goal is None:
        return ""
    if mean > goal + 3.0 * error:
        failures.append(f"{name.strip()}: {mean:.4f} > {goal:g}")
        return f"goal {goal:.4g} MISSED"
    return f"goal {goal:.4g} " + ("met" if mean <= goal else "met within 3 standard errors")


def show(
    label: str, goal: float | None, rest: str, workers: int, ratio: float, forward: float, **asked: object
) -> None:
    """Plan, and print what the plan expects on fresh draws."""
    began = time.perf_counter()
    plan = cgc.plan(
        workers,
        COORDINATES,
        law(ratio),
        samples=workers,
        forward_cycles=forward * COORDINATES,
        **asked,
    )
    seconds = time.perf_counter() - began
    mean, error = plan.expected_runtime / UNIT, plan.expected_runtime_standard_error / UNIT
    most = max(map(len, plan.schedule().walks))
    sent = plan.scheme_report.scores[0].values_sent / workers
    print(
        f"{label}: {mean:.4f} +- {error:.4f}  {rest}  {check(label, mean, error, goal)}  "
        f"[{most} visits, sends {sent:.2f} L, planned and scored in {seconds:.0f} s]",
        flush=True,
    )


def walked(count: int) -> None:
    print("walked blocks, no feedback, c = 0 (published optimum, prototype)")
    for (ratio, workers), (published, prototype, goal) in WALKED.items():
        label = f"  mu t0 = {ratio:g}, N = {workers}"
        show(label, goal, f"({published}, {prototype})", workers, ratio, 0.0, scheme="walked", draws=count)


def fractional(count: int) -> None:
    print("fractional repetition, any numbers of groups (prototype)")
    for (ratio, workers, forward), prototype in FRACTIONAL.items():
        label = f"  mu t0 = {ratio:g}, N = {workers}, c = {forward:g} b L"
        asked = {"scheme": "fractional_repetition", "method": "search", "draws": count}
        # The prototypes' figures are rounded, and their draws were not these.
        show(label, prototype * 1.005, f"({prototype})", workers, ratio, forward, **asked)


def pairs(count: int) -> None:
    print("pairs that meet, N = 20, no feedback (prototype)")
    for (ratio, forward), prototype in PAIRS.items():
        goal = 5.80 if (ratio, forward) == (1.0, 0.0) else None
        label = f"  mu t0 = {ratio:g}, c = {forward:g} b L"
        show(label, goal, f"({prototype})", 20, ratio, forward, scheme="pairs", draws=count)


def shared(count: int) -> None:
    print("shared samples, N = 20: claims take 0.1 % or 1 % of the bound (free feedback; 5 % or 10 % more)")
    for (ratio, forward), figures in SHARED.items():
        times = law(ratio).rvs((100_000, 20), random_state=np.random.default_rng(9))
        cost = {"samples": 20, "forward_cycles": forward * COORDINATES}
        bound = float(baselines.lower_bound(times, COORDINATES, **cost).mean())
        for parts, figure in zip((2, 4, 20), figures, strict=True):
            for share, allowed in ((0.001, 1.05), (0.01, 1.10)):
                label = f"  mu t0 = {ratio:g}, c = {forward:g} b L, {parts:2d} parts, claims {share:.1%}"
                asked = {
                    "scheme": "shared_samples",
                    "max_parts": parts,
                    "latency": share * bound,
                    "draws": count,
                }
                show(label, allowed * figure, f"({figure})", 20, ratio, forward, **asked)


def copies(name: str) -> Iterator[tuple[str, NDArray[np.float64]]]:
    times = load_trace(name).times
    yield name, times
    yield f"{name}, shuffled in each row", np.random.default_rng(0).permuted(times, axis=1)
    yield f"{name}, rows shuffled", np.random.default_rng(1).permutation(times)
    yield f"{name}, rotated", np.roll(times, len(times) // 3, axis=0)


def on_trace(
    times: NDArray[np.float64], **asked: object
) -> tuple[cgc.Plan, NDArray[np.float64], NDArray[np.float64]]:
    """Plan from the first half of the rows; runtimes of the plan and of uncoded on the second."""
    first, second = halves(times)
    workers = times.shape[1]
    plan = cgc.plan(workers, COORDINATES, cgc.Trace(first), samples=workers, **asked)
    own = cgc.simulate(
        plan.schedule(), second, samples=workers, latency=plan.parameters["latency"], threads=0
    )
    return plan, own, baselines.uncoded(second, COORDINATES, samples=workers)


def traces(_: int) -> None:
    print("measured traces, planned on the first half, scored on the second, as a fraction of uncoded")
    for name in TRACES:
        times = load_trace(name).times
        for asked in (
            {"scheme": "pairs", "max_parts": 2},
            {"scheme": "walked", "max_parts": 4},
            {"scheme": "shared_samples", "max_parts": 4},
            {"scheme": "load_balancing"},
            {"scheme": "cyclic"},
        ):
            plan, own, alone = on_trace(times, **asked)
            goal = TRACE_GOALS[name] if asked["scheme"] == "pairs" else None
            mean, error = own.mean() / alone.mean(), standard_error(own) / alone.mean()
            label = f"  {name}, {', '.join(f'{key} {value}' for key, value in asked.items())}"
            how = "" if plan.scheme_report is None else f"({plan.scheme_report.scores[0].note})"
            print(f"{label}: {mean:.3f} +- {error:.3f}  {how}  {check(label, mean, error, goal)}", flush=True)


def auto(_: int) -> None:
    print("scheme auto on traces and copies: fraction of uncoded, and of load balancing by speed")
    for name in TRACES:
        for what, times in copies(name):
            first, second = halves(times)
            balanced = baselines.load_balancing(
                second, COORDINATES, 1.0 / first.mean(axis=0), samples=times.shape[1]
            )
            for parts in (2, None):
                plan, own, alone = on_trace(times, scheme="auto", max_parts=parts, draws=2_000)
                worse = is_larger(own, alone) or is_larger(own, balanced)
                if worse:
                    failures.append(f"auto, {what}, max_parts {parts}: worse beyond noise")
                print(
                    f"  {what}, max_parts {parts}: {own.mean() / alone.mean():.3f}, "
                    f"{own.mean() / balanced.mean():.3f}  ({plan.scheme})  "
                    f"never worse beyond noise: {'MISSED' if worse else 'met'}",
                    flush=True,
                )


def chunk_level(times, *arguments, **keywords):
    """Runtimes of the baseline, from some draws at a time."""
    pieces = range(0, len(times), CHUNK_DRAWS)
    done = [
        baselines.partial_gradient_coding(times[at : at + CHUNK_DRAWS], *arguments, **keywords)
        for at in pieces
    ]
    return np.concatenate(done)


def chunks(count: int) -> None:
    print("chunk-level coding [RAMAMOORTHY24], its own setting: ours (published), rounded up to whole units")
    times = np.random.default_rng(0).exponential(1.0, (count, 200))
    for split, published in CHUNKS.items():
        shown = []
        for whole, figure in zip((True, False), published, strict=True):
            done = np.ceil(chunk_level(times, 1, 8, split, whole=whole, samples=200))
            shown.append(f"{done.mean():.3f} +- {standard_error(done):.3f} ({figure})")
        print(f"  l = {split}: classic {shown[0]}, chunk-level {shown[1]}")
    print("ours, N = 20, equal storage; shared samples send as much (L a worker), walked and pairs less")
    for ratio in STARTS:
        for parts in (2, 4, 20):
            times = law(ratio).rvs((count, 20), random_state=np.random.default_rng(9))
            theirs = chunk_level(times, COORDINATES, parts, samples=20)
            shown = [f"theirs {theirs.mean() / UNIT:.3f} +- {standard_error(theirs) / UNIT:.3f}"]
            for scheme, feedback in (("pairs", "announce"), ("walked", "none"), ("shared_samples", "claim")):
                if scheme == "pairs" and parts > 2:
                    continue
                plan = cgc.plan(
                    20,
                    COORDINATES,
                    law(ratio),
                    samples=20,
                    scheme=scheme,
                    feedback=feedback,
                    max_parts=parts,
                    draws=2_000,
                )
                own = cgc.simulate(plan.schedule(), times, samples=20, threads=0)
                sent = plan.scheme_report.scores[0].values_sent / 20
                share = own.mean() / theirs.mean()
                shown.append(f"{scheme} {own.mean() / UNIT:.3f} ({share:.2f} of theirs, {sent:.2f} L)")
                if is_larger(own, theirs):
                    failures.append(f"chunks, mu t0 = {ratio:g}, {parts} parts: {scheme} is slower")
            print(f"  mu t0 = {ratio:g}, {parts:2d} parts: {', '.join(shown)}", flush=True)


def group_statistics(times, redundancies):
    """When cyclic codes in groups decode (S, K), one column a level: the last group."""
    workers = times.shape[1]
    return np.stack([decode_times(times, cyclic_groups(workers, n)) for n in redundancies], axis=1)


def planned_mean(levels, chosen_on, times):
    """Runtimes (S,) of the block sizes of least mean on other draws; (work, statistics) of levels."""
    work = np.concatenate([work for work, _ in levels])
    order = np.argsort(work, kind="stable")

    def statistics(draws):
        columns = np.concatenate([statistic(draws) for _, statistic in levels], axis=1)
        return np.ascontiguousarray(columns[:, order])

    found = search_levels(statistics(chosen_on), work[order], 0.0)[0]
    cycles = np.where(found.shares > 0, np.cumsum(work[order] * found.shares), 0.0)
    return COORDINATES * (statistics(times) * cycles).max(axis=1)


def groups(count: int) -> None:
    print("cyclic codes in groups in the published plan: the same block sizes, draws and work")
    rows = [(ratio, workers) for ratio in STARTS for workers in (10, 20, 48, 50)]
    for ratio, workers in rows:
        times = law(ratio).rvs((count, workers), random_state=np.random.default_rng(9))
        plan = cgc.plan(workers, COORDINATES, law(ratio), samples=workers)
        cyclic, grouped, repeated, auto = (
            cgc.simulate(plan.schedule(code), times, samples=workers, threads=0)
            for code in ("cyclic", "grouped", "repetition", "auto")
        )
        if (grouped > cyclic * (1 + 1e-12)).any():
            failures.append(f"groups, mu t0 = {ratio:g}, N = {workers}: later than the cyclic code")
        stored = [parts_stored(plan.schedule(code)) for code in ("cyclic", "grouped", "auto")]
        print(
            f"  mu t0 = {ratio:g}, N = {workers}: cyclic {cyclic.mean() / UNIT:.3f}, grouped "
            f"{grouped.mean() / UNIT:.3f} ({grouped.mean() / cyclic.mean():.3f} +- "
            f"{standard_error(grouped - cyclic) / cyclic.mean():.4f}), repetition "
            f"{repeated.mean() / UNIT:.3f}, auto {auto.mean() / UNIT:.3f} "
            f"({auto.mean() / cyclic.mean():.3f} of cyclic); parts held {stored[0]:.1f}, {stored[1]:.1f}, "
            f"{stored[2]:.1f}",
            flush=True,
        )
    print("planned for: fractional repetition, cyclic codes in groups, levels of both")
    for ratio, workers in rows:
        times = law(ratio).rvs((count, workers), random_state=np.random.default_rng(9))
        others = law(ratio).rvs((20_000, workers), random_state=np.random.default_rng(8))
        repetition = make_levels("fractional_repetition", workers)
        redundancies = np.arange(workers)
        of_repetition = (repetition.work, repetition.statistics)
        of_groups = (redundancies + 1.0, lambda draws, n=redundancies: group_statistics(draws, n))
        repeated, grouped, both = (
            planned_mean(levels, others, times)
            for levels in ([of_repetition], [of_groups], [of_repetition, of_groups])
        )
        print(
            f"  mu t0 = {ratio:g}, N = {workers}: {repeated.mean() / UNIT:.3f}, {grouped.mean() / UNIT:.3f}, "
            f"{both.mean() / UNIT:.3f} ({both.mean() / repeated.mean():.4f} +- "
            f"{standard_error(both - repeated) / repeated.mean():.4f} of fractional repetition)",
            flush=True,
        )


SECTIONS = {
    "walked": walked,
    "fractional": fractional,
    "pairs": pairs,
    "shared": shared,
    "traces": traces,
    "auto": auto,
    "chunks": chunks,
    "groups": groups,
}


def main() -> None:
    arguments = sys.argv[1:]
    count = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 100_000
    for name in arguments or SECTIONS:
        SECTIONS[name](count)
    if failures:
        raise SystemExit("goals missed:\n" + "\n".join(failures))


if __name__ == "__main__":
    main()
