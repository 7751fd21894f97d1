"""Every engine does what `conformance.py` asks for."""

from __future__ import annotations

import json
import sys

import pytest

import conformance
import jobs

HERE = {"serial": 4, "processes": 4}
# Ranks or actors, and options: as between hosts as well.
JOBS = {
    "mpi": ("mpi", 9, {}),
    "mpi without shared memory": ("mpi", 9, {"share_memory": False}),
    "sockets": ("sockets", 4, {}),
    "sockets without shared memory": ("sockets", 4, {"share_memory": False}),
    "ray": ("ray", 4, {}),
}


@pytest.mark.parametrize(
    ("engine", "name"), [(engine, name) for engine in HERE for name in conformance.names_for(engine)]
)
def test_engine(engine, name, tmp_path):
    conformance.CHECKS[name][1](conformance.Setting(engine, HERE[engine], tmp_path))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("job", JOBS)
def test_engine_in_a_job_of_its_own(job, tmp_path):
    engine, size, options = JOBS[job]
    arguments = [jobs.TESTS / "conformance.py", engine, tmp_path, "", json.dumps(options)]
    if engine == "mpi":
        command = jobs.mpi_command(size, *arguments)
    else:
        if engine == "ray":
            jobs.need("ray")
        command = [sys.executable, *map(str, arguments)]
    exit_code, output = jobs.run(command, timeout_s=580)
    assert exit_code == 0, output
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == set(conformance.names_for(engine))
    failed = {name: result for name, result in results.items() if result is not None}
    assert not failed, "\n".join(f"--- {name}\n{result}" for name, result in failed.items())
