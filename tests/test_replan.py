"""Another plan for the same workers: exact from the next iteration on, whatever befalls them meanwhile."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import cgc_fast as cgc
from cgc_fast import supervisor
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.schemes.fractional_repetition import fractional_repetition_schedule
from cgc_fast.schemes.pairs import pairs_schedule
from cgc_fast.schemes.shared_samples import shared_samples_schedule
from cgc_fast.schemes.single_level import single_level_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule
from own_problems import Fault, Quadratic, Scripted

ENGINES = ["serial", "processes"]
WORKERS, SAMPLES, COORDINATES = 4, 23, 40
EVERYTHING = single_level_schedule(WORKERS, COORDINATES, WORKERS - 1)  # all hold all samples
CYCLIC = cyclic_schedule(WORKERS, COORDINATES, np.array([10, 12, 18, 0]))
GROUPS = fractional_repetition_schedule(WORKERS, COORDINATES, np.array([10, 16, 0, 14]))
SINGLE = dataclasses.replace(GROUPS, payload="float32")
UNCODED = uncoded_schedule(WORKERS, COORDINATES)
SEQUENCES = {
    "no feedback": [EVERYTHING, CYCLIC, UNCODED, SINGLE, GROUPS, EVERYTHING, CYCLIC],
    "announce": [pairs_schedule(WORKERS, COORDINATES, cells=n, feedback="announce") for n in (2, 20, 5)],
    "claim": [
        shared_samples_schedule(WORKERS, COORDINATES, [range(WORKERS)], pieces=8),
        shared_samples_schedule(WORKERS, COORDINATES, [(0, 2), (1, 3)], pieces=20),
        shared_samples_schedule(WORKERS, COORDINATES, [(3, 1, 2), (0,)], pieces=4),
    ],
}


class Run:
    """A cluster whose gradients are checked."""

    def __init__(self, schedule, problem=None, **options):
        self.problem = problem or Quadratic.random(SAMPLES, COORDINATES)
        self.cluster = cgc.Cluster(schedule, self.problem, **options)
        self._generator = np.random.default_rng(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cluster.close()

    def iterate(self, count=3):
        schedule = self.cluster.schedule
        promise = max(cell.code.promise_for(schedule.payload) for cell in schedule.cells)
        for _ in range(count):
            theta = self._generator.normal(size=COORDINATES)
            error = abs(self.cluster.gradient(theta) - self.problem.gradient(theta)).max()
            assert error <= promise * self.problem.scale(theta, WORKERS)

    def process_ids(self):
        return [w.process_id for w in self.cluster.health().workers]

    def settle(self):
        deadline = time.monotonic() + 60
        while any(w.state != "ready" for w in self.cluster.health().workers):
            self.iterate(1)
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("feedback", SEQUENCES)
def test_gradients_are_exact_under_every_plan(feedback, engine):
    first, *others = SEQUENCES[feedback]
    with Run(first, engine=engine) as run:
        run.iterate()
        pids = run.process_ids()
        for schedule in (*others, first):
            run.cluster.replan(schedule)
            run.iterate()
            report = run.cluster.last_report
            assert run.cluster.schedule is schedule
            assert set(report.decoded_s) == set(range(len(schedule.cells)))
            assert set(report.blocks_s) == set(range(len(schedule.blocks)))
        run.cluster.replan(others[0])
        run.cluster.replan(others[-1])
        run.iterate()
        assert run.process_ids() == pids
        assert run.cluster.last_report.iteration == 3 * (len(others) + 3)
        assert len(run.cluster.trace().times) == run.cluster.last_report.iteration


@pytest.mark.parametrize("feedback", SEQUENCES)
def test_times_are_those_of_the_plan_in_use(feedback):
    draws = np.random.default_rng(2).exponential(size=(30, WORKERS))
    with Run(SEQUENCES[feedback][0], engine="serial", cycle_times=draws) as run:
        for draw in range(0, 30, 5):
            schedule = SEQUENCES[feedback][draw // 5 % len(SEQUENCES[feedback])]
            run.cluster.replan(schedule)
            for simulated in cgc.simulate(schedule, draws[draw : draw + 5], samples=SAMPLES):
                run.iterate(1)
                assert run.cluster.last_report.elapsed_s == pytest.approx(simulated, rel=1e-12)


def test_a_plan_made_from_the_measured_times():
    with Run(EVERYTHING) as run:
        run.iterate(5)
        plan = cgc.plan(WORKERS, COORDINATES, run.cluster.trace(), samples=SAMPLES)
        run.cluster.replan(plan)
        run.iterate()
        plan = cgc.plan(WORKERS, COORDINATES, stats.expon(loc=1), samples=SAMPLES, scheme="cyclic")
        run.cluster.replan(plan)
        run.iterate()


@pytest.mark.parametrize("when", ["before the engine", "after the engine"])
@pytest.mark.parametrize("engine", ENGINES)
def test_ctrl_c_leaves_no_plan_half_taken_up(engine, when, monkeypatch):
    with Run(EVERYTHING, engine=engine) as run:
        run.iterate()
        running = run.cluster._master.engine
        replan = running.replan

        def interrupted(*arguments):
            if when == "before the engine":
                signal.raise_signal(signal.SIGINT)
            replan(*arguments)
            if when == "after the engine":
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(running, "replan", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.cluster.replan(CYCLIC)
        assert run.cluster.schedule is CYCLIC
        run.iterate()
        monkeypatch.undo()
        run.cluster.replan(GROUPS)
        run.iterate()


@pytest.mark.parametrize("engine", ENGINES)
def test_bad_plans_are_refused_and_the_cluster_goes_on(engine):
    with Run(UNCODED, engine=engine) as run:
        with pytest.raises(ValueError, match=r"worker 0 lacks samples \[6, 12\); worker 1 lacks samples"):
            run.cluster.replan(single_level_schedule(WORKERS, COORDINATES, 1))
        with pytest.raises(ValueError, match="expected 4 workers and feedback 'none'"):
            run.cluster.replan(uncoded_schedule(3, COORDINATES))
        with pytest.raises(ValueError, match="got 4 and 'claim'"):
            run.cluster.replan(SEQUENCES["claim"][0])
        with pytest.raises(ValueError, match="expected 41 coordinates"):
            run.cluster.replan(uncoded_schedule(WORKERS, COORDINATES + 1))
        with pytest.raises(TypeError, match="expected a Plan or a Schedule, got int"):
            run.cluster.replan(3)
        with run.cluster.stream(np.zeros(COORDINATES)), pytest.raises(cgc.ClusterBusy):
            run.cluster.replan(UNCODED)
        run.iterate()
        run.cluster.replan(UNCODED)
        run.iterate()
    with pytest.raises(cgc.ClusterClosed):
        run.cluster.replan(UNCODED)


def test_every_gap_in_the_samples_is_named():
    # Workers 0 and 1 hold [0, 6) and [6, 12); the middle of a cyclic level is what worker 0 lacks.
    with Run(fractional_repetition_schedule(WORKERS, COORDINATES, np.array([0, COORDINATES, 0, 0]))) as run:
        with pytest.raises(ValueError, match=r"worker 0 lacks samples \[12, 23\)") as caught:
            run.cluster.replan(EVERYTHING)
        assert "worker 3 lacks samples [0, 12)" in str(caught.value)
        run.iterate()


@pytest.mark.parametrize("feedback", SEQUENCES)
def test_whoever_is_late_from_the_old_plan_does_no_harm(feedback, tmp_path):
    first, second, *_ = SEQUENCES[feedback]
    problem = Scripted.random(SAMPLES, COORDINATES)
    problem.with_script({(i, 0): Fault("late", times=None) for i in range(1, 20, 3)}, tmp_path)
    with Run(first, problem) as run:
        for schedule in (second, first, second, first):
            run.cluster.gradient(np.zeros(COORDINATES), deadline_s=0.0)  # left at once
            run.cluster.replan(schedule)
            run.iterate(2)


@pytest.mark.parametrize("feedback", SEQUENCES)
def test_workers_that_are_gone_or_being_replaced(feedback):
    first, second, *_ = SEQUENCES[feedback]
    with Run(first) as run:
        run.iterate()
        os.kill(run.process_ids()[1], signal.SIGKILL)
        run.cluster.replan(second)  # maybe before its loss is known
        run.iterate(1)
        run.cluster.replan(first)  # while its successor starts
        run.iterate(1)
        run.settle()
        run.cluster.replan(second)
        run.iterate()
        run.settle()
        assert [w.deaths for w in run.cluster.health().workers] == [0, 1, 0, 0]


def test_a_worker_that_does_not_take_it_up_is_killed(monkeypatch):
    monkeypatch.setattr(supervisor, "KILL_S", 0.2)
    monkeypatch.setattr(supervisor, "KILL_FACTOR", 0.0)
    with Run(EVERYTHING) as run:
        run.iterate()
        os.kill(run.process_ids()[2], signal.SIGSTOP)
        run.cluster.replan(CYCLIC)
        monkeypatch.undo()
        run.iterate()
        run.settle()
        assert run.cluster.health().workers[2].deaths == 1
        run.iterate()


def test_one_that_is_stopped_for_a_moment_is_waited_for():
    with Run(EVERYTHING) as run:
        run.iterate()
        pids = run.process_ids()
        os.kill(pids[2], signal.SIGSTOP)
        waker = threading.Timer(0.3, os.kill, (pids[2], signal.SIGCONT))
        waker.start()
        run.cluster.replan(CYCLIC)
        waker.join()
        run.iterate()
        assert run.process_ids() == pids
        assert not any(w.deaths for w in run.cluster.health().workers)


def test_old_memory_is_given_back():
    def held():
        pids = [os.getpid(), *run.process_ids()]
        return [
            (len(os.listdir(f"/proc/{p}/fd")), Path(f"/proc/{p}/maps").read_text().count("memfd:cgc_fast"))
            for p in pids
        ]

    first, second, *_ = SEQUENCES["claim"]
    with Run(first) as run:
        run.iterate()
        before = held()
        for schedule in [second, first] * 3:
            run.cluster.replan(schedule)
            run.iterate(1)
        assert held() == before


def test_the_event_log_has_the_schedule_of_every_iteration(tmp_path):
    path = tmp_path / "events.jsonl"
    with Run(EVERYTHING, engine="serial", events=path) as run:
        run.iterate(2)
        run.cluster.replan(CYCLIC)
        run.iterate(1)
        last = run.cluster.last_report
    first, reports = cgc.read_events(path)
    reports = list(reports)
    assert len(first.cells) == 1
    assert [len(report.schedule.cells) for report in reports] == [1, 1, len(CYCLIC.cells)]
    assert reports[-1] == last
