"""The main job, small: the command trains by every scheme to the same parameters, and draws its picture."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cgc_fast.cli import app
from cgc_fast.experiment import COMPARED


@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_training_by_every_scheme_ends_where_plain_training_ends(engine, tmp_path):
    arguments = ["train", "--workers", "3", "--iterations", "4", "--features", "60", "--json"]
    arguments += ["--uncoded-seconds", "0.02", "--engine", engine, "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)
    assert results == json.loads((tmp_path / "out" / "train.json").read_text())
    assert (tmp_path / "out" / "train.png").stat().st_size > 10_000
    assert results["samples"] == 1437
    assert results["coordinates"] == 600
    assert len(results["clocks"]) == 2
    # The gradients agree to 1e-9 of the error norm, and so do parameters after four steps.
    assert results["largest_deviation"] <= 1e-8
    for runs in results["clocks"].values():
        names = [run["scheme"] for run in runs]
        assert names == list(COMPARED)
        assert {(run["train_accuracy"], run["test_accuracy"]) for run in runs} == {
            tuple(results["accuracy_without_workers"])
        }
        for run in runs:
            assert run["method"] == "search" or sum(run["block_sizes"]) == 600
            if engine == "serial":
                assert run["measured_s"] == pytest.approx(run["simulated_s"], rel=1e-12)
            else:
                assert run["measured_s"] >= run["simulated_s"]


def test_unknown_engine_is_refused():
    done = CliRunner().invoke(app, ["train", "--engine", "carrier-pigeon", "--iterations", "1"])
    assert done.exit_code == 2
    assert "expected one of mpi, processes, ray, serial; got 'carrier-pigeon'" in done.output


def test_some_schemes_are_trained():
    options = ["train", "--engine", "serial", "--workers", "3", "--iterations", "1", "--features", "20"]
    done = CliRunner().invoke(app, [*options, "--scheme", "walked blocks", "--json"])
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout.splitlines()[-1])
    for runs in results["clocks"].values():
        assert [run["scheme"] for run in runs] == ["uncoded", "walked blocks"]
    done = CliRunner().invoke(app, [*options, "--scheme", "walked"])
    assert done.exit_code == 2
    assert "scheme: expected one of best single level" in done.output
