"""Worker processes that fail, by script; and that nothing is left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import cgc_fast as cgc
from cgc_fast import supervisor
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.schemes.fractional_repetition import fractional_repetition_schedule
from cgc_fast.schemes.single_level import single_level_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule
from own_problems import FailsToLoad, Fault, Quadratic, Scripted, SlowSlices

SAMPLES, COORDINATES = 23, 40
TESTS = Path(__file__).parent
THETA = np.linspace(-1, 1, COORDINATES)


def assert_exact(gradient, problem, tolerance=1e-9):
    assert abs(gradient - problem.gradient(THETA)).max() <= tolerance * problem.scale(THETA, 5)


def process_ids(cluster):
    return [worker.process_id for worker in cluster.health().workers]


@pytest.mark.parametrize(
    ("workers", "what"), [(5, "raise"), (5, "kill"), (5, "nan"), (6, "raise"), (6, "kill")]
)
def test_workers_that_fail_are_made_up_for(workers, what, tmp_path):
    # Any three may be missing: five workers with a row each, six of whom two and two share one. Four hold
    # sample 0. All four fail in iteration 2, once; any two rows are needed. (No NaN where rows are shared:
    # one that two workers sent with NaN is given up.)
    plain = Quadratic.random(SAMPLES, COORDINATES)
    sizes = np.where(np.arange(workers) == 3, COORDINATES, 0)
    schedule = cyclic_schedule(workers, COORDINATES, sizes, grouped=True)
    assert [cell.code.rows for cell in schedule.cells] == [5 if workers == 5 else 3]
    holders = [w for w in range(workers) if schedule.sample_ranges(w, SAMPLES)[0][0] == 0]
    assert len(holders) == 4
    script = {(2, 0): Fault(what, times=4, samples=(0,), first=True)}
    problem = Scripted(plain.weights, plain.targets).with_script(script, tmp_path)
    with cgc.Cluster(schedule, problem) as cluster:
        for _ in range(3):
            assert_exact(cluster.gradient(THETA), problem)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("what", ["raise", "kill"])
def test_a_dead_worker_is_replaced_and_a_poison_pill_ends_in_an_error(what, tmp_path):
    schedule = uncoded_schedule(4, COORDINATES)
    problem = Scripted.random(SAMPLES, COORDINATES)
    problem.with_script({(2, 0): Fault(what, samples=(0,)), (3, 0): Fault(what, None, (0,))}, tmp_path)
    with cgc.Cluster(schedule, problem) as cluster:
        before = process_ids(cluster)
        assert_exact(cluster.gradient(THETA), problem)
        assert_exact(cluster.gradient(THETA), problem)
        assert cluster.last_report.lost == [0]
        after = process_ids(cluster)
        assert after[1:] == before[1:]
        assert after[0] not in (None, before[0])
        with pytest.raises(cgc.WorkerDied, match="worker 0 is gone") as caught:
            cluster.gradient(THETA)  # kills every successor
        assert caught.value.worker == 0
        assert caught.value.exit_code == (1 if what == "raise" else -signal.SIGKILL)
        assert ("scripted failure" in str(caught.value)) == (what == "raise")
        assert ("own_problems.py" in caught.value.worker_traceback) == (what == "raise")
        assert cluster.health().workers[0].state == "given up"
        assert_exact(cluster.gradient(THETA), problem)  # in the next iteration it gets one more chance


def test_killed_from_outside_between_and_within_iterations():
    problem = Quadratic.random(SAMPLES, COORDINATES)
    schedule = fractional_repetition_schedule(4, COORDINATES, np.array([0, COORDINATES, 0, 0]))
    draws = np.full((40, 4), 1e-6)
    draws[1, 1] = 1e3  # in iteration 2 worker 1 sleeps for a long time
    with cgc.Cluster(schedule, problem, cycle_times=draws) as cluster:
        first = process_ids(cluster)
        assert_exact(cluster.gradient(THETA), problem)
        os.kill(first[0], signal.SIGSTOP)  # silent, not dead: worker 1 is needed now, and it dies asleep
        stream = cluster.stream(THETA)
        os.kill(first[1], signal.SIGKILL)
        time.sleep(0.05)
        os.kill(first[0], signal.SIGCONT)
        for _ in stream:
            pass
        assert cluster.last_report.lost in ([], [1])
        assert_exact(cluster.gradient(THETA), problem)
        # One group is killed to the last: only a successor can make that good.
        for worker in (2, 3):
            os.kill(first[worker], signal.SIGKILL)
            wait_for_death(first[worker])
        assert_exact(cluster.gradient(THETA), problem)
        assert {e.worker for e in cluster.last_report.events if e.what == "lost"} == {2, 3}
        for _ in range(5):
            assert_exact(cluster.gradient(THETA), problem)
        assert {w.deaths for w in cluster.health().workers} == {0, 1}


@pytest.mark.parametrize("times", [1, None])
@pytest.mark.parametrize("scheme", ["uncoded", "single level", "repetition"])
def test_nan_is_asked_for_once_more_elsewhere_if_it_can_be(scheme, times, tmp_path):
    schedule = {
        "uncoded": uncoded_schedule(3, COORDINATES),
        "single level": single_level_schedule(3, COORDINATES, 1),
        "repetition": fractional_repetition_schedule(3, COORDINATES, np.array([0, 0, COORDINATES])),
    }[scheme]
    problem = Scripted.random(SAMPLES, COORDINATES)
    problem.with_script({(2, 0): Fault("nan", times, (0,), first=times is not None)}, tmp_path)
    with cgc.Cluster(schedule, problem) as cluster:
        assert_exact(cluster.gradient(THETA), problem)
        if times is None:  # whoever touches sample 0 sends NaN
            with pytest.raises(cgc.NonFiniteGradient, match=r"worker\(s\) 0.* sent NaN or infinity"):
                cluster.gradient(THETA)
        else:
            assert_exact(cluster.gradient(THETA), problem)
            assert len(list(tmp_path.iterdir())) == 1
        for _ in range(20):
            assert_exact(cluster.gradient(THETA), problem)
        if times is None or scheme == "uncoded":  # otherwise the rest may have sufficed before the NaN came
            assert sum(w.non_finite for w in cluster.health().workers) >= 1
        assert all(w.deaths == 0 for w in cluster.health().workers)


def test_a_worker_that_cannot_start_is_reported_with_its_traceback():
    plain = Quadratic.random(SAMPLES, COORDINATES)

    problem = FailsToLoad(plain.weights, plain.targets)
    with pytest.raises(cgc.WorkerDied, match="before it was ready") as caught:
        cgc.Cluster(uncoded_schedule(3, COORDINATES), problem)
    assert "scripted: no data here" in caught.value.worker_traceback
    assert caught.value.exit_code == 1


def test_late_workers_abandon_and_serve_the_next_iteration():
    problem = Quadratic.random(SAMPLES, COORDINATES)
    schedule = single_level_schedule(3, COORDINATES, 1)
    draws = np.full((7, 3), 1e-7)
    for i in range(6):
        draws[i, i % 3] = 10.0  # would sleep for an hour
    draws[6] = 1e-7
    with cgc.Cluster(schedule, problem, cycle_times=draws) as cluster:
        for i in range(6):
            assert_exact(cluster.gradient(THETA), problem)
            assert {d.worker for d in cluster.last_report.deliveries} == {0, 1, 2} - {i % 3}
        assert_exact(cluster.gradient(THETA), problem)


def wait_for_death(pid):
    """Wait until the kernel has ended a process that was killed; it stays a zombie until it is reaped."""
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_late_worker_abandons_in_mid_cell_and_serves_the_next_iteration(tmp_path):
    coordinates = 50_000
    plain = Quadratic.random(6, coordinates)
    log = tmp_path / "log"
    problem = SlowSlices(plain.weights, plain.targets).with_log(str(log))
    schedule = fractional_repetition_schedule(2, coordinates, np.array([0, coordinates]))  # any one decodes
    theta = np.zeros(coordinates)

    def slices():
        return [tuple(map(int, line.split())) for line in log.read_text().splitlines()]

    with cgc.Cluster(schedule, problem) as cluster:
        cluster.gradient(theta)
        for _ in range(1000):  # until the slow one is back and takes part
            np.testing.assert_array_equal(cluster.gradient(theta), problem.gradient(theta))
            if slices()[-1][0] > 1:
                break
    assert slices()[-1][0] > 1
    first = [stop for iteration, _, stop in slices() if iteration == 1]
    assert max(first) < coordinates


def run_script(tmp_path, body, **kwargs):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(body))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **kwargs,
    )


def assert_gone(pids):
    deadline = time.monotonic() + 10
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        stat = {pid: Path(f"/proc/{pid}/stat") for pid in left}
        zombies = []
        for pid, path in stat.items():
            try:
                zombies += [pid] if path.read_text().rpartition(")")[2].split()[0] == "Z" else []
            except OSError:
                continue
        if set(left) == set(zombies):  # their adoptive parent has not reaped them yet
            return
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.02)


SERVE = """
    import json, sys
    import numpy as np
    import cgc_fast as cgc
    from cgc_fast.schemes.uncoded import uncoded_schedule
    from own_problems import Quadratic
    draws = np.full((10, 3), 1e-7)
    draws[2:] = 1e6
    cluster = cgc.Cluster(uncoded_schedule(3, 40), Quadratic.random(23, 40), cycle_times=draws)
    print(json.dumps([w.process_id for w in cluster.health().workers]), flush=True)
    cluster.gradient(np.zeros(40))
"""


def test_no_main_guard_is_needed_and_an_exit_without_close_leaves_nothing(tmp_path):
    process = run_script(tmp_path, SERVE)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err == ""
    assert_gone(json.loads(out))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_leave_when_the_master_is_killed(tmp_path, number):
    process = run_script(
        tmp_path, SERVE + "    cluster.gradient(np.zeros(40)); cluster.gradient(np.zeros(40))"
    )
    pids = json.loads(process.stdout.readline())
    assert len(pids) == 3
    time.sleep(0.3)  # well into the third iteration, which would last for ever
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == -number
    assert_gone(pids)


def test_ctrl_c_ends_the_wait_and_the_cluster_goes_on(tmp_path):
    body = SERVE + (
        "    cluster.gradient(np.zeros(40))\n"
        "    print('waiting', flush=True)\n"
        "    try:\n"
        "        cluster.gradient(np.zeros(40))\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted', flush=True)\n"
        "    cluster._cycle_times[:] = 1e-7\n"
        "    error = cluster.gradient(np.zeros(40)) - cluster.problem.gradient(np.zeros(40))\n"
        "    print(bool(abs(error).max() < 1e-9))\n"
    )
    process = run_script(tmp_path, body, start_new_session=True)
    pids = json.loads(process.stdout.readline())
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "interrupted\nTrue\n", "")
    assert_gone(pids)


def test_problems_of_main_are_refused_with_advice(tmp_path):
    body = """
        import cgc_fast as cgc
        from cgc_fast.schemes.uncoded import uncoded_schedule
        from own_problems import Quadratic
        class Mine(Quadratic):
            pass
        plain = Quadratic.random(23, 40)
        try:
            cgc.Cluster(uncoded_schedule(3, 40), Mine(plain.weights, plain.targets))
        except cgc.ArgumentValueError as error:
            print(error)
        mine = Mine(plain.weights, plain.targets)
        with cgc.Cluster(uncoded_schedule(3, 40), mine, engine="serial") as cluster:
            print(cluster.gradient([0.0] * 40).shape)
        try:
            cgc.Cluster(uncoded_schedule(3, 40), plain, factory=lambda ranges: plain)
        except cgc.ArgumentValueError as error:
            print(error)
    """
    process = run_script(tmp_path, body)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    first, second, third = out.splitlines()
    assert "Mine" in first
    assert "__main__" in first
    assert "Move it into a module" in first
    assert second == "(40,)"
    assert "factory" in third


def test_local_classes_are_refused_with_advice():
    plain = Quadratic.random(SAMPLES, COORDINATES)

    class Local(Quadratic):
        pass

    with pytest.raises(cgc.ArgumentValueError, match="top level of an importable module"):
        cgc.Cluster(uncoded_schedule(3, COORDINATES), Local(plain.weights, plain.targets))


def test_two_clusters_at_once():
    problem = Quadratic.random(SAMPLES, COORDINATES)
    schedule = single_level_schedule(3, COORDINATES, 1)
    with cgc.Cluster(schedule, problem) as one, cgc.Cluster(schedule, problem) as two:
        for first, second in zip(one.stream(THETA), two.stream(THETA), strict=True):
            np.testing.assert_allclose(first.values, second.values, rtol=1e-9)


def test_worker_processes_import_neither_scipy_nor_matplotlib():
    code = (
        "import sys, cgc_fast.engines.worker_process, cgc_fast.problems;"
        "print([name for name in ('scipy', 'matplotlib', 'sklearn', 'typer', 'rich') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"


def test_one_blas_thread_in_each_worker(monkeypatch):
    seen = []
    real = subprocess.Popen

    def popen(*args, **kwargs):
        seen.append(kwargs["env"])
        return real(*args, **kwargs)

    monkeypatch.setattr(subprocess, "Popen", popen)
    with cgc.Cluster(uncoded_schedule(2, COORDINATES), Quadratic.random(SAMPLES, COORDINATES)):
        pass
    assert len(seen) == 2
    assert all(env["OPENBLAS_NUM_THREADS"] == env["OMP_NUM_THREADS"] == "1" for env in seen)


# --- ordinary iterations ----------------------------------------------------------------------------------


def least_squares():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(SAMPLES, COORDINATES))
    return cgc.problems.LeastSquares(features, generator.normal(size=SAMPLES))


def is_exact(gradient, problem):
    expected = problem.gradient(THETA)
    return abs(gradient - expected).max() <= 1e-9 * abs(expected).max()


def until(cluster, problem, happened):
    """Iterate, exactly, until it has happened, a hang aside."""
    deadline = time.monotonic() + 60
    while not happened():
        assert is_exact(cluster.gradient(THETA), problem)
        assert time.monotonic() < deadline


def test_ordinary_iterations_stay_in_the_core_on_both_sides():
    problem = least_squares()
    with cgc.Cluster(cyclic_schedule(4, COORDINATES, np.array([10, 10, 0, 20])), problem) as cluster:
        engine = cluster._master.engine
        assert is_exact(cluster.gradient(THETA), problem)
        value, gradient = cluster.value_and_gradient(THETA)
        assert is_exact(gradient, problem)
        assert value == pytest.approx(problem.loss(THETA), rel=1e-12)
        blocks = list(cluster.stream(THETA))
        assert sum(block.values.size for block in blocks) == COORDINATES
        report = cluster.last_report
        assert report.compiled
        assert set(report.blocks_s) == {0, 1, 2}
        assert [block.elapsed_s for block in blocks] == sorted(report.blocks_s.values())
        assert set(report.decoded_s) == {c for c, cell in enumerate(cluster.schedule.cells) if cell.width}
        assert len(report.deliveries) >= 4
        partial = cluster.gradient(THETA, deadline_s=60.0)
        assert partial.complete
        assert is_exact(partial.values, problem)
        # Late workers may skip an iteration that was over before they looked.
        assert all(engine._signal.walks(worker) >= 1 for worker in range(4))
        assert sum(engine._signal.walks(worker) for worker in range(4)) >= 4 * 3


def test_the_core_is_left_when_a_worker_dies_and_taken_up_again_with_its_successor():
    problem = least_squares()
    with cgc.Cluster(uncoded_schedule(3, COORDINATES), problem) as cluster:
        engine = cluster._master.engine
        assert is_exact(cluster.gradient(THETA), problem)
        assert cluster.last_report.compiled
        os.kill(process_ids(cluster)[1], signal.SIGKILL)
        assert is_exact(cluster.gradient(THETA), problem)
        assert not cluster.last_report.compiled
        assert [event.what for event in cluster.last_report.events][:2] == ["lost", "ready"]
        until(cluster, problem, lambda: cluster.last_report.compiled)
        walks = engine._signal.walks(1)
        until(cluster, problem, lambda: engine._signal.walks(1) > walks)


def test_a_worker_that_is_stopped_though_nobody_needs_it_is_suspected_all_the_same(monkeypatch):
    monkeypatch.setattr(supervisor, "SUSPECT_S", 0.2)
    problem = least_squares()
    # Any two of three: the stopped one is never waited for.
    with cgc.Cluster(single_level_schedule(3, COORDINATES, 1), problem) as cluster:
        for _ in range(20):  # gives it a history
            assert is_exact(cluster.gradient(THETA), problem)
        victim = process_ids(cluster)[2]
        os.kill(victim, signal.SIGSTOP)
        until(cluster, problem, lambda: cluster.health().workers[2].state == "suspected")
        os.kill(victim, signal.SIGCONT)
        until(cluster, problem, lambda: cluster.health().workers[2].state == "ready")
        until(cluster, problem, lambda: cluster.last_report.compiled)


def test_a_problem_of_ones_own_walks_in_the_interpreter_but_is_collected_in_the_core():
    problem = Quadratic.random(SAMPLES, COORDINATES)
    with cgc.Cluster(uncoded_schedule(3, COORDINATES), problem) as cluster:
        assert_exact(cluster.gradient(THETA), problem)
        assert cluster.last_report.compiled
        assert [cluster._master.engine._signal.walks(worker) for worker in range(3)] == [0, 0, 0]


def test_the_core_goes_on_after_an_iteration_that_was_left():
    problem = least_squares()
    with cgc.Cluster(uncoded_schedule(3, COORDINATES), problem) as cluster:
        stream = cluster.stream(THETA)
        next(stream)
        stream.close()
        assert cluster.gradient(THETA, deadline_s=0.0).decoded.sum() == 0
        assert not cluster.last_report.complete
        assert is_exact(cluster.gradient(THETA), problem)
        assert cluster.last_report.compiled


def test_measured_times_stay_what_they_were_when_the_state_machines_take_over(tmp_path):
    problem = Scripted.random(SAMPLES, COORDINATES).with_script({}, tmp_path)
    with cgc.Cluster(uncoded_schedule(3, COORDINATES), problem) as cluster:
        cluster.gradient(THETA)
        first = cluster.trace().times[0]
        cluster._master._all_well = False
        cluster.gradient(THETA)
        assert not cluster.last_report.compiled
        assert cluster.trace().times[0].tolist() == first.tolist()
