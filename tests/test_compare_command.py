"""The commands compare and reproduce, and what they show."""

import io
import json

import matplotlib.legend
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

import cgc_fast as cgc
from cgc_fast import baselines
from cgc_fast.cli import app
from cgc_fast.comparison import compare, completed
from cgc_fast.datasets import load_trace
from cgc_fast.errors import ArgumentValueError
from cgc_fast.frontier import frontier
from cgc_fast.published import FIGURES, reproduce

LAW = "expon(loc=50, scale=1000)"
MODEL = ["--workers", "8", "--coordinates", "2000", "--cycle-time", LAW, "--draws", "2000"]


def run(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "80"})
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module", autouse=True)
def fonts():
    """Matplotlib keeps the files of its fonts open; they are opened here, not in a test."""
    figure, ax = plt.subplots()
    ax.set_title("ours ±")
    ax.set_xscale("log")
    ax.set_yscale("log")
    with io.BytesIO() as file:
        figure.savefig(file)
    plt.close(figure)


@pytest.fixture(scope="module")
def points():
    return reproduce(draws=20_000)


def test_completed_counts_draws():
    runtimes = np.array([3.0, 1.0, 2.0, np.inf])
    np.testing.assert_array_equal(completed(runtimes, np.array([0.5, 1.0, 2.5, 1e9])), [0, 0.25, 0.5, 0.75])


def test_entries_are_scored_on_the_same_draws():
    law = stats.expon(loc=50, scale=1000)
    made = compare(6, 300, law, samples=12, forward_cycles=5.0, draws=3_000, seed=3)
    times = law.rvs(size=(3_000, 6), random_state=np.random.default_rng([3, 1]))
    entries = {entry.name: entry for entry in made.entries}
    cost = {"samples": 12, "forward_cycles": 5.0}
    np.testing.assert_allclose(entries["uncoded"].runtimes, baselines.uncoded(times, 300, **cost))
    np.testing.assert_allclose(entries["bound"].runtimes, baselines.lower_bound(times, 300, **cost))
    cyclic = entries["cyclic, mean time"]
    plan = cgc.plan(6, 300, law, method="mean_time", **cost)
    np.testing.assert_array_equal(cyclic.block_sizes, plan.block_sizes)
    np.testing.assert_allclose(cyclic.runtimes, cgc.runtime(plan.block_sizes, times, **cost))
    assert cyclic.standard_error == pytest.approx(cyclic.runtimes.std(ddof=1) / np.sqrt(3_000))
    for entry in made.entries:
        assert np.all(entry.runtimes >= entries["bound"].runtimes * (1 - 1e-12))
    best = min((e for e in made.entries if e.block_sizes is not None), key=lambda e: e.mean)
    assert completed(best.runtimes, made.threshold) == pytest.approx(0.9)


def test_schemes_without_block_sizes_compete_where_asked():
    law = stats.expon(loc=50, scale=1000)
    asked = {"samples": 6, "draws": 500, "seed": 3}
    made = compare(6, 300, law, all_schemes=True, feedback="claim", latency=20.0, **asked)
    times = law.rvs(size=(500, 6), random_state=np.random.default_rng([3, 1]))
    entries = {entry.name: entry for entry in made.entries}
    for name, scheme in (("shared samples", "shared_samples"), ("walked", "walked"), ("pairs", "pairs")):
        feedback = "claim" if scheme == "shared_samples" else "announce"
        plan = cgc.plan(6, 300, law, scheme=scheme, feedback=feedback, latency=20.0, **asked)
        done = cgc.simulate(plan.schedule(), times, samples=6, latency=20.0)
        np.testing.assert_array_equal(entries[name].runtimes, done)
        assert entries[name].note == plan.scheme_report.scores[0].note
    assert "fractional repetition, search" in entries
    few = {entry.name for entry in compare(6, 300, law, all_schemes=True, **asked).entries}
    assert few == set(entries) - {"shared samples"}
    assert {"walked", "pairs"}.isdisjoint(entry.name for entry in compare(6, 300, law, **asked).entries)
    figure = made.plot()
    legends = [legend for ax in figure.axes for legend in ax.findobj(matplotlib.legend.Legend)]
    shown = {text.get_text() for legend in legends for text in legend.get_texts()}
    assert {"walked", "shared samples", "bound", "partial stragglers"} <= shown
    plt.close(figure)


def test_the_command_shows_them_where_asked():
    model = ["--workers", 4, "--coordinates", 100, "--cycle-time", LAW, "--draws", 200, "--json"]
    names = []
    for options in ([], ["--all-schemes"], ["--all-schemes", "--feedback", "claim", "--latency", 10]):
        code, out, err = run("compare", *model, *options)
        assert code == 0, err
        names.append({entry["name"] for entry in json.loads(out)["entries"]})
    assert names[1] - names[0] == {"pairs", "walked", "fractional repetition, search"}
    assert names[2] - names[1] == {"shared samples"}


def test_what_a_scheme_refuses_is_said():
    made = compare(1, 50, stats.expon(loc=50, scale=1000), all_schemes=True, draws=100)
    (refused,) = (entry for entry in made.entries if entry.name == "pairs")
    assert refused.runtimes is None
    assert "expected at least 2 workers, got 1" in refused.note


def test_a_trace_is_scored_on_its_rows():
    trace = load_trace("llm_training_32_replicas")
    made = compare(32, 1_000, trace, threshold=400.0)
    assert made.threshold == 400.0
    scored = [entry for entry in made.entries if entry.runtimes is not None]
    assert {len(entry.runtimes) for entry in scored} == {43}
    assert {entry.name for entry in made.entries if entry.runtimes is None} == {"cyclic, exact"}


def test_methods_that_cannot_work_are_listed_with_the_reason():
    made = compare(5, 100, stats.expon(), draws=500)  # no mean rate
    entry = next(entry for entry in made.entries if entry.name == "cyclic, mean rate")
    assert entry.runtimes is None
    assert "mean rate" in entry.note
    code, out, _ = run("compare", "--workers", 5, "--coordinates", 100, "--cycle-time", "expon()")
    assert code == 0
    assert "cyclic, mean rate: method mean_rate" in out
    with pytest.raises(ArgumentValueError, match="infinite at every level"):
        compare(5, 100, cgc.Never(stats.expon(), 0.1), draws=500)


def test_the_table_fits_and_the_json_agrees(tmp_path):
    code, out, err = run("compare", *MODEL)
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    code, text, err = run("compare", *MODEL, "--json")
    assert code == 0, err
    form = json.loads(text)
    names = [row["name"] for row in form["entries"]]
    assert names[:5] == ["uncoded", "single level", "partial stragglers", "load balancing", "hierarchical"]
    assert names[-1] == "bound"
    for row in form["entries"]:
        assert row["name"] in out
        assert f"{row['expected_runtime_s']:.4g}" in out
        assert 0 <= row["completion_probability"] <= 1
        if row["block_sizes"] is not None:
            assert sum(row["block_sizes"]) == 2000


@pytest.mark.parametrize("source", ["law", "trace"])
def test_the_picture(tmp_path, source):
    path = tmp_path / "compare.png"
    arguments = ["--workers", "4", "--coordinates", "200", "--cycle-time", LAW, "--draws", "500"]
    if source == "trace":
        trace = tmp_path / "trace.csv"
        np.savetxt(trace, load_trace("gpu_training_10_workers").times[:100, :5], delimiter=",")
        arguments = ["--trace", trace, "--coordinates", "500"]
    code, _, err = run("compare", *arguments, "--plot", path)
    assert code == 0, err
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--coordinates", "10", "--cycle-time", LAW], "give --workers"),
        (["--coordinates", "10", "--workers", "2"], "exactly one of"),
        ([*MODEL, "--threshold", "-1"], "threshold: expected a finite number > 0"),
        ([*MODEL, "--cycle-time", "nonsense()"], "law: expected one of"),
    ],
)
def test_bad_options_are_refused(arguments, match):
    code, _, err = run("compare", *arguments)
    assert code == 2
    assert match in " ".join(err.replace("│", " ").split())


def test_every_published_point_is_there(points):
    assert [sum(p.figure == name for p in points) for name in FIGURES] == [25, 20, 20]


def test_published_points_are_reproduced_or_beaten(points):
    for point in points:
        noise = 4 * point.standard_error
        if point.column in ("mean_rate", "mean_time", "single_level", "tandon_partial"):
            # Published with about 1 % noise, and 3 digits.
            span = 0.01 * point.published if point.figure == FIGURES[0] else 0.01
            assert abs(point.difference) <= span + noise, point
        elif point.column == "optimal":
            assert point.difference <= noise, point
        elif point.column == "stationary_point":
            assert point.difference >= -noise, point


def test_the_large_threshold_formula_and_not_the_published_column(points):
    exact = {10: 0.289, 20: 0.712, 30: 0.928, 40: 0.988, 50: 0.998}
    for point in points:
        if point.figure == FIGURES[1] and point.column == "large_threshold":
            # The first is given to 3 digits; 20,000 draws.
            assert point.ours == pytest.approx(exact[int(point.at)], abs=4 * point.standard_error + 6e-4)


def test_the_reproduce_command(tmp_path):
    path = tmp_path / "figures.png"
    code, out, err = run("reproduce", "--draws", 500, "--plot", path)
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert "does not follow from its own formula" in " ".join(out.split())
    assert path.read_bytes().startswith(b"\x89PNG")
    code, text, err = run("reproduce", "--draws", 500, "--json")
    assert code == 0, err
    form = json.loads(text)
    assert len(form["points"]) == 65
    assert all(p["difference"] == p["ours"] - p["published"] for p in form["points"])
    assert len(form["not_reproduced"]) == 3
    assert run("reproduce", "--draws", 1)[0] == 2


# --- runtime against storage and traffic ---


@pytest.fixture(scope="module")
def trade_off():
    law = stats.expon(loc=50, scale=1000)
    return frontier(6, 300, law, samples=6, max_parts=[1, 2, 6], feedback="claim", draws=1_000)


def test_every_scheme_is_planned_for_all_parts(trade_off):
    names = {point.score.name for point in trade_off.points}
    assert names >= {"cyclic", "pairs", "walked", "shared_samples", "uncoded", "partial gradient coding"}
    for point in trade_off.points:
        assert point.score.parts <= point.max_parts
        assert trade_off.bound < point.score.runtime
    own = {point.max_parts: point.score.runtime for point in trade_off.points if point.score.name == "walked"}
    assert own[1] > own[2] > own[6]
    law = stats.expon(loc=50, scale=1000)
    times = law.rvs((1_000, 6), random_state=np.random.default_rng((0, 2)))
    expected = baselines.partial_gradient_coding(times, 300, 2, samples=6).mean()
    (baseline,) = [p.score for p in trade_off.points if p.score.name[:7] == "partial" and p.max_parts == 2]
    assert baseline.runtime == pytest.approx(expected, rel=1e-12)


def test_efficient_points_are_those_that_nothing_beats(trade_off):
    def measures(point):
        return point.score.runtime, point.score.parts, point.score.values_sent

    for point in trade_off.points:
        beaten = any(
            all(a <= b for a, b in zip(measures(other), measures(point), strict=True))
            and measures(other) != measures(point)
            for other in trade_off.points
        )
        assert not (point.efficient and beaten)
        equals = [other for other in trade_off.points if measures(other) == measures(point)]
        assert beaten or sum(other.efficient for other in equals) == 1


def test_the_frontier_on_the_command_line(tmp_path):
    options = ("compare", "--frontier", *MODEL[:6], "--draws", 300, "--feedback", "announce")
    options = [str(option).replace("2000", "60") for option in options]
    limits = ("--max-values-sent", 1, "--max-values-sent", 0.4)
    code, out, _ = run(*options, *limits, "--json", "--plot", tmp_path / "frontier.png")
    assert code == 0
    assert {point["max_values_sent"] for point in json.loads(out)["points"]} == {1.0, 0.4}
    points = json.loads(out)["points"]
    assert {point["max_parts"] for point in points} <= {1, 2, 4, 8}
    assert "shared_samples" not in {point["scheme"] for point in points}
    assert (tmp_path / "frontier.png").stat().st_size > 10_000
    code, out, _ = run(*options)
    assert code == 0
    assert "walked" in out


def test_what_workers_send_is_limited():
    law = stats.expon(loc=50, scale=1000)
    made = frontier(6, 300, law, samples=6, max_parts=[1, 2, 6], max_values_sent=[1, 0.5, 0.25], draws=1_000)
    own = {
        (point.max_parts, point.max_values_sent): point.score
        for point in made.points
        if point.score.name == "walked"
    }
    assert set(own) == {(1, 1.0), (2, 1.0), (6, 1.0), (2, 0.5), (6, 0.5), (6, 0.25)}
    sent = [own[6, most].values_sent for most in (1.0, 0.5, 0.25)]
    runtimes = [own[6, most].runtime for most in (1.0, 0.5, 0.25)]
    assert sent == sorted(sent, reverse=True)
    assert sent[-1] <= 6 * 0.25
    assert runtimes == sorted(runtimes)
    assert {point.score.name for point in made.points if point.max_values_sent < 1} == {"walked", "pairs"}


def test_a_frontier_without_points_is_refused():
    law = stats.expon(loc=50, scale=1000)
    with pytest.raises(ArgumentValueError, match="max_parts: expected at least one number"):
        frontier(4, 60, law, max_parts=[])
    with pytest.raises(ArgumentValueError, match="scheme auto: expected limits"):
        frontier(4, 60, law, max_parts=[2], min_redundancy=2)
    with pytest.raises(ArgumentValueError, match="max_values_sent: expected at least one limit"):
        frontier(4, 60, law, max_values_sent=[])
