"""What every engine must do: the same checks for all, each a function of a `Setting`.

`test_conformance.py` runs them: in its own process for engines that need nothing, and for the others in one
job an engine, under mpiexec or on a Ray cluster of its own: ``python conformance.py ENGINE FOLDER`` writes
one result a check into ``FOLDER/results.json``.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

import cgc_fast as cgc
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.schemes.fractional_repetition import fractional_repetition_schedule
from cgc_fast.schemes.pairs import pairs_schedule
from cgc_fast.schemes.shared_samples import shared_samples_schedule
from cgc_fast.schemes.single_level import single_level_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule
from own_problems import (
    Fault,
    Quadratic,
    ScaledLeastSquares,
    Scripted,
    ScriptedSlices,
    SlowSlices,
    make_nothing,
    make_shard,
)

SAMPLES, COORDINATES = 23, 40
GIVE_UP_S = 60.0  # a hang, whatever the machine is busy with
DUMP_AFTER_S = 500.0  # of a whole job
SCHEMES = ("uncoded", "single level", "cyclic", "repetition")


@dataclass
class Setting:
    """The engine that is checked, and a folder for scripts that nobody else uses."""

    engine: str
    workers: int
    folder: Path
    options: dict = field(default_factory=dict)

    def cluster(self, schedule, problem, **others):
        return cgc.Cluster(schedule, problem, engine=self.engine, engine_options=self.options, **others)

    def schedule(self, scheme, workers=None, coordinates=COORDINATES):
        workers = workers or self.workers
        sizes = np.full(workers, coordinates // workers, dtype=np.int64)
        sizes[-1] += coordinates - sizes.sum()
        return {
            "uncoded": lambda: uncoded_schedule(workers, coordinates),
            "single level": lambda: single_level_schedule(workers, coordinates, workers // 2),
            "cyclic": lambda: cyclic_schedule(workers, coordinates, sizes),
            "shared rows": lambda: cyclic_schedule(workers, coordinates, sizes, grouped=True),
            "repetition": lambda: fractional_repetition_schedule(workers, coordinates, sizes),
        }[scheme]()

    def scripted(self, script, kind=Scripted):
        plain = Quadratic.random(SAMPLES, COORDINATES)
        return kind(plain.weights, plain.targets).with_script(script, self.folder)


class Compared:
    """A cluster whose every gradient is compared with the plain one, at a theta of its own."""

    def __init__(self, setting, schedule, problem, **others):
        self.schedule, self.problem = schedule, problem
        self.promise = max(cell.code.promise for cell in schedule.cells)
        self.cluster = setting.cluster(schedule, problem, **others)
        self._generator = np.random.default_rng(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cluster.close()

    def theta(self):
        return self._generator.normal(size=self.schedule.coordinates)

    def check(self, gradient, theta, where=slice(None)):
        error = abs(gradient[where] - self.problem.gradient(theta)[where]).max()
        bound = self.promise * self.problem.scale(theta, self.schedule.workers)
        assert error <= bound, f"error {error}, promised {bound}"

    def iterate(self, count=1):
        for _ in range(count):
            theta = self.theta()
            self.check(self.cluster.gradient(theta), theta)
            assert self.cluster.last_report.complete

    def replan(self, schedule):
        self.cluster.replan(schedule)
        self.promise = max(cell.code.promise_for(schedule.payload) for cell in schedule.cells)

    def settle(self):
        """Iterate until every worker is there."""
        self.wait_for(lambda: all(w.state == "ready" for w in self.cluster.health().workers))

    def wait_for(self, condition):
        deadline = time.monotonic() + GIVE_UP_S
        while not condition():
            assert time.monotonic() < deadline, str(self.cluster.health())
            self.iterate()
            time.sleep(0.01)

    def deaths(self):
        return sum(worker.deaths for worker in self.cluster.health().workers)


CHECKS = {}
FEW = {"ray"}  # engines whose workers take long to start: of several cases they are given the listed ones
EVERYWHERE = ("serial", "processes", "mpi", "ray", "sockets")
WITH_WORKERS = EVERYWHERE[1:]  # engines whose workers are processes


def check(*cases, engines=EVERYWHERE, few=None):
    """Register a check, once for each of the cases that it takes; `few`: those for engines slow to start."""

    def register(function):
        name = function.__name__.replace("_", " ")
        for case in cases or (None,):
            full = name if case is None else f"{name}: {case}"
            for_case = [e for e in engines if e not in FEW or few is None or case in few]
            CHECKS[full] = for_case, (lambda s, c=case: function(s) if c is None else function(s, c))
        return function

    return register


# --- gradients -------------------------------------------------------------------------------------------


@check(*SCHEMES, "shared rows", few=())
def gradients_are_exact(setting, scheme):
    schedule = setting.schedule(scheme)
    with Compared(setting, schedule, Quadratic.random(SAMPLES, COORDINATES)) as run:
        run.iterate(4)
        assert run.cluster.gradient(run.theta()).dtype == np.float64


@check()
def gradients_are_exact_by_one_scheme_after_the_other(setting):
    everywhere = single_level_schedule(setting.workers, COORDINATES, setting.workers - 1)  # all samples
    with Compared(setting, everywhere, Quadratic.random(SAMPLES, COORDINATES)) as run:
        run.iterate(2)
        for scheme in (*SCHEMES, "shared rows"):
            run.replan(setting.schedule(scheme))
            run.iterate(4)


@check("uncoded", "cyclic", few=("cyclic",))
def iterations_of_a_built_in_problem(setting, scheme):
    # Which master and workers of most engines make in the compiled core, up to what is unusual.
    problem = ScaledLeastSquares.random(SAMPLES, COORDINATES)
    with Compared(setting, setting.schedule(scheme), problem) as run:
        run.iterate(5)
        value, gradient = run.cluster.value_and_gradient(theta := run.theta())
        run.check(gradient, theta)
        expected = 0.5 * ((problem.features @ theta - problem.targets) ** 2).sum()
        assert abs(value - expected) <= 1e-9 * expected
        for _ in range(2):
            with pytest.raises(cgc.NonFiniteGradient):
                run.cluster.gradient(np.full(COORDINATES, 1e308))
            run.iterate(3)
        partial = run.cluster.gradient(theta, deadline_s=0.0)  # workers are told in the midst of it
        assert partial.failure is None
        if partial.decoded.any():
            run.check(partial.values, theta, partial.decoded)
        run.iterate(3)


@check("cyclic", "repetition", few=())
def more_workers_than_coordinates(setting, scheme):
    sizes = np.zeros(setting.workers, dtype=np.int64)
    sizes[[0, setting.workers // 2, setting.workers - 1]] = 1
    make = {"cyclic": cyclic_schedule, "repetition": fractional_repetition_schedule}[scheme]
    with Compared(setting, make(setting.workers, 3, sizes), Quadratic.random(9, 3)) as run:
        run.iterate(2)


@check("uncoded", "cyclic", "repetition", few=("repetition",))
def the_loss_comes_with_the_gradient(setting, scheme):
    problem = setting.scripted({})
    with Compared(setting, setting.schedule(scheme), problem) as run:
        theta = run.theta()
        value, gradient = run.cluster.value_and_gradient(theta)
        run.check(gradient, theta)
        expected = 0.5 * (problem.weights * (theta - problem.targets) ** 2).sum()
        assert abs(value - expected) <= 1e-9 * expected
        run.iterate()


@check("cyclic", "repetition", few=("cyclic",))
def payloads_of_half_the_size(setting, scheme):
    schedule = replace(setting.schedule(scheme), payload="float32")
    problem = setting.scripted({})
    with setting.cluster(schedule, problem) as cluster:
        theta = np.linspace(-1, 1, COORDINATES)
        value, gradient = cluster.value_and_gradient(theta)
    error = abs(gradient - problem.gradient(theta)).max() / problem.scale(theta, setting.workers)
    assert 1e-12 < error <= 1e-3  # rounded, and not much amplified
    expected = 0.5 * (problem.weights * (theta - problem.targets) ** 2).sum()
    assert abs(value - expected) <= 1e-9 * expected


@check("uncoded", "cyclic", few=("uncoded",))
def large_payloads(setting, scheme):
    # Larger than what message systems send at once: theta, a whole column of derivatives, and one of each.
    coordinates = 50_000
    problem = Quadratic.random(9, coordinates)
    with Compared(setting, setting.schedule(scheme, coordinates=coordinates), problem) as run:
        run.iterate(3)


@check(engines=WITH_WORKERS)
def a_factory_makes_the_shard_in_the_worker(setting):
    problem = Quadratic.random(SAMPLES, COORDINATES)
    with Compared(setting, setting.schedule("single level"), problem, factory=make_shard) as run:
        run.iterate(2)


# --- streams ---------------------------------------------------------------------------------------------


@check()
def blocks_stream_each_coordinate_once_even_if_theta_is_overwritten(setting):
    problem = Quadratic.random(SAMPLES, COORDINATES)
    draws = np.random.default_rng(3).exponential(size=(3, setting.workers)) * 1e-4
    with Compared(setting, setting.schedule("cyclic"), problem, cycle_times=draws) as run:
        for _ in range(3):
            theta = run.theta()
            expected = problem.gradient(theta)
            covered = np.zeros(COORDINATES, dtype=int)
            last = 0.0
            for block in run.cluster.stream(theta):
                theta[:] = np.nan
                covered[block.coordinates] += 1
                assert not block.values.flags.writeable
                assert abs(block.values - expected[block.coordinates]).max() <= 1e-9 * abs(expected).sum()
                assert block.elapsed_s >= last
                assert block.workers
                last = block.elapsed_s
            assert (covered == 1).all()


@check()
def leaving_the_loop_ends_the_iteration(setting):
    with Compared(setting, setting.schedule("cyclic"), Quadratic.random(SAMPLES, COORDINATES)) as run:
        for _ in range(3):
            stream = run.cluster.stream(run.theta())
            next(stream)
            for forbidden in (run.cluster.gradient, run.cluster.stream):
                with pytest.raises(cgc.ClusterBusy):
                    forbidden(run.theta())
            stream.close()
            run.iterate()


@check()
def blocks_decode_in_the_order_of_the_emulated_clock(setting):
    # One worker a repetition cell: worker w delivers the cells of its walk at multiples of its cycle time.
    problem = Quadratic.random(SAMPLES, COORDINATES)
    schedule = setting.schedule("uncoded")
    cycle_times = np.full((1, setting.workers), 1e-5)
    cycle_times[0, 1] = 2e-3  # later than any hiccup of the machine
    with Compared(setting, schedule, problem, cycle_times=cycle_times) as run:
        run.iterate()
        report = run.cluster.last_report
    last = max(report.deliveries, key=lambda d: d.ended_s)
    assert last.worker == 1
    simulated = cgc.simulate(schedule, cycle_times, samples=SAMPLES)[0]
    assert report.elapsed_s >= 0.999 * simulated


@check()
def workers_that_never_answer_are_done_without(setting):
    problem, workers = Quadratic.random(SAMPLES, COORDINATES), setting.workers
    draws = np.full((3, workers), 1e-6)
    draws[0, 2] = draws[1, [0, workers - 1]] = np.inf
    draws[2, : workers - 1] = np.inf
    schedule = setting.schedule("single level")
    with Compared(setting, schedule, problem, cycle_times=draws) as run:
        run.iterate(2)
        with pytest.raises(cgc.DecodeError, match="never answer"):
            run.cluster.gradient(run.theta())


@check()
def reports_say_what_happened(setting):
    schedule = setting.schedule("cyclic")
    draws = np.linspace(1, 4, setting.workers)[None] * 1e-5
    problem = Quadratic.random(SAMPLES, COORDINATES)
    log = setting.folder / "events.jsonl"
    with Compared(setting, schedule, problem, cycle_times=draws, events=log) as run:
        run.iterate()
        report = run.cluster.last_report
        health = run.cluster.health()
        assert run.cluster.trace().times.shape == (1, setting.workers)
    assert report.iteration == 1
    assert set(report.decoded_s) == set(range(len(schedule.cells)))
    assert len(report.blocks_s) == len(schedule.blocks)
    assert report.elapsed_s >= max(report.decoded_s.values())
    assert all(d.began_s <= d.ended_s and d.finite for d in report.deliveries)
    delivered = {(d.cell, d.row) for d in report.deliveries}
    for c, cell in enumerate(schedule.cells):
        assert sum(1 for cell_, _ in delivered if cell_ == c) >= cell.code.required_rows
    assert sum(worker.delivered for worker in health.workers) == len(report.deliveries)
    _, logged = cgc.read_events(log)
    assert [r.deliveries for r in logged] == [report.deliveries]


@check()
def a_deadline_returns_what_is_decoded(setting):
    problem = Quadratic.random(SAMPLES, COORDINATES)
    schedule = cyclic_schedule(
        setting.workers, COORDINATES, np.array([20, 20] + [0] * (setting.workers - 2), dtype=np.int64)
    )
    draws = np.full((1, setting.workers), 1e-5)
    draws[0, 0] = np.inf  # the block that can do without one worker comes, the other never
    with Compared(setting, schedule, problem, cycle_times=draws) as run:
        theta = run.theta()
        partial = run.cluster.gradient(theta, deadline_s=GIVE_UP_S)
        assert partial.decoded.sum() == 20
        assert isinstance(partial.failure, cgc.DecodeError)
        assert np.isnan(partial.values[~partial.decoded]).all()
        run.check(partial.values, theta, partial.decoded)


@check(few=())
def bad_theta_is_refused_and_the_cluster_goes_on(setting):
    with Compared(setting, setting.schedule("uncoded"), Quadratic.random(SAMPLES, COORDINATES)) as run:
        for theta in (np.zeros(COORDINATES + 1), np.full(COORDINATES, np.nan), ["a"] * COORDINATES):
            with pytest.raises((cgc.ArgumentValueError, cgc.ArgumentTypeError)):
                run.cluster.gradient(theta)
        run.iterate()


# --- abandonment, and messages that come late ------------------------------------------------------------


@check(engines=WITH_WORKERS)
def a_late_worker_abandons_its_iteration_between_slices(setting):
    coordinates = 1 << 21
    plain = Quadratic(
        np.ones((2 * setting.workers, coordinates)), np.zeros((2 * setting.workers, coordinates))
    )
    log = setting.folder / "slices"
    problem = SlowSlices(plain.weights[:4], plain.targets[:4]).with_log(str(log))
    schedule = fractional_repetition_schedule(2, coordinates, np.array([0, coordinates]))  # any one decodes
    theta = np.zeros(coordinates)

    def slices():
        return [tuple(map(int, line.split())) for line in log.read_text().splitlines()]

    with setting.cluster(schedule, problem) as cluster:
        cluster.gradient(theta)
        deadline = time.monotonic() + GIVE_UP_S
        while slices()[-1][0] == 1:  # until the slow one is back and takes part
            np.testing.assert_array_equal(cluster.gradient(theta), problem.gradient(theta))
            assert time.monotonic() < deadline
    assert max(stop for iteration, _, stop in slices() if iteration == 1) < coordinates


@check("repetition", "single level", engines=WITH_WORKERS, few=("repetition",))
def late_messages_change_nothing(setting, scheme):
    # Each of these iterations has workers that answer when the next one is under way, at another theta.
    script = {(i, 0): Fault("late", times=2) for i in range(2, 12)}
    problem = setting.scripted(script)
    with Compared(setting, setting.schedule(scheme), problem) as run:
        run.iterate(15)
    assert len(list(setting.folder.iterdir())) >= 10


@check(engines=WITH_WORKERS)
def a_second_cluster_knows_nothing_of_the_first(setting):
    # The first leaves with messages under way; numbers of iterations and cells are the same in the second.
    script = {(1, 0): Fault("late", times=None)}
    first = setting.scripted(script)
    schedule = setting.schedule("cyclic")
    with Compared(setting, schedule, first) as run:
        run.cluster.stream(run.theta()).close()
    second = Quadratic.random(SAMPLES, COORDINATES, seed=1)
    with Compared(setting, schedule, second) as run:
        run.iterate(3)


# --- workers that learn of each other, and other plans ---------------------------------------------------


def with_feedback(workers, feedback, pieces=20):
    if feedback == "claim":
        return shared_samples_schedule(workers, COORDINATES, [range(workers)], pieces=pieces)
    return pairs_schedule(workers, COORDINATES, cells=pieces, feedback="announce")


@check("announce", "claim", few=())
def gradients_are_exact_where_workers_learn_of_each_other(setting, feedback):
    schedule = with_feedback(setting.workers, feedback)
    problem = setting.scripted({})
    with Compared(setting, schedule, problem) as run:
        for _ in range(8):
            run.iterate()
            cells = sorted(d.cell for d in run.cluster.last_report.deliveries)
            assert set(cells) == set(range(len(schedule.cells)))
            if feedback == "claim":
                assert cells == sorted(set(cells)), "a cell is in two sums"
        theta = run.theta()
        value, gradient = run.cluster.value_and_gradient(theta)
        run.check(gradient, theta)
        expected = 0.5 * (problem.weights * (theta - problem.targets) ** 2).sum()
        assert abs(value - expected) <= 1e-9 * expected


@check("announce", "claim", engines=WITH_WORKERS, few=("announce",))
def workers_do_what_others_have_left(setting, feedback):
    # One worker is very slow: without feedback the iteration would take as long as it.
    schedule = with_feedback(setting.workers, feedback)
    cycles = SAMPLES * COORDINATES / setting.workers
    draws = np.full((3, setting.workers), 0.1 / cycles)
    draws[:, 1] = 30.0 / cycles
    with Compared(setting, schedule, Quadratic.random(SAMPLES, COORDINATES), cycle_times=draws) as run:
        for _ in range(3):
            run.iterate()
            by_the_slow_one = [d for d in run.cluster.last_report.deliveries if d.worker == 1]
            assert len(by_the_slow_one) < len(schedule.cells) / setting.workers
            assert run.cluster.last_report.elapsed_s < 25.0


@check("announce", "claim", engines=WITH_WORKERS, few=())
def faults_of_workers_that_learn_of_each_other_are_made_up_for(setting, feedback):
    script = {(2, 0): Fault("raise"), (5, 0): Fault("nan", first=True)}
    with Compared(setting, with_feedback(setting.workers, feedback), setting.scripted(script)) as run:
        run.iterate(3)
        run.wait_for(lambda: run.deaths() == 1 and run.cluster.last_report.iteration >= 6)
        run.settle()
        run.iterate(2)
        non_finite = sum(worker.non_finite for worker in run.cluster.health().workers)
        assert non_finite == 1, str(run.cluster.health())


@check("announce", "claim", engines=("processes", "ray"), few=("claim",))
def a_death_where_workers_learn_of_each_other_is_made_up_for(setting, feedback):
    problem = setting.scripted({(2, 0): Fault("kill", first=True)})
    with Compared(setting, with_feedback(setting.workers, feedback), problem) as run:
        run.iterate(4)
        run.wait_for(lambda: run.deaths() == 1)
        run.settle()
        run.iterate(2)


@check("none", "announce", "claim", few=("claim",))
def workers_go_on_by_another_plan(setting, feedback):
    if feedback == "none":  # the first has all samples everywhere
        first = single_level_schedule(setting.workers, COORDINATES, setting.workers - 1)
        others = [
            setting.schedule("cyclic"),
            first,
            replace(setting.schedule("repetition"), payload="float32"),
        ]
    else:
        first, *others = (
            with_feedback(setting.workers, feedback, pieces) for pieces in (10, 24, 16, 8, 24, 8)
        )
    with Compared(setting, first, Quadratic.random(SAMPLES, COORDINATES)) as run:
        run.iterate(2)
        process_ids = [worker.process_id for worker in run.cluster.health().workers]
        for schedule in others:
            run.cluster.stream(run.theta()).close()  # something may be on its way
            run.replan(schedule)
            run.iterate(3)
        assert [worker.process_id for worker in run.cluster.health().workers] == process_ids
        assert run.deaths() == 0


# --- faults ----------------------------------------------------------------------------------------------


@check(*SCHEMES, engines=WITH_WORKERS, few=("cyclic",))
def a_worker_that_raises_is_made_up_for(setting, scheme):
    problem = setting.scripted({(2, 0): Fault("raise", samples=(0,), first=True)})
    with Compared(setting, setting.schedule(scheme), problem) as run:
        run.iterate(4)
        run.wait_for(lambda: run.deaths() == 1)
        run.settle()
        run.iterate(2)


@check("kill", "exit", "vanish", engines=("processes", "ray"), few=("kill",))
def a_worker_that_dies_is_made_up_for(setting, what):
    problem = setting.scripted({(2, 0): Fault(what, samples=(0,), first=True)})
    with Compared(setting, setting.schedule("cyclic"), problem) as run:
        run.iterate(4)
        run.wait_for(lambda: run.deaths() == 1)
        run.settle()
        run.iterate(2)


@check(*SCHEMES, engines=WITH_WORKERS, few=("uncoded",))
def values_that_are_not_finite_are_asked_for_again(setting, scheme):
    problem = setting.scripted({(2, 0): Fault("nan", samples=(0,), first=True)})
    with Compared(setting, setting.schedule(scheme), problem) as run:
        run.iterate(4)
        run.wait_for(lambda: sum(worker.non_finite for worker in run.cluster.health().workers) == 1)


@check("single level", "claim", engines=WITH_WORKERS, few=("single level",))
def a_worker_that_hangs_is_done_without_and_comes_back(setting, what):
    held = () if what == "claim" else (0,)
    problem = setting.scripted({(4, 0): Fault("stop", samples=held, first=True)})
    schedule = with_feedback(setting.workers, what) if what == "claim" else setting.schedule(what)
    with Compared(setting, schedule, problem) as run:
        process_ids = [worker.process_id for worker in run.cluster.health().workers]
        run.iterate(3)
        try:
            run.iterate()
            # Iterations in which it is missed, so that it is noticed at all.
            suspicions = lambda: sum(w.suspicions for w in run.cluster.health().workers)  # noqa: E731
            run.wait_for(lambda: suspicions() > 0)
            run.iterate(3)
        finally:
            for process_id in process_ids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGCONT)
        run.settle()
        run.iterate(3)


@check(engines=WITH_WORKERS)
def a_fault_that_stays_ends_in_an_error_and_the_cluster_goes_on(setting):
    problem = setting.scripted({(2, 0): Fault("raise", times=None, samples=(0,))})
    with Compared(setting, setting.schedule("uncoded"), problem) as run:
        run.iterate()
        with pytest.raises(cgc.WorkerDied, match="worker 0 is gone") as caught:
            run.cluster.gradient(run.theta())
        assert "scripted failure" in caught.value.worker_traceback
        run.settle()
        run.iterate()


@check(engines=WITH_WORKERS)
def a_worker_that_cannot_load_its_samples_is_reported(setting):
    with pytest.raises(cgc.WorkerDied, match="no samples here"):
        setting.cluster(
            setting.schedule("uncoded"), Quadratic.random(SAMPLES, COORDINATES), factory=make_nothing
        )
    with Compared(setting, setting.schedule("uncoded"), Quadratic.random(SAMPLES, COORDINATES)) as run:
        run.iterate()


@check("nan", "raise", engines=WITH_WORKERS)
def cells_that_are_delivered_together_are_exact_whatever_happens_to_one(setting, what):
    # By iteration 6 the workers know how fast they are, and make many of the small cells at a time.
    problem = setting.scripted({(6, 20): Fault(what, samples=(0,), first=True)}, ScriptedSlices)
    with Compared(setting, pairs_schedule(setting.workers, COORDINATES, cells=20), problem) as run:
        for _ in range(8):
            theta = run.theta()
            value, gradient = run.cluster.value_and_gradient(theta)
            run.check(gradient, theta)
            expected = 0.5 * (problem.weights * (theta - problem.targets) ** 2).sum()
            assert abs(value - expected) <= 1e-9 * expected
        run.wait_for(lambda: sum(w.non_finite + w.deaths for w in run.cluster.health().workers) == 1)
        run.settle()
        run.iterate(2)


# --- the end ---------------------------------------------------------------------------------------------


@check(engines=WITH_WORKERS)
def closing_ends_an_iteration_in_another_thread(setting):
    draws = np.full((2, setting.workers), 1e-6)
    draws[1] = 1e3  # never in the time of this check
    problem = Quadratic.random(SAMPLES, COORDINATES)
    run = Compared(setting, setting.schedule("uncoded"), problem, cycle_times=draws)
    run.iterate()
    future: Future = run.cluster.submit(run.theta())
    time.sleep(0.05)
    run.cluster.close()
    assert isinstance(future.exception(timeout=GIVE_UP_S), cgc.ClusterClosed)
    with pytest.raises(cgc.ClusterClosed):
        run.cluster.gradient(run.theta())


@check(engines=WITH_WORKERS)
def an_interrupt_ends_the_iteration_and_the_cluster_goes_on(setting):
    draws = np.full((4, setting.workers), 1e-6)
    draws[1] = 1e3
    problem = Quadratic.random(SAMPLES, COORDINATES)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Compared(setting, setting.schedule("cyclic"), problem, cycle_times=draws) as run:
            run.iterate()
            timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                run.cluster.gradient(run.theta())
            timer.join()
            run.iterate(2)
    finally:
        signal.signal(signal.SIGINT, handler)


@check()
def what_is_dropped_without_closing_is_released(setting):
    cluster = setting.cluster(setting.schedule("cyclic"), Quadratic.random(SAMPLES, COORDINATES))
    cluster.gradient(np.zeros(COORDINATES))
    del cluster
    with Compared(setting, setting.schedule("cyclic"), Quadratic.random(SAMPLES, COORDINATES)) as run:
        run.iterate()


# --- in a job of its own ---------------------------------------------------------------------------------


def names_for(engine):
    return [name for name, (engines, _) in CHECKS.items() if engine in engines]


def run_all(engine, workers, folder, only="", options=None):
    """Run all checks of an engine in this process; None or a traceback for each."""
    results = {}
    for index, name in enumerate(names_for(engine)):
        if only not in name:
            continue
        place = Path(folder) / str(index)
        place.mkdir()
        began = time.monotonic()
        try:
            CHECKS[name][1](Setting(engine, workers, place, options or {}))
            results[name] = None
        except Exception:
            results[name] = traceback.format_exc()
        print(
            f"{time.monotonic() - began:6.2f} s  {name}  {'' if results[name] is None else 'FAILED'}",
            flush=True,
        )
    (Path(folder) / "results.json").write_text(json.dumps(results))
    return results


def main() -> int:
    faulthandler.dump_traceback_later(DUMP_AFTER_S, exit=False)  # a job that hangs says where
    engine, folder = sys.argv[1:3]
    only = sys.argv[3] if len(sys.argv) > 3 else ""
    options = json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}
    if engine == "mpi":
        from mpi4py import MPI

        from cgc_fast.engines import mpi

        # A communicator of its own, in which ranks have other numbers than in the world.
        comm = MPI.COMM_WORLD.Split(0, key=-MPI.COMM_WORLD.rank)
        results = mpi.run(lambda: run_all(engine, comm.size - 1, folder, only, options), comm)
        if results is None:
            return 0
    elif engine == "sockets":
        import ranks_over_sockets

        with ranks_over_sockets.ranks(4):
            results = run_all(engine, 4, folder, only, options)
    else:
        from cgc_fast.engines import ray

        results = ray.run(lambda: run_all(engine, 4, folder, only, options), num_cpus=4)
    for name, result in results.items():
        if result is not None:
            print(f"--- {name}\n{result}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
