"""What only Ray has: clusters that are there already, resources, nodes that are lost.

Run as a script this file is the job: ``python test_ray.py SCENARIO``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import cgc_fast as cgc
import jobs
from cgc_fast.schemes.single_level import single_level_schedule
from own_problems import Quadratic

WORKERS, SAMPLES, COORDINATES = 3, 23, 40


def iterate(cluster, problem, count=1):
    for i in range(count):
        theta = np.random.default_rng(i).normal(size=COORDINATES)
        error = abs(cluster.gradient(theta) - problem.gradient(theta)).max()
        assert error <= 1e-9 * problem.scale(theta, WORKERS)


# --- the scenarios -----------------------------------------------------------------------------------------


def a_node_is_lost():
    """Two nodes have what workers ask for; one of them is lost in mid-iteration."""
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    lost = [nodes.add_node(num_cpus=2, resources={"place": 2}) for _ in range(WORKERS - 1)][-1]
    ray.init(address=nodes.address, log_to_driver=False)
    problem = Quadratic.random(SAMPLES, COORDINATES)
    schedule = single_level_schedule(WORKERS, COORDINATES, 2)  # any one worker is enough
    cycle_times = np.full((100, WORKERS), 1e-5)
    cycle_times[1] = 2e-4  # some 0.2 s
    options = {"num_cpus": 1, "resources": {"place": 1}}
    with cgc.Cluster(
        schedule, problem, engine="ray", cycle_times=cycle_times, engine_options=options
    ) as cluster:
        iterate(cluster, problem)
        stream = cluster.stream(np.ones(COORDINATES))
        nodes.remove_node(lost, allow_graceful=False)
        gradient = np.zeros(COORDINATES)
        for block in stream:
            gradient[block.coordinates] = block.values
        expected = problem.gradient(np.ones(COORDINATES))
        assert abs(gradient - expected).max() <= 1e-9 * problem.scale(np.ones(COORDINATES), WORKERS)
        deadline = time.monotonic() + 60
        while not sum(worker.deaths for worker in cluster.health().workers):
            iterate(cluster, problem)
            assert time.monotonic() < deadline
            time.sleep(1)
        iterate(cluster, problem, 2)
    ray.shutdown()
    nodes.shutdown()
    print("exact")


def refusals():
    import ray

    problem = Quadratic.random(SAMPLES, COORDINATES)
    schedule = single_level_schedule(WORKERS, COORDINATES, 1)
    with pytest.raises(cgc.CgcError, match=r"call ray.init\(\) before"):
        cgc.Cluster(schedule, problem, engine="ray")
    with pytest.raises(cgc.ArgumentValueError, match="one of num_cpus, num_gpus, resources, runtime_env"):
        cgc.Cluster(schedule, problem, engine="ray", engine_options={"color": 1})
    assert not ray.is_initialized()
    print("refused")


# --- the tests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scenario", "word"), [("a_node_is_lost", "exact"), ("refusals", "refused")])
def test_scenario(scenario, word):
    jobs.need("ray")
    exit_code, output = jobs.run([sys.executable, __file__, scenario], timeout_s=110)
    assert exit_code == 0, output
    assert word in output


def test_the_command_line(tmp_path):
    jobs.need("ray")
    command = [
        sys.executable,
        "-m",
        "cgc_fast",
        "train",
        "--engine",
        "ray",
        "--workers",
        "2",
        "--iterations",
        "1",
    ]
    command += ["--features", "20", "--uncoded-seconds", "0.05", "--json", "--events", str(tmp_path)]
    command += ["--scheme", "shared samples"]
    exit_code, output = jobs.run(command, timeout_s=110)
    assert exit_code == 0, output
    results = json.loads([line for line in output.splitlines() if line.startswith("{")][-1])
    assert results["engine"] == "ray"
    assert results["largest_deviation"] < 1e-9
    for runs in results["clocks"].values():
        assert [run["scheme"] for run in runs] == ["uncoded", "shared samples"]
    assert len(list(Path(tmp_path).rglob("*.jsonl"))) == 4


if __name__ == "__main__":
    globals()[sys.argv[1]]()
