"""What only MPI has: ranks that cannot be started again, and a job that ends as a whole.

Run as a script under mpiexec this file is the job: ``python test_mpi.py SCENARIO FOLDER``.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cgc_fast as cgc
import jobs
from cgc_fast.schemes.shared_samples import shared_samples_schedule
from cgc_fast.schemes.single_level import single_level_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule
from own_problems import Fault, Quadratic, Scripted, iterate

WORKERS, SAMPLES, COORDINATES = 3, 23, 40
SCRIPT = Path(__file__)


# --- the scenarios, on rank 0 ------------------------------------------------------------------------------


def cluster_of(folder, schedule=None, script=None, **others):
    plain = Quadratic.random(SAMPLES, COORDINATES)
    problem = Scripted(plain.weights, plain.targets).with_script(script or {}, folder)
    schedule = schedule or single_level_schedule(WORKERS, COORDINATES, 1)
    cluster = cgc.Cluster(schedule, problem, engine="mpi", **others)
    process_ids = [os.getpid(), *(worker.process_id for worker in cluster.health().workers)]
    (Path(folder) / "process_ids.json").write_text(json.dumps(process_ids))
    return cluster


def survive_a_death(folder, schedule=None, samples=(0,)):
    script = {(4, 0): Fault("kill", samples=samples, first=True)}
    cluster = cluster_of(folder, schedule, script)
    with cluster:
        deadline = time.monotonic() + 30
        while "given up" not in {worker.state for worker in cluster.health().workers}:
            iterate(cluster, 10)
            assert time.monotonic() < deadline
            time.sleep(0.01)
        iterate(cluster, 10)
        print("states", sorted(worker.state for worker in cluster.health().workers))


def survive_a_death_under_claim(folder):
    # Whoever claims a cell in the fourth iteration is killed with it, and with what it has committed.
    survive_a_death(folder, shared_samples_schedule(WORKERS, COORDINATES, [range(WORKERS)], pieces=12), ())


def stay_stopped(folder):
    cluster = cluster_of(folder, script={(4, 0): Fault("stop", samples=(0,), first=True)})
    with cluster:
        iterate(cluster, 30)
    print("all exact")


def leave_late(folder):
    for iteration, share_memory in ((4, True), (5, False)):
        options = {"share_memory": share_memory}
        script = {(iteration, 0): Fault("stop", samples=(0,), first=True)}
        cluster = cluster_of(folder, script=script, engine_options=options)
        with cluster:
            workers = [worker.process_id for worker in cluster.health().workers]
            iterate(cluster, 10)
        # What one of them still has to say of that iteration belongs to no cluster any more.
        for process_id in workers:
            os.kill(process_id, signal.SIGCONT)
        cluster = cluster_of(folder, engine_options=options)
        with cluster:
            iterate(cluster, 10)
            assert {worker.state for worker in cluster.health().workers} == {"ready"}


def fail(folder):
    cluster = cluster_of(folder)
    with cluster:
        raise RuntimeError("scripted failure of the master")


def fail_with_a_rank_stopped(folder):
    stay_stopped(folder)
    raise RuntimeError("scripted failure of the master")


def fail_after_a_death(folder):
    survive_a_death(folder)
    raise RuntimeError("scripted failure of the master")


def fail_before_any_cluster(folder):
    raise RuntimeError("scripted failure of the master")


def go_on_for_ever(folder):
    cluster = cluster_of(folder)
    print("going", flush=True)
    with cluster:
        while True:
            iterate(cluster, 1)


def mapped():
    gc.collect()
    return Path("/proc/self/maps").read_text().count("memfd:cgc_fast")


def share(cluster):
    """Iterate, by other plans as well; who shares memory with rank 0."""
    iterate(cluster, 5)
    cluster.replan(uncoded_schedule(WORKERS, COORDINATES))
    iterate(cluster, 5)
    cluster.replan(single_level_schedule(WORKERS, COORDINATES, 1))
    iterate(cluster, 5)
    return [rank.shares for rank in cluster._master.engine._ranks]


def share_memory(folder):
    before = mapped(), len(os.listdir("/proc/self/fd"))
    for options in ({}, {"share_memory": True}, {"share_memory": False}):
        cluster = cluster_of(folder, engine_options=options)
        with cluster:
            print("shared", *share(cluster))
        del cluster
        assert (mapped(), len(os.listdir("/proc/self/fd"))) == before


def share_memory_with_some(folder):
    script = {
        (4, 0): Fault("raise", samples=(0,), first=True),
        (9, 0): Fault("nan", samples=(22,), first=True),
    }
    cluster = cluster_of(folder, script=script)
    with cluster:
        print("shared", *share(cluster))


def refusals(folder):
    problem = Quadratic.random(SAMPLES, COORDINATES)
    with pytest.raises(cgc.ArgumentValueError, match="mpiexec -n 6"):
        cgc.Cluster(uncoded_schedule(5, COORDINATES), problem, engine="mpi")
    with pytest.raises(
        cgc.ArgumentValueError, match="expected one of share_memory for engine 'mpi'; got 'color'"
    ):
        cgc.Cluster(uncoded_schedule(3, COORDINATES), problem, engine="mpi", engine_options={"color": 1})
    with cgc.Cluster(uncoded_schedule(2, COORDINATES), problem, engine="mpi") as cluster:  # a rank is left
        iterate(cluster, 2)
        with pytest.raises(cgc.CgcError, match="one cluster at a time"):
            cgc.Cluster(uncoded_schedule(2, COORDINATES), problem, engine="mpi")
        iterate(cluster, 2)


HOLDS = {  # what holds -> the scenario that shows it
    "a rank that leaves late works for the next cluster": leave_late,
    "what cannot be done is refused": refusals,
}


# --- the tests ---------------------------------------------------------------------------------------------


def run(scenario, folder, options=(), ranks=WORKERS + 1):
    command = jobs.mpi_command(ranks, SCRIPT, scenario, folder, options=options)
    exit_code, output = jobs.run(command, timeout_s=100)
    process_ids = folder / "process_ids.json"
    if process_ids.exists():
        jobs.assert_gone(json.loads(process_ids.read_text()))
    return exit_code, output


def test_a_rank_that_dies_ends_the_job_unless_mpi_was_told_to_go_on(tmp_path):
    exit_code, output = run("survive_a_death", tmp_path)
    assert exit_code != 0
    assert "exited on" in output
    assert "states" not in output


@pytest.mark.parametrize("what", HOLDS)
def test_what_holds(what, tmp_path):
    exit_code, output = run(HOLDS[what].__name__, tmp_path)
    assert exit_code == 0, output
    assert f"{HOLDS[what].__name__}: as expected" in output


@pytest.mark.parametrize("scenario", ["survive_a_death", "survive_a_death_under_claim"])
def test_a_rank_that_dies_is_survived_where_mpi_goes_on(scenario, tmp_path):
    exit_code, output = run(scenario, tmp_path, ("--with-ft", "ulfm"))
    assert exit_code == 0, output
    assert "states ['given up', 'ready', 'ready']" in output


def test_a_rank_that_stays_stopped_hangs_neither_the_iterations_nor_the_end(tmp_path):
    exit_code, output = run("stay_stopped", tmp_path)
    assert "all exact" in output
    assert exit_code == 0, output


@pytest.mark.parametrize(
    ("scenario", "options"),
    [
        ("fail", ()),
        ("fail_before_any_cluster", ()),
        ("fail_with_a_rank_stopped", ()),
        ("fail_after_a_death", ("--with-ft", "ulfm")),
    ],
)
def test_an_exception_of_the_master_ends_the_job(scenario, options, tmp_path):
    exit_code, output = run(scenario, tmp_path, options)
    assert exit_code != 0
    assert "scripted failure of the master" in output


def test_ctrl_c_ends_the_job(tmp_path):
    command = jobs.mpi_command(WORKERS + 1, SCRIPT, "go_on_for_ever", tmp_path)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=jobs.environment(),
    ) as job:
        assert job.stdout is not None
        assert b"going" in job.stdout.readline()
        job.send_signal(signal.SIGINT)
        job.stdout.read()
        assert job.wait(60) != 0
    jobs.assert_gone(json.loads((tmp_path / "process_ids.json").read_text()))


def test_memory_is_shared_on_one_host_unless_told_not_to_and_given_back(tmp_path):
    exit_code, output = run("share_memory", tmp_path)
    assert exit_code == 0, output
    lines = [line for line in output.splitlines() if line.startswith("shared")]
    assert lines == ["shared True True True"] * 2 + ["shared False False False"]


def test_ranks_that_share_memory_work_beside_ranks_that_do_not(tmp_path):
    exit_code, output = run("share_memory_with_some", tmp_path)
    assert exit_code == 0, output
    assert "shared True False True" in output


def test_elsewhere_than_in_run_it_is_refused():
    jobs.need("mpi4py")
    code = (
        "import cgc_fast as cgc, own_problems, numpy as np\n"
        "from cgc_fast.schemes.uncoded import uncoded_schedule\n"
        "cgc.Cluster(uncoded_schedule(2, 4), own_problems.Quadratic.random(5, 4), engine='mpi')\n"
    )
    exit_code, output = jobs.run([sys.executable, "-c", code], timeout_s=60)
    assert exit_code == 1
    assert "cgc_fast.engines.mpi.run(main)" in output


def test_the_command_line_under_mpiexec(tmp_path):
    arguments = [
        "--workers",
        3,
        "--iterations",
        2,
        "--features",
        20,
        "--uncoded-seconds",
        0.05,
        "--engine",
        "mpi",
    ]
    for scheme in ("cyclic blocks", "shared samples"):
        arguments += ["--scheme", scheme]
    command = jobs.mpi_command(4, "-m", "cgc_fast", "train", *arguments, "--json", "--events", tmp_path)
    exit_code, output = jobs.run(command, timeout_s=110)
    assert exit_code == 0, output
    results = json.loads([line for line in output.splitlines() if line.startswith("{")][-1])
    assert results["engine"] == "mpi"
    assert results["largest_deviation"] < 1e-9
    for runs in results["clocks"].values():
        assert [run["scheme"] for run in runs] == ["uncoded", "cyclic blocks", "shared samples"]
    command = [sys.executable, "-m", "cgc_fast", "timeline", str(tmp_path / "c-0" / "uncoded.jsonl")]
    exit_code, output = jobs.run([*command, "--out", str(tmp_path / "timeline.png")], timeout_s=60)
    assert exit_code == 0, output


if __name__ == "__main__":
    from mpi4py import MPI

    from cgc_fast.engines import mpi
    from cgc_fast.engines.messages import worker

    if sys.argv[1] == "share_memory_with_some" and MPI.COMM_WORLD.rank == 2:
        worker.find = lambda place: None  # as on another host

    def scenario():
        globals()[sys.argv[1]](sys.argv[2])
        print(f"{sys.argv[1]}: as expected")

    mpi.run(scenario)
