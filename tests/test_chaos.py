"""Scripted faults in worker processes, by worker, iteration and cell: every gradient is exact all the same.

Of each scheme one cluster goes through a list of faults. Before each, all workers are there; after each, a
few iterations without faults follow. Iteration numbers are set, so that a fault strikes in the iteration that
its script names, however long the replacement of the last victim took.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import cgc_fast as cgc
from cgc_fast import supervisor
from cgc_fast.codes import RepetitionCode
from cgc_fast.engines import processes
from cgc_fast.schedule import Cell, Schedule, Walk
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.schemes.fractional_repetition import fractional_repetition_schedule
from cgc_fast.schemes.pairs import pairs_schedule
from cgc_fast.schemes.shared_samples import shared_samples_schedule
from cgc_fast.schemes.single_level import single_level_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule
from own_problems import Fault, LoadsOnly, Scripted

WORKERS, SAMPLES, COORDINATES = 4, 23, 40


def claimed_tiles():
    """All workers claim quarters of the samples: of the first half of the coordinates, then of the second.

    Whoever is struck in the second half has committed something before, as a rule.
    """
    code = RepetitionCode(WORKERS)
    cells = [Cell(20 * h, 20 * h + 20, k / 4, (k + 1) / 4, code) for h in range(2) for k in range(4)]
    walks = [Walk([4 * h + (k + w) % 4 for h in range(2) for k in range(4)], [w] * 8) for w in range(4)]
    return Schedule(WORKERS, COORDINATES, cells, walks, "claim")


SCHEDULES = {
    "uncoded": uncoded_schedule(WORKERS, COORDINATES),
    "single level": single_level_schedule(WORKERS, COORDINATES, 1),
    "cyclic": cyclic_schedule(WORKERS, COORDINATES, np.array([10, 12, 18, 0])),
    "repetition": fractional_repetition_schedule(WORKERS, COORDINATES, np.array([10, 16, 0, 14])),
    "announced pairs": pairs_schedule(WORKERS, COORDINATES, cells=4, feedback="announce"),
    "claimed samples": shared_samples_schedule(WORKERS, COORDINATES, [(0, 1), (2, 3)], pieces=6, ratio=2.0),
    "claimed tiles": claimed_tiles(),
}
GIVE_UP_S = 60.0  # a hang, whatever the machine is busy with
FAR = 1_000_000  # iterations that nobody comes to while waiting for a successor


@pytest.fixture
def impatient(monkeypatch):
    """Suspect and kill after fractions of a second."""
    monkeypatch.setattr(supervisor, "SUSPECT_S", 0.05)
    monkeypatch.setattr(supervisor, "KILL_S", 0.1)
    monkeypatch.setattr(supervisor, "KILL_FACTOR", 2.0)


class Run:
    """A cluster whose every gradient is compared with the plain one; collects what its reports say."""

    def __init__(self, schedule, problem):
        self.problem = problem
        self.promise = max(cell.code.promise for cell in schedule.cells)
        self.cluster = cgc.Cluster(schedule, problem)
        self.events = []
        self._generator = np.random.default_rng(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cluster.close()

    def check(self, gradient, theta, where=slice(None)):
        error = abs(gradient[where] - self.problem.gradient(theta)[where]).max()
        assert error <= self.promise * self.problem.scale(theta, WORKERS)

    def theta(self):
        return self._generator.normal(size=COORDINATES)

    def iterate(self, count=1):
        for _ in range(count):
            theta = self.theta()
            self.check(self.cluster.gradient(theta), theta)
            self.collect()

    def collect(self):
        assert self.cluster.last_report.complete
        self.events += self.cluster.last_report.events

    def happened(self, what):
        return [event.worker for event in self.events if event.what == what]

    def settle(self, condition=lambda: True):
        """Iterate until every worker is there."""
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            self.iterate()
            if condition() and all(w.state == "ready" for w in self.cluster.health().workers):
                return
            assert time.monotonic() < deadline, f"{self.cluster.health()}\n{self.events}"
            time.sleep(0.01)

    def jump(self, iteration):
        """Let the next iteration have this number."""
        self.events.clear()
        self.cluster._master.iteration = iteration - 1

    def deaths(self):
        return sum(w.deaths for w in self.cluster.health().workers)

    def process_ids(self):
        return [w.process_id for w in self.cluster.health().workers]


def struck(folder, iteration):
    return len(list(folder.glob(f"{iteration}-*")))


def wait_until_gone(pid):
    """Until a killed process is a zombie without other threads; it stays one until it is reaped."""
    deadline = time.monotonic() + GIVE_UP_S
    while (
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        or len(os.listdir(f"/proc/{pid}/task")) > 1
    ):
        assert time.monotonic() < deadline
        time.sleep(0.005)


DEADLY = {"kill": -signal.SIGKILL, "raise": 1, "memory": 1, "exit": 1, "vanish": 0}


@pytest.mark.parametrize("scheme", SCHEDULES)
def test_deaths_in_a_derivative(scheme, tmp_path):
    script = {(FAR * i, 0): Fault(what, first=True) for i, what in enumerate(DEADLY, 1)}
    with Run(SCHEDULES[scheme], Scripted.random(SAMPLES, COORDINATES).with_script(script, tmp_path)) as run:
        for i, (what, exit_code) in enumerate(DEADLY.items(), 1):
            run.settle()
            run.jump(FAR * i)
            run.iterate()
            run.settle(lambda i=i: run.deaths() == i)
            assert struck(tmp_path, FAR * i) == 1
            (lost,) = run.happened("lost")
            assert run.happened("ready") == [lost]
            details = [event.detail for event in run.events if event.what == "lost"]
            assert details == [f"exit code {exit_code}"]
            words = run.cluster._master._losses[lost].traceback
            expected = {"raise": "scripted failure", "memory": "MemoryError", "exit": "SystemExit: 3"}
            assert expected.get(what, "") in words
            assert bool(words) == (what in expected)
            run.iterate(3)


@pytest.mark.parametrize("scheme", SCHEDULES)
def test_wrong_late_and_no_answers(scheme, tmp_path):
    # The last cell of each schedule; the first workers to come there are struck.
    last = max(cell.start for cell in SCHEDULES[scheme].cells)
    faults = [
        Fault("nan", first=True),
        Fault("infinity", first=True),
        Fault("nan", times=2, first=True),
        Fault("late", first=True),
        Fault("late", times=None),
    ]
    script = {(FAR * i, last): fault for i, fault in enumerate(faults, 1)}
    with Run(SCHEDULES[scheme], Scripted.random(SAMPLES, COORDINATES).with_script(script, tmp_path)) as run:
        run.settle()
        for i, fault in enumerate(faults, 1):
            run.jump(FAR * i)
            run.iterate()
            assert struck(tmp_path, FAR * i) == (fault.times or 0)
            if scheme == "uncoded" and fault.what != "late":  # nothing goes without the rows that were NaN
                assert len(run.happened("non-finite")) == fault.times
                assert len(run.happened("rescue")) == fault.times
            run.iterate(3)
        assert run.deaths() == 0


@pytest.mark.parametrize("scheme", ["uncoded", "repetition", "claimed tiles"])
@pytest.mark.parametrize("where", ["begin", "forward", "value"])
def test_deaths_in_other_methods(scheme, where, tmp_path):
    script = {(FAR, where): Fault("kill"), (2 * FAR, where): Fault("raise")}
    problem = Scripted.random(SAMPLES, COORDINATES).with_script(script, tmp_path)
    with Run(SCHEDULES[scheme], problem) as run:
        run.settle()
        for i in (1, 2):
            run.jump(FAR * i)
            theta = run.theta()
            value, gradient = run.cluster.value_and_gradient(theta)
            run.check(gradient, theta)
            plain = 0.5 * float((problem.weights * (theta - problem.targets) ** 2).sum())
            # All terms are positive, so the error norm of a sum over parts is the sum itself.
            assert abs(value - plain) <= run.promise * plain * WORKERS
            run.collect()
            # Where others make up for it the iteration may be over before a death is noticed.
            run.settle(lambda: run.deaths() == struck(tmp_path, FAR) + struck(tmp_path, 2 * FAR))
            assert run.deaths() == i or scheme != "uncoded"
        assert run.deaths() == struck(tmp_path, FAR) + struck(tmp_path, 2 * FAR)


@pytest.mark.parametrize("scheme", ["single level", "repetition", "claimed samples"])
def test_stopped_and_continued(scheme, tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "SUSPECT_S", 0.05)
    script = {(FAR, 0): Fault("stop", first=True)}
    with Run(SCHEDULES[scheme], Scripted.random(SAMPLES, COORDINATES).with_script(script, tmp_path)) as run:
        run.settle()
        pids = run.process_ids()

        def go_on():
            deadline = time.monotonic() + GIVE_UP_S
            while time.monotonic() < deadline and not stopped():
                time.sleep(0.005)
            time.sleep(0.3)
            for pid in stopped():
                os.kill(pid, signal.SIGCONT)

        def stopped():
            states = {p: Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split()[0] for p in pids}
            return [pid for pid, state in states.items() if state == "T"]

        run.jump(FAR)
        helper = threading.Thread(target=go_on)
        helper.start()
        try:
            run.iterate(10)
        finally:
            helper.join()
        run.settle()
        assert struck(tmp_path, FAR) == 1
        assert run.process_ids() == pids
        assert run.deaths() == 0
        run.iterate(10)


@pytest.mark.parametrize("scheme", ["uncoded", "cyclic", "announced pairs", "claimed tiles"])
def test_hanging_for_ever_is_noticed_and_ended(scheme, tmp_path, impatient):
    script = {(FAR, 0): Fault("hang", first=True), (2 * FAR, 0): Fault("stop", first=True)}
    with Run(SCHEDULES[scheme], Scripted.random(SAMPLES, COORDINATES).with_script(script, tmp_path)) as run:
        for i in (1, 2):
            run.settle()
            run.jump(FAR * i)
            deaths = run.deaths()
            run.iterate()
            run.settle(lambda deaths=deaths: run.deaths() > deaths)
            assert struck(tmp_path, FAR * i) == 1
            assert run.happened("killed")
            assert set(run.happened("killed")) <= set(run.happened("lost"))
            run.iterate(3)


@pytest.mark.parametrize("scheme", ["uncoded", "repetition", "announced pairs", "claimed samples"])
def test_two_deaths_at_once_and_deaths_while_idle(scheme, tmp_path):
    script = {(FAR, 0): Fault("kill", times=2, first=True)}
    with Run(SCHEDULES[scheme], Scripted.random(SAMPLES, COORDINATES).with_script(script, tmp_path)) as run:
        run.settle()
        run.jump(FAR)
        run.iterate()
        run.settle(lambda: run.deaths() == 2)
        assert struck(tmp_path, FAR) == 2
        assert len(set(run.happened("lost"))) == 2
        for victims in ([0], [3, 1], [0, 1, 2, 3]):
            deaths = run.deaths()
            pids = run.process_ids()
            run.jump(run.cluster.last_report.iteration + 100)
            for victim in victims:
                os.kill(pids[victim], signal.SIGKILL)
            for victim in victims:
                wait_until_gone(pids[victim])
            run.iterate()
            assert sorted(run.happened("lost")) == sorted(victims)  # known at once
            run.settle(lambda deaths=deaths, victims=victims: run.deaths() == deaths + len(victims))


@pytest.mark.parametrize("what", ["kill", "raise", "stop", "nan"])
def test_what_a_struck_worker_had_committed_is_done_by_others(what, tmp_path, impatient):
    # Struck in the second half of the coordinates, when cells of the first are in its sum.
    script = {(FAR * i, 20): Fault(what, times=i, first=True) for i in (1, 2, 3)}
    schedule = SCHEDULES["claimed tiles"]
    with Run(schedule, Scripted.random(SAMPLES, COORDINATES).with_script(script, tmp_path)) as run:
        for i in (1, 2, 3):
            run.settle()
            run.jump(FAR * i)
            deaths = run.deaths()
            run.iterate()
            cells = [d.cell for d in run.cluster.last_report.deliveries if d.finite]
            assert sorted(cells) == list(range(len(schedule.cells)))
            run.settle(lambda deaths=deaths, i=i: what == "nan" or run.deaths() >= deaths + i)
            assert struck(tmp_path, FAR * i) == i
            run.iterate(3)


def test_rescuers_die_too(tmp_path):
    # Any one of four workers suffices: all of them die, and then two of the successors.
    schedule = fractional_repetition_schedule(4, COORDINATES, np.array([0, 0, 0, COORDINATES]))
    problem = Scripted.random(SAMPLES, COORDINATES)
    problem.with_script({(FAR, 0): Fault("kill", times=6, first=True)}, tmp_path)
    with Run(schedule, problem) as run:
        run.settle()
        run.jump(FAR)
        run.iterate()
        run.settle(lambda: run.deaths() == 6)
        assert struck(tmp_path, FAR) == 6
    # Uncoded: the successors of worker 2 die in its place, twice; the third one delivers.
    schedule = SCHEDULES["uncoded"]
    problem = Scripted.random(SAMPLES, COORDINATES)
    part = schedule.sample_ranges(2, SAMPLES)[0][0]
    problem.with_script({(3 * FAR, 0): Fault("raise", times=2, samples=(int(part),))}, tmp_path)
    with Run(schedule, problem) as run:
        run.settle()
        run.jump(3 * FAR)
        run.iterate()
        assert run.happened("lost") == run.happened("ready") == [2, 2]
        assert struck(tmp_path, 3 * FAR) == 2
        run.iterate(3)


@pytest.mark.parametrize("scheme", ["uncoded", "single level"])
def test_a_successor_that_dies_once_at_its_start(scheme, tmp_path):
    problem = LoadsOnly.random(SAMPLES, COORDINATES)
    problem.with_script({(FAR, 0): Fault("kill", first=True)}, tmp_path).with_loads(WORKERS, failures=1)
    with Run(SCHEDULES[scheme], problem) as run:
        run.settle()
        run.jump(FAR)
        run.iterate()
        run.settle(lambda: run.deaths() == 2)
        first, second = run.happened("lost")
        assert first == second
        assert "the data are gone" in run.cluster._master._losses[first].traceback


@pytest.mark.parametrize("scheme", ["uncoded", "single level"])
def test_a_successor_that_can_never_start(scheme, tmp_path):
    problem = LoadsOnly.random(SAMPLES, COORDINATES)
    problem.with_script({(FAR, 0): Fault("kill", first=True)}, tmp_path).with_loads(WORKERS, failures=10**6)
    with Run(SCHEDULES[scheme], problem) as run:
        run.settle()
        run.jump(FAR)
        if scheme == "uncoded":
            for _ in range(2):  # it gets another chance in each iteration that cannot do without it
                with pytest.raises(cgc.WorkerDied, match="was started again in vain") as caught:
                    run.cluster.gradient(run.theta())
                assert "the data are gone" in caught.value.worker_traceback
                assert caught.value.exit_code == 1
        else:  # the redundancy covers it: given up, and done without
            deadline = time.monotonic() + GIVE_UP_S
            while "given up" not in [w.state for w in run.cluster.health().workers]:
                run.iterate()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            deaths = run.deaths()
            run.iterate(10)
            assert run.deaths() == deaths == supervisor.MOST_DEATHS


def test_a_successor_that_cannot_even_be_launched(tmp_path, monkeypatch):
    import subprocess

    problem = Scripted.random(SAMPLES, COORDINATES)
    problem.with_script({(FAR, 0): Fault("kill", first=True)}, tmp_path)
    with Run(SCHEDULES["uncoded"], problem) as run:
        run.settle()
        run.jump(FAR)

        def refuse(*_, **__):
            raise OSError("scripted: too many processes")

        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "Popen", refuse)
            with pytest.raises(cgc.WorkerDied, match="too many processes"):
                run.cluster.gradient(run.theta())
        run.settle()


def test_a_successor_that_hangs_at_its_start_is_killed(tmp_path, monkeypatch):
    problem = LoadsOnly.random(SAMPLES, COORDINATES)
    problem.with_script({(FAR, 0): Fault("kill", first=True)}, tmp_path)
    problem.with_loads(WORKERS, failures=1, hang=True)
    with Run(SCHEDULES["uncoded"], problem) as run:
        run.settle()
        master = run.cluster._master
        kill = master.engine.kill

        def kill_once(worker):
            monkeypatch.undo()
            kill(worker)

        monkeypatch.setattr(master._supervisor, "_start_within_s", 2.0)  # until one was killed
        monkeypatch.setattr(master.engine, "kill", kill_once)
        run.jump(FAR)
        run.iterate()
        victim = run.happened("killed")[0]
        assert run.happened("lost")[:2] == [victim, victim]
        run.settle()


def test_a_successor_that_is_ready_before_its_launch_has_returned(tmp_path, monkeypatch):
    problem = Scripted.random(SAMPLES, COORDINATES)
    problem.with_script({(FAR, 0): Fault("kill", first=True)}, tmp_path)
    with Run(SCHEDULES["uncoded"], problem) as run:
        run.settle()
        engine = run.cluster._master.engine
        launch = processes.launch

        def late(configuration):
            handle = launch(configuration)
            deadline = time.monotonic() + GIVE_UP_S
            while configuration.worker not in engine._ready_early and time.monotonic() < deadline:
                time.sleep(0.005)
            return handle

        monkeypatch.setattr(processes, "launch", late)
        run.jump(FAR)
        run.iterate()
        assert run.happened("lost") == run.happened("ready") == run.happened("rescue")
        assert not run.happened("suspected")


@pytest.mark.parametrize("missed", ["Lost", "Ready"])
def test_ctrl_c_between_an_event_and_taking_note_of_it(missed, tmp_path, monkeypatch):
    problem = Scripted.random(SAMPLES, COORDINATES)
    problem.with_script({(FAR, 0): Fault("kill", first=True)}, tmp_path)
    with Run(SCHEDULES["uncoded"], problem) as run:
        run.settle()
        run.jump(FAR)
        master = run.cluster._master
        take = type(master)._take

        def interrupted(self, event):
            if type(event).__name__ == missed:
                monkeypatch.undo()
                raise KeyboardInterrupt
            return take(self, event)

        monkeypatch.setattr(type(master), "_take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.cluster.gradient(run.theta())
        run.iterate(3)
        run.settle()


def test_one_hiccup_does_not_make_patient_for_ever(tmp_path):
    problem = Scripted.random(SAMPLES, COORDINATES)
    problem.with_script({(FAR, 0): Fault("late", first=True)}, tmp_path)
    with Run(SCHEDULES["uncoded"], problem) as run:
        run.settle()
        run.jump(FAR)
        run.iterate(2)
        master = run.cluster._master

        def longest_silence_s():
            """In the history that the next iteration begins with, of whichever iterations it is."""
            ordinary = max(longest_ns for _, longest_ns, _ in master.engine.running_collector().signs())
            others = max(record.longest_silence_s for record in master._supervisor.records)
            return max(1e-9 * ordinary, others * supervisor.FORGET**master._skipped)

        assert longest_silence_s() >= 0.04
        deadline = time.monotonic() + GIVE_UP_S
        while longest_silence_s() >= 0.04:
            run.iterate()
            assert time.monotonic() < deadline


def test_what_was_delivered_is_not_computed_again(tmp_path):
    # The master may be reading it. Every computation of a first cell leaves a file.
    problem = Scripted.random(SAMPLES, COORDINATES)
    problem.with_script({(FAR, 0): Fault("late", times=100)}, tmp_path)
    with Run(SCHEDULES["uncoded"], problem) as run:
        run.settle()
        run.jump(FAR)
        engine = run.cluster._master.engine
        with run.cluster.stream(run.theta()) as stream:
            for worker in range(WORKERS):
                engine.order(worker, engine._job.walks[worker])
            for _ in stream:
                pass
        run.iterate(3)
        assert struck(tmp_path, FAR) == WORKERS


def test_a_deadline_gives_what_is_there_while_a_worker_hangs(tmp_path):
    problem = Scripted.random(SAMPLES, COORDINATES)
    problem.with_script({(FAR, 10): Fault("hang", first=True, times=2)}, tmp_path)
    with Run(SCHEDULES["cyclic"], problem) as run:
        run.settle()
        run.jump(FAR)
        theta = run.theta()
        partial = run.cluster.gradient(theta, deadline_s=1.0)
        run.check(partial.values, theta, partial.decoded)
        assert np.isnan(partial.values[~partial.decoded]).all()
        assert partial.failure is None
        for pid in run.process_ids():  # nothing is owed to those that hang
            os.kill(pid, signal.SIGKILL)
        run.settle(lambda: run.deaths() == WORKERS)
