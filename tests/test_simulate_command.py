import json

import numpy as np
import pytest
from typer.testing import CliRunner

from cgc_fast.cli import app
from cgc_fast.planning import Plan
from cgc_fast.simulation import simulate
from cgc_fast.straggler_models import parse_law

LAW = "expon(loc=50, scale=1000)"


def run(*arguments):
    result = CliRunner().invoke(app, ["simulate", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def results(*arguments):
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture
def plan_file(tmp_path):
    path = tmp_path / "plan.json"
    arguments = ["plan", "--workers", "6", "--coordinates", "600", "--cycle-time", LAW]
    arguments += ["--method", "mean_time", "--samples", "9", "--save", str(path)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    return path


def test_a_saved_plan_on_its_own_law(plan_file):
    got = results(plan_file, "--draws", 400, "--seed", 5)
    assert (got["workers"], got["coordinates"], got["method"]) == (6, 600, "mean_time")
    assert (got["draws"], got["seed"]) == (400, 5)
    plan, uncoded, single = got["schemes"]
    assert [plan["scheme"], uncoded["scheme"]] == ["cyclic", "uncoded"]
    assert single["scheme"].startswith("best single level, ")

    times = parse_law(LAW).rvs(size=(400, 6), random_state=np.random.default_rng(5))
    expected = simulate(Plan.load(plan_file).schedule(), times, samples=9)
    assert plan["mean_s"] == pytest.approx(expected.mean(), rel=1e-12)
    assert plan["standard_error_s"] == pytest.approx(expected.std() / 20, rel=1e-12)
    assert plan["quantiles_s"]["0.5"] == np.sort(expected)[199]
    assert plan["completed"] == 1.0
    assert uncoded["speed_up_over_uncoded"] == 1.0
    assert uncoded["mean_s"] == pytest.approx(9 / 6 * 600 * times.max(axis=1).mean(), rel=1e-12)
    best = min(9 / 6 * 600 * (n + 1) * np.sort(times)[:, 5 - n].mean() for n in range(6))
    assert single["mean_s"] == pytest.approx(best, rel=1e-12)


def test_the_same_block_sizes_under_other_codes(plan_file):
    got = results(plan_file, "--draws", 400, "--seed", 5, "--code", "grouped")
    assert [row["scheme"] for row in got["schemes"]][:3] == ["cyclic", "cyclic, grouped codes", "uncoded"]
    times = parse_law(LAW).rvs(size=(400, 6), random_state=np.random.default_rng(5))
    expected = simulate(Plan.load(plan_file).schedule("grouped"), times, samples=9)
    assert got["schemes"][1]["mean_s"] == pytest.approx(expected.mean(), rel=1e-12)
    assert got["schemes"][1]["mean_s"] < got["schemes"][0]["mean_s"]
    code, _, err = run(plan_file, "--code", "mds")
    assert code == 2
    assert "expected one of auto, cyclic, grouped, repetition" in " ".join(err.replace("│", " ").split())


def test_another_law_replaces_that_of_the_plan(plan_file):
    got = results(plan_file, "--cycle-time", "uniform(loc=2, scale=1e-9)", "--draws", 3)
    assert got["schemes"][1]["mean_s"] == pytest.approx(9 / 6 * 600 * 2, rel=1e-8)


@pytest.mark.parametrize("scheme", ["uncoded", "single_level", "cyclic", "fractional_repetition"])
def test_a_scheme_from_options(scheme):
    options = ("--scheme", scheme, "--workers", 5, "--coordinates", 50, "--cycle-time", LAW)
    got = results(*options, "--draws", 50, "--forward-cycles", 3)
    names = [row["scheme"] for row in got["schemes"]]
    assert names[0] in (scheme, got["method"])
    assert "uncoded" in names
    assert names[-1].startswith("best single level")


def test_delays_add_up(plan_file):
    now, later = (results(plan_file, "--draws", 20, "--delay", delay)["schemes"] for delay in (0, 1000))
    for one, other in zip(now, later, strict=True):
        assert other["mean_s"] == pytest.approx(one["mean_s"] + 1000, rel=1e-12)


def test_a_trace_with_a_worker_that_never_answers(tmp_path):
    path = tmp_path / "trace.csv"
    np.savetxt(path, [[1.0, 2.0, 3.0], [1.0, np.inf, 2.0]], delimiter=",")
    got = results("--trace", path, "--coordinates", 30, "--method", "mean_time", "--draws", 100)
    assert got["workers"] == 3
    uncoded = got["schemes"][1]
    assert uncoded["mean_s"] == uncoded["quantiles_s"]["0.99"] == "inf"
    assert uncoded["standard_error_s"] is None
    assert 0.2 < uncoded["completed"] < 0.8
    code, out, _ = run("--trace", path, "--coordinates", 30, "--method", "mean_time", "--draws", 100)
    assert code == 0
    assert "uncoded: " in out
    assert "of the iterations end." in out


def test_a_table_for_reading(plan_file):
    code, out, _ = run(plan_file, "--draws", 100)
    assert code == 0
    assert "cyclic" in out
    assert "best single level" in out
    assert "gain" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "exactly one of --cycle-time and --trace"),
        (["--cycle-time", LAW, "--workers", "3"], "give a plan, or --coordinates"),
        (["--cycle-time", LAW, "--coordinates", "3"], "give --workers"),
        (
            ["--cycle-time", LAW, "--workers", "3", "--coordinates", "3", "--scheme", "foo"],
            "cyclic, fractional",
        ),
        (["--cycle-time", "expon(", "--workers", "3", "--coordinates", "3"], "expected text like"),
        (["no such plan.json"], "no such plan.json"),
    ],
)
def test_mistakes_are_explained(arguments, message):
    code, _, err = run(*arguments)
    assert code == 2
    assert message in " ".join(err.replace("│", " ").split())
