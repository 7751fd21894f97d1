"""Plans: methods, the best of them, restrictions, refusals, saving, and the command."""

import doctest
import importlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from typer.testing import CliRunner

import cgc_fast as cgc
from cgc_fast.cli import app
from cgc_fast.closed_forms import equalised_block_sizes, mean_time_block_sizes
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError
from cgc_fast.planning import METHODS
from cgc_fast.scheme_report import parts_stored

LAW = stats.expon(loc=50, scale=1000)
SCHEMES = ["cyclic", "fractional_repetition"]


class UsersLaw(stats.rv_continuous):
    def _pdf(self, x):
        return np.exp(-x)

    def _ppf(self, q):
        return -np.log1p(-q)

    def _isf(self, q):
        return -np.log(q)

    def _cdf(self, x):
        return -np.expm1(-x)

    def _sf(self, x):
        return np.exp(-x)

    def _stats(self):
        return 1.0, 1.0, 2.0, 6.0


def make(workers=6, coordinates=1000, cycle_time=LAW, draws=2000, **keywords):
    return cgc.plan(workers, coordinates, cycle_time, draws=draws, **keywords)


# --- closed forms ---


def test_mean_time_is_the_published_formula():
    workers, coordinates = 5, 300
    t = np.array([100.0, 150.0, 300.0, 420.0, 900.0])
    x = [1 / t[4]]
    x += [(1 / t[workers - n - 1] - 1 / t[workers - n]) / (n + 1) for n in range(1, workers)]
    expected = coordinates * np.array(x) / np.sum(x)
    work = np.arange(1.0, workers + 1)
    np.testing.assert_allclose(mean_time_block_sizes(t[::-1], work, coordinates), expected, rtol=1e-14)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=6), st.data())
def test_equalised_sizes_cannot_be_beaten(rates, data):
    rates = np.array(rates)
    work = np.arange(1.0, len(rates) + 1)
    sizes = equalised_block_sizes(rates, work, 100)
    assert sizes.min() >= 0
    assert sizes.sum() == pytest.approx(100)
    shares = np.array(data.draw(st.lists(st.floats(0, 1), min_size=len(rates), max_size=len(rates)))) + 1e-6
    other = 100 * shares / shares.sum()

    def longest(x):
        return np.max((np.cumsum(work * x) / rates)[x > 0])

    assert longest(sizes) <= longest(other) * (1 + 1e-12)


@pytest.mark.parametrize("module", ["planning", "runtime_model"])
def test_examples_of_the_docstrings(module):
    outcome = doctest.testmod(importlib.import_module(f"cgc_fast.{module}"))
    assert outcome.attempted > 0
    assert outcome.failed == 0


# --- methods ---


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("method", [None, *METHODS])
def test_every_method_gives_a_consistent_plan(method, scheme):
    if method == "exact" and scheme != "cyclic":
        pytest.skip("only for cyclic codes")
    plan = make(method=method, scheme=scheme, samples=30)
    assert plan.method == method or (method is None and plan.method in METHODS)
    assert plan.block_sizes.dtype == np.int64
    assert plan.block_sizes.shape == plan.relaxed_block_sizes.shape == (6,)
    assert plan.block_sizes.sum() == 1000
    assert plan.relaxed_block_sizes.sum() == pytest.approx(1000)
    assert np.abs(np.cumsum(plan.block_sizes) - np.cumsum(plan.relaxed_block_sizes)).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(np.bincount(plan.coordinate_redundancy, minlength=6), plan.block_sizes)
    fresh = cgc.runtime(plan.block_sizes, LAW.rvs((4000, 6), random_state=5), samples=30, scheme=scheme)
    error = np.hypot(plan.expected_runtime_standard_error, fresh.std() / np.sqrt(4000))
    assert abs(plan.expected_runtime - fresh.mean()) <= 5 * error
    exact = scheme == "cyclic" or np.count_nonzero(plan.block_sizes) == 1
    assert (plan.expected_runtime_standard_error == 0) == exact
    certified = plan.method == "exact" or plan.sample_report is not None
    assert certified >= (method in ("exact", "sample_average"))
    for number in (plan.lower_bound, plan.relative_gap, plan.relaxed_gap):
        assert (number is not None) == certified
    with pytest.raises(ValueError, match="read-only"):
        plan.block_sizes[0] = 1
    assert plan.method in plan.summary()
    assert plan.method in repr(plan)


def test_single_level_is_the_best_one():
    plan = make(method="single_level")
    (level,) = np.flatnonzero(plan.block_sizes)
    for other in range(6):
        sizes = np.zeros(6, dtype=int)
        sizes[other] = 1000
        assert plan.expected_runtime <= cgc.expected_runtime(sizes, LAW)
    assert plan.expected_runtime == cgc.expected_runtime(plan.block_sizes, LAW)
    assert level > 0


LAWS = [
    LAW,
    stats.expon(loc=1000, scale=1000),
    stats.expon(),
    stats.pareto(1.5),
    stats.pareto(0.6),
    stats.lognorm(2.0),
    stats.weibull_min(0.5),
    stats.uniform(1, 0.01),
    stats.randint(1, 9),
    [stats.expon(50, 1000 * (1 + w)) for w in range(6)],
    cgc.Trace(np.random.default_rng(0).pareto(1.2, (200, 6)) + 1),
]


@pytest.mark.parametrize("cycle_time", LAWS)
@pytest.mark.parametrize("forward_cycles", [0.0, 300.0, 1e5])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_best_is_never_worse_than_one_level(cycle_time, forward_cycles, scheme):
    def value(method):
        return make(
            cycle_time=cycle_time, forward_cycles=forward_cycles, scheme=scheme, method=method, draws=1000
        ).expected_runtime

    best = value(None)
    assert best <= value("single_level")
    try:
        assert best <= value("uncoded")
    except ArgumentValueError as error:
        assert "infinite" in str(error)  # noqa: PT017 - not every law allows it


def test_block_plans_win_where_they_should():
    assert make(workers=20, samples=20).method == "exact"
    assert make(workers=20, samples=20, scheme="fractional_repetition").method == "sample_average"
    # A forward pass as dear as all derivatives: using several levels is not worth it.
    assert make(workers=20, forward_cycles=1000.0).method == "single_level"
    assert make(cycle_time=stats.expon(1000, 1000), forward_cycles=1000.0).method == "uncoded"


def test_scaling_times_scales_the_plan():
    slow = make(cycle_time=stats.expon(loc=50 * 1024, scale=1000 * 1024))
    plan = make()
    np.testing.assert_array_equal(slow.block_sizes, plan.block_sizes)
    np.testing.assert_allclose(slow.expected_runtime, 1024 * plan.expected_runtime, rtol=1e-12)


def test_the_seed_decides():
    one, again, other = make(seed=1), make(seed=1), make(seed=2)
    np.testing.assert_array_equal(one.relaxed_block_sizes, again.relaxed_block_sizes)
    assert one.expected_runtime == again.expected_runtime == other.expected_runtime  # exact
    one, other = (make(seed=seed, scheme="fractional_repetition") for seed in (1, 2))
    assert one.expected_runtime != other.expected_runtime


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12), st.integers(1, 15), st.sampled_from(SCHEMES))
def test_few_workers_and_few_coordinates(workers, coordinates, scheme):
    plan = make(workers, coordinates, scheme=scheme, draws=100)
    assert plan.block_sizes.shape == (workers,)
    assert plan.block_sizes.sum() == coordinates
    assert plan.expected_runtime > 0


def test_one_draw_is_enough():
    made = make(draws=1, method="mean_time", scheme="fractional_repetition")
    assert np.isinf(made.expected_runtime_standard_error)


# --- restrictions ---


@pytest.mark.parametrize("method", [None, "mean_time", "mean_rate", "single_level", "subgradient"])
def test_levels_outside_the_limits_stay_empty(method):
    plan = make(method=method, min_redundancy=1, max_parts=4)
    assert set(np.flatnonzero(plan.relaxed_block_sizes)) <= {1, 2, 3}
    assert plan.parameters["min_redundancy"] == 1
    assert plan.parameters["max_parts"] == 4


@pytest.mark.parametrize("method", [None, "mean_time", "mean_rate", "single_level", "subgradient"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_levels_with_an_infinite_mean_stay_empty(method, scheme):
    # Finite for N - n + 1 >= 3 workers above: levels n >= 2, groups of at least 3.
    plan = make(cycle_time=stats.pareto(0.4), method=method, scheme=scheme)
    assert plan.relaxed_block_sizes[:2].sum() == 0
    assert np.isfinite(plan.expected_runtime)


def test_workers_that_never_answer_are_planned_around():
    times = np.ones((10, 6))
    times[3, 2] = times[7, 5] = np.inf
    plan = make(cycle_time=cgc.Trace(times))
    assert plan.block_sizes[0] == 0
    np.testing.assert_allclose(plan.expected_runtime, 2 * 1000 / 6)
    assert plan.expected_runtime_standard_error == 0


def test_blocks_end_at_boundaries():
    plan = make(boundaries=[100, 250, 900])
    assert set(np.cumsum(plan.block_sizes)) <= {0, 100, 250, 900, 1000}
    assert plan.parameters["boundaries"] == [0, 100, 250, 900, 1000]


# --- refusals ---


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"workers": 0}, ArgumentValueError, "workers: expected an integer >= 1, got 0"),
        ({"workers": 2.0}, ArgumentTypeError, "workers: expected an integer >= 1, got 2.0"),
        ({"workers": True}, ArgumentTypeError, "workers: expected an integer >= 1, got True"),
        ({"coordinates": 0}, ArgumentValueError, "coordinates: expected an integer >= 1, got 0"),
        ({"draws": 0}, ArgumentValueError, "draws: expected an integer >= 1"),
        ({"seed": -1}, ArgumentValueError, "seed: expected an integer >= 0"),
        ({"max_parts": 0}, ArgumentValueError, "max_parts: expected an integer in 1..6, got 0"),
        ({"max_parts": 7}, ArgumentValueError, "max_parts: expected an integer in 1..6, got 7"),
        ({"min_redundancy": 6}, ArgumentValueError, "min_redundancy: expected an integer in 0..5, got 6"),
        ({"min_redundancy": 3, "max_parts": 3}, ArgumentValueError, "takes at least 4 parts"),
        ({"min_block": 0}, ArgumentValueError, "min_block: expected an integer in 1..1000, got 0"),
        ({"min_block": 1001}, ArgumentValueError, "min_block: expected an integer in 1..1000, got 1001"),
        ({"sequential": 1}, ArgumentTypeError, "sequential"),
        ({"samples": -1}, ArgumentValueError, "samples"),
        ({"forward_cycles": np.nan}, ArgumentValueError, "forward_cycles"),
        ({"boundaries": [1001]}, ArgumentValueError, "boundaries"),
        (
            {"objective": "speed"},
            ArgumentValueError,
            "objective: expected one of completion_probability, expected_runtime; got 'speed'",
        ),
        (
            {"scheme": "paris"},
            ArgumentValueError,
            "scheme: expected one of auto, cyclic, fractional_repetition, .*walked; got 'paris'",
        ),
        (
            {"method": "best"},
            ArgumentValueError,
            "method: expected one of exact, mean_rate, mean_time, sample_average, single_level, subgradient, "
            "uncoded; got 'best'",
        ),
        ({"cycle_time": stats.norm(3, 1)}, ArgumentValueError, "positive half-line"),
        ({"cycle_time": [LAW] * 5}, ArgumentValueError, "expected 6 laws"),
        (
            {"cycle_time": cgc.Trace([[1.0] * 6], censored=[[True] * 6])},
            ArgumentValueError,
            "every entry of the trace is censored",
        ),
        (
            {"cycle_time": stats.expon(scale=3), "method": "mean_rate"},
            ArgumentValueError,
            r"mean rate of level 5, .*infinite for expon\(scale=3\), 6 workers.*max_parts=5",
        ),
        (
            {"cycle_time": stats.pareto(0.4), "max_parts": 2},
            ArgumentValueError,
            r"levels 0 to 1 .*pareto\(0.4\).*lowest usable level is 2, which takes max_parts >= 3",
        ),
        (
            {"cycle_time": cgc.Trace(np.full((3, 6), np.inf))},
            ArgumentValueError,
            "no level has a finite expected runtime",
        ),
        (
            {"cycle_time": stats.pareto(0.4), "method": "uncoded"},
            ArgumentValueError,
            "mean cycle time is infinite.*lowest usable level is 2",
        ),
        ({"method": "uncoded", "min_redundancy": 2}, ArgumentValueError, "excluded by min_redundancy"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        make(**arguments)


def test_mean_rate_works_below_the_level_that_has_none():
    assert make(cycle_time=stats.expon(scale=3), method="mean_rate", max_parts=5).block_sizes[5] == 0


# --- saving, plotting, schedules ---


@pytest.mark.parametrize("cycle_time", LAWS[:1] + LAWS[-3:])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_plan_comes_back_exactly(tmp_path, cycle_time, scheme):
    plan = make(cycle_time=cycle_time, scheme=scheme, forward_cycles=0.1, samples=7, boundaries=[10, 500])
    plan.save(tmp_path / "plan.json")
    loaded = cgc.Plan.load(tmp_path / "plan.json")
    for name, value in vars(plan).items():
        again = getattr(loaded, name)
        if name == "cycle_time":
            np.testing.assert_array_equal(
                again.draw(np.random.default_rng(0), 3), value.draw(np.random.default_rng(0), 3)
            )
        elif isinstance(value, np.ndarray):
            assert again.dtype == value.dtype
            np.testing.assert_array_equal(again, value)
        else:
            assert again == value
            assert type(again) is type(value)


def test_plans_of_version_1_are_read(tmp_path):
    plan = make(forward_cycles=0.1)
    form = plan.to_dict()
    for entry in ("scheme_report", "completion_report", "history"):
        del form[entry]
    for asked in ("feedback", "latency", "max_values_sent"):
        del form["parameters"][asked]
    (tmp_path / "plan.json").write_text(json.dumps({**form, "version": 1}))
    loaded = cgc.Plan.load(tmp_path / "plan.json")
    assert loaded.scheme_report is None
    np.testing.assert_array_equal(loaded.block_sizes, plan.block_sizes)
    assert loaded.schedule().workers == 6
    assert loaded.completion_probability(1e5) == plan.completion_probability(1e5)
    assert loaded.summary() == plan.summary()


def test_a_law_of_the_users_own_is_left_out(tmp_path):
    plan = make(cycle_time=UsersLaw(a=0.0, name="users")(), method="mean_time")
    plan.save(tmp_path / "plan.json")
    loaded = cgc.Plan.load(tmp_path / "plan.json")
    assert loaded.cycle_time is None
    assert "not stored" in loaded.summary()
    np.testing.assert_array_equal(loaded.block_sizes, plan.block_sizes)


def test_an_infinite_runtime_is_saved_as_strict_json(tmp_path):
    plan = make(draws=1, method="mean_time", scheme="fractional_repetition")  # its standard error is infinite
    plan.save(tmp_path / "plan.json")
    assert "Infinity" not in (tmp_path / "plan.json").read_text()
    assert cgc.Plan.load(tmp_path / "plan.json").expected_runtime_standard_error == np.inf


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda form: "{", "expected a plan as JSON"),
        (lambda form: "[1]", r"written by Plan\.save"),
        (lambda form: json.dumps({**form, "format": "other"}), r"written by Plan\.save"),
        (lambda form: json.dumps({**form, "version": 3}), "expected a plan of version 1 or 2, got version 3"),
        (lambda form: json.dumps({k: v for k, v in form.items() if k != "samples"}), "no entry 'samples'"),
    ],
)
def test_other_files_are_refused(tmp_path, change, match):
    path = tmp_path / "plan.json"
    path.write_text(change(make(method="mean_time").to_dict()))
    with pytest.raises(ArgumentValueError, match=match):
        cgc.Plan.load(path)


def test_plot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plan = make()
    ax = plan.plot()
    assert [bar.get_height() for bar in ax.patches] == plan.block_sizes.tolist()
    assert plan.plot(ax) is ax
    plt.close("all")


def test_schedules_are_asked_of_the_schemes(monkeypatch):
    calls = []

    def record(name, module, function):
        made = getattr(module, function)

        def call(*args, **keywords):
            calls.append((name, *args[:2], args[2].tolist(), keywords))
            return made(*args, **keywords)

        monkeypatch.setattr(module, function, call)

    record("cyclic", importlib.import_module("cgc_fast.schemes.cyclic"), "cyclic_schedule")
    module = importlib.import_module("cgc_fast.schemes.fractional_repetition")
    record("repetition", module, "fractional_repetition_schedule")
    cyclic, repetition = make(), make(scheme="fractional_repetition")
    cyclic.schedule(seed=3)
    cyclic.schedule("grouped")
    cyclic.schedule("repetition")
    single = repetition.schedule(payload="float32")
    assert single.payload == "float32"
    assert calls == [
        (
            "cyclic",
            6,
            1000,
            cyclic.block_sizes.tolist(),
            {"seed": 3, "payload": "float64", "substitute": False, "grouped": False},
        ),
        (
            "cyclic",
            6,
            1000,
            cyclic.block_sizes.tolist(),
            {"seed": 0, "payload": "float64", "substitute": False, "grouped": True},
        ),
        ("repetition", 6, 1000, cyclic.block_sizes.tolist(), {}),
        ("repetition", 6, 1000, repetition.block_sizes.tolist(), {}),
    ]
    with pytest.raises(
        ArgumentValueError, match="code: expected one of auto, cyclic, grouped, repetition; got 'mds'"
    ):
        cyclic.schedule("mds")


def test_a_code_with_which_a_worker_would_hold_too_much_is_refused():
    plan = cgc.plan(12, 1000, stats.expon(loc=1, scale=3), samples=12, max_parts=6)
    assert parts_stored(plan.schedule()) == 6
    with pytest.raises(ArgumentValueError, match=r"max_parts = 6 parts; got 'grouped', .* one holds 8"):
        plan.schedule("grouped")
    free = cgc.plan(12, 1000, stats.expon(loc=1, scale=3), samples=12)
    assert parts_stored(free.schedule("grouped")) == 12


# --- the command ---


def run(*arguments):
    return CliRunner().invoke(app, ["plan", *map(str, arguments)])


def test_composed_laws_on_the_command_line():
    law = "Mixture(0.9*expon(loc=50, scale=1000), 0.1*Never(expon(loc=50, scale=1000), 0.5))"
    options = ("--workers", 4, "--coordinates", 100, "--method", "single_level", "--min-redundancy", 1)
    result = run(*options, "--cycle-time", law)
    assert result.exit_code == 0
    assert law in " ".join(result.output.split())
    result = run(*options, "--cycle-time", "Mixture(expon())")
    assert result.exit_code == 2
    assert "expected text like" in result.output


LAW_OPTIONS = ("--workers", 6, "--coordinates", 1000, "--cycle-time", "expon(loc=50, scale=1000)")


def test_command_prints_the_plan_as_json(tmp_path):
    result = run(*LAW_OPTIONS, "--samples", 30, "--draws", 2000, "--json", "--save", tmp_path / "plan.json")
    assert result.exit_code == 0, result.output
    expected = make(samples=30.0).to_dict()
    assert json.loads(result.stdout) == expected
    assert cgc.Plan.load(tmp_path / "plan.json").to_dict() == expected


def test_command_prints_a_table():
    result = run(*LAW_OPTIONS, "--method", "uncoded", "--forward-cycles", 5)
    assert result.exit_code == 0, result.output
    assert "uncoded" in result.stdout
    assert "100.0%" in result.stdout


def test_command_reads_a_trace(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("1,2,3\n2,2,9\n")
    result = run("--coordinates", 12, "--trace", path, "--json", "--scheme", "fractional_repetition")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert plan["workers"] == 3
    assert plan["cycle_time"]["times"] == [[1, 2, 3], [2, 2, 9]]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--coordinates", 5, "--workers", 3), "exactly one of"),
        (("--coordinates", 5, "--cycle-time", "expon()"), "--workers"),
        (("--coordinates", 5, "--workers", 3, "--cycle-time", "expon(3"), "expected text like"),
        (("--coordinates", 5, "--workers", 3, "--cycle-time", "expon()", "--method", "best"), "'best'"),
        (("--coordinates", 0, "--workers", 3, "--cycle-time", "expon()"), "an integer >= 1, got 0"),
        (("--coordinates", 5, "--trace", "no_such_file.csv"), "no_such_file.csv"),
    ],
)
def test_command_refuses(arguments, match):
    result = run(*arguments)
    assert result.exit_code == 2
    assert match in result.output
    assert "Traceback" not in result.output
