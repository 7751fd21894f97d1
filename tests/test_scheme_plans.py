"""Plans of the schemes without block sizes, and the choice among all schemes."""

from __future__ import annotations

import functools
import itertools
import json
from typing import ClassVar

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

import cgc_fast as cgc
from cgc_fast import baselines
from cgc_fast.arguments import Cost
from cgc_fast.cli import app
from cgc_fast.datasets import TRACES, load_trace
from cgc_fast.errors import ArgumentValueError
from cgc_fast.hold_out import halves, is_larger, per_iteration, standard_error
from cgc_fast.planning import SCHEMES
from cgc_fast.scheme_choice import _choice
from cgc_fast.scheme_report import parts_stored
from cgc_fast.scheme_search import plan_fractional_repetition, plan_load_balancing, plan_walked
from cgc_fast.scheme_search.fractional_repetition import improve_exactly
from cgc_fast.scheme_search.nested_groups import NestedGroups, nests
from cgc_fast.schemes import fractional_repetition_schedule, load_balancing_schedule, uncoded_schedule
from cgc_fast.schemes.circles import Block, contiguous_groups
from cgc_fast.straggler_models import IdenticalLaw
from own_problems import Quadratic

LAW = stats.expon(loc=50, scale=1000)
SEARCHED = ["load_balancing", "pairs", "shared_samples", "walked"]
# How each scheme is asked for a plan without block sizes.
SEARCH = {name: {"scheme": name} for name in SEARCHED}
SEARCH["fractional_repetition"] = {"scheme": "fractional_repetition", "method": "search"}


def make(workers=4, coordinates=120, cycle_time=LAW, draws=300, **keywords):
    return cgc.plan(workers, coordinates, cycle_time, draws=draws, samples=workers, **keywords)


@functools.cache
def made(name):
    return make(**SEARCH[name])


# --- one scheme ---


@pytest.mark.parametrize("name", sorted(SEARCH))
class TestEveryScheme:
    def test_the_plan_is_that_of_its_schedule(self, name):
        plan = made(name)
        assert plan.scheme == name
        assert plan.method == "search"
        assert plan.block_sizes is plan.relaxed_block_sizes is None
        schedule = plan.schedule()
        assert schedule.feedback == plan.parameters["feedback"]
        times = LAW.rvs((4000, 4), random_state=7)
        fresh = cgc.simulate(schedule, times, samples=4)
        error = np.hypot(plan.expected_runtime_standard_error, standard_error(fresh))
        assert abs(plan.expected_runtime - fresh.mean()) <= 5 * error
        threshold = float(np.median(fresh))
        inside, late = plan.completion_probability(threshold), plan.failure_probability(threshold)
        assert abs(inside - 0.5) < 0.15  # of 300 draws: 5 standard errors
        assert inside + late == pytest.approx(1.0)
        tolerance = min(map(schedule.tolerance, range(len(schedule.cells))))
        assert plan.coordinate_redundancy.shape == (120,)
        assert plan.coordinate_redundancy.min() == tolerance
        (score,) = plan.scheme_report.scores
        assert score.parts == parts_stored(schedule)
        for text in (plan.summary(), repr(plan)):
            assert name in text

    def test_it_comes_back_from_a_file(self, name, tmp_path):
        plan = made(name)
        plan.save(tmp_path / "plan.json")
        again = cgc.Plan.load(tmp_path / "plan.json")
        assert again.to_dict() == plan.to_dict()
        times = LAW.rvs((5, 4), random_state=1)
        assert (cgc.simulate(again.schedule(), times) == cgc.simulate(plan.schedule(), times)).all()

    def test_it_is_drawn(self, name):
        matplotlib = pytest.importorskip("matplotlib")
        matplotlib.use("Agg")
        from matplotlib import pyplot as plt

        ax = made(name).plot()
        assert name in ax.get_title(loc="left")
        assert ax.get_xlim() == (0, 120)
        plt.close("all")

    def test_gradients_are_exact(self, name):
        plan = made(name)
        problem = Quadratic.random(23, 120)
        theta = np.random.default_rng(1).normal(size=120)
        cycle_times = LAW.rvs((2, 4), random_state=3)
        with cgc.Cluster(plan.schedule(), problem, engine="serial", cycle_times=cycle_times) as cluster:
            for _ in range(2):
                error = abs(cluster.gradient(theta) - problem.gradient(theta)).max()
                assert error <= 1e-12 * problem.scale(theta, 4)

    def test_the_rows_of_a_trace_are_the_model(self, name):
        trace = cgc.Trace(np.random.default_rng(0).exponential(1.0, (41, 4)) + 0.2)
        plan = make(cycle_time=trace, **SEARCH[name])
        assert plan.expected_runtime == pytest.approx(
            cgc.simulate(plan.schedule(), trace.times, samples=4).mean(), rel=1e-12
        )
        assert plan.expected_runtime_standard_error == 0
        assert plan.scheme_report.draws == 20  # the second half of the rows

    def test_the_command_prints_and_saves_it(self, name, tmp_path):
        options = ["--workers", "4", "--coordinates", "120", "--cycle-time", "expon(loc=50, scale=1000)"]
        options += ["--samples", "4", "--draws", "300"]
        options += [f"--{key}={value}" for key, value in SEARCH[name].items()]
        result = CliRunner().invoke(app, ["plan", *options, "--save", str(tmp_path / "plan.json")])
        assert result.exit_code == 0, result.output
        assert f"{name} plan, 4 workers" in result.stdout
        assert cgc.Plan.load(tmp_path / "plan.json").to_dict() == made(name).to_dict()
        result = CliRunner().invoke(app, ["simulate", str(tmp_path / "plan.json"), "--draws", "50", "--json"])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["schemes"][0]["scheme"] == name


def test_feedback_is_asked_for():
    told, untold = make(scheme="pairs", feedback="announce"), made("pairs")
    assert told.schedule().feedback == told.parameters["feedback"] == "announce"
    assert told.scheme_report.scores[0].values_sent < untold.scheme_report.scores[0].values_sent
    free, slow = (make(scheme="shared_samples", latency=latency) for latency in (0.0, 3e3))
    assert free.expected_runtime < slow.expected_runtime
    assert slow.parameters["latency"] == 3e3


def test_limits_are_kept():
    plan = make(6, scheme="walked", max_parts=3, min_redundancy=1, boundaries=[10, 35, 70])
    schedule = plan.schedule()
    assert parts_stored(schedule) <= 3
    assert min(map(schedule.tolerance, range(len(schedule.cells)))) >= 1
    cuts = {cut for cell in schedule.cells for cut in (cell.start, cell.stop)}
    assert cuts <= {0, 10, 35, 70, 120}


def test_censored_rows_are_imputed():
    rng = np.random.default_rng(0)
    times = rng.exponential(1.0, (30, 4)) + 0.2
    stopped = times > np.sort(times, axis=1)[:, [2]]
    seen = np.where(stopped, np.sort(times, axis=1)[:, [2]], times)
    plan = make(cycle_time=cgc.Trace(seen, stopped), scheme="pairs")
    as_seen = cgc.simulate(plan.schedule(), seen, samples=4).mean()
    assert plan.expected_runtime > as_seen  # who was stopped would have taken longer
    assert make(cycle_time=cgc.Trace(seen, stopped), scheme="auto").expected_runtime > 0


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"scheme": "paris"}, f"^scheme: expected one of {', '.join(SCHEMES)}; got 'paris'"),
        ({"scheme": "pairs", "method": "exact"}, "^method: expected one of search; got 'exact'"),
        ({"scheme": "cyclic", "method": "search"}, "^method: expected one of exact, .*got 'search'"),
        ({"scheme": "auto", "method": "search"}, "^method: expected None for the scheme auto"),
        (
            {"scheme": "pairs", "feedback": "claim"},
            "^feedback: expected none or announce for the scheme pairs",
        ),
        ({"scheme": "shared_samples", "feedback": "none"}, "^feedback: expected claim for the scheme shared"),
        ({"scheme": "cyclic", "feedback": "announce"}, "^feedback: expected none for the scheme cyclic"),
        ({"scheme": "pairs", "feedback": "loud"}, "^feedback: expected one of announce, claim, none"),
        ({"scheme": "pairs", "sequential": True}, "^scheme pairs: expected sequential=False"),
        ({"scheme": "walked", "min_block": 2}, "^min_block: expected 1 for the method search"),
        (
            {"scheme": "cyclic", "max_values_sent": 0.5},
            "^max_values_sent: expected at least 1, got 0.5: a worker of the scheme cyclic",
        ),
        (
            {"scheme": "shared_samples", "max_values_sent": 0.9},
            "^max_values_sent: expected at least 1, got 0.9",
        ),
        ({"scheme": "pairs", "max_values_sent": 0.4}, "^max_values_sent: expected more than 0.4"),
        ({"scheme": "walked", "max_values_sent": 0.2}, "^max_values_sent: expected more than 0.2"),
        (
            {"scheme": "pairs", "max_values_sent": 0.9, "min_redundancy": 1},
            "expected cells that survive 1 losses",
        ),
        ({"max_values_sent": 0}, "^max_values_sent: expected a finite number > 0"),
        (
            {"scheme": "load_balancing", "min_redundancy": 1},
            "^scheme load_balancing: expected min_redundancy 0",
        ),
        ({"scheme": "pairs", "min_redundancy": 2}, "a pair survives one death"),
        ({"latency": -1.0}, "^latency: expected a finite number >= 0"),
        (
            {"scheme": "pairs", "objective": "completion_probability", "threshold": 1.0},
            "^objective: expected expected_runtime for the scheme pairs, got completion_probability",
        ),
        ({"scheme": "auto", "objective": "completion_probability"}, "^threshold: expected seconds > 0"),
        ({"scheme": "auto", "min_redundancy": 3, "max_parts": 3}, "^scheme auto: .*pairs: .*walked: "),
    ],
)
def test_what_cannot_be_is_refused(arguments, match):
    with pytest.raises(ArgumentValueError, match=match):
        make(**arguments)


def test_a_plan_without_block_sizes_has_one_schedule():
    with pytest.raises(
        ArgumentValueError, match="code: expected None or 'auto' for a plan of the scheme pairs"
    ):
        made("pairs").schedule("cyclic")


# --- load balancing ---


def test_load_balancing_shares_by_mean_speed():
    times = np.array([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]])
    planned = plan_load_balancing(times, 10, Cost(7))
    np.testing.assert_allclose(np.diff(planned.parameters["bounds"]), np.array([4, 2, 1]) / 7)
    assert planned.in_sample.runtime == pytest.approx(baselines.load_balancing(times, 10, samples=7).mean())
    silent = plan_load_balancing(np.array([[1.0, np.inf], [1.0, 2.0]]), 10, Cost(2))
    assert silent.parameters["bounds"] == [0.0, 1.0, 1.0]
    assert [len(walk) for walk in silent.schedule().walks] == [1, 0]


def test_uncoded_is_load_balancing_with_equal_shares():
    times = np.random.default_rng(0).random((5, 3)) + 1
    same = [
        cgc.simulate(made, times)
        for made in (uncoded_schedule(3, 7), load_balancing_schedule(3, 7, [0, 1 / 3, 2 / 3, 1]))
    ]
    np.testing.assert_array_equal(*same)
    with pytest.raises(ArgumentValueError, match="bounds: expected 4 fractions"):
        load_balancing_schedule(3, 7, [0, 0.5, 1])


# --- exact runtimes of nested groups ---


CHAINS = [
    (8, [8, 4, 2, 1], 0.0),
    (8, [4, 1], 0.0),
    (12, [12, 6, 3, 1], 30.0),
    (6, [6], 0.0),
    (7, [7, 1], 5.0),
]


@pytest.mark.parametrize(("workers", "counts", "forward"), CHAINS)
@pytest.mark.parametrize("law", [LAW, stats.uniform(1, 1), stats.weibull_min(0.7), stats.pareto(3.0)])
def test_nested_groups_are_exact(workers, counts, forward, law):
    blocks = [Block(20 + 10 * k, contiguous_groups(workers, g)) for k, g in enumerate(counts)]
    assert nests(blocks)
    ends = np.cumsum([block.size / len(block.groups) for block in blocks])
    cycles = ends + forward / np.array(counts)
    found = NestedGroups(IdenticalLaw(law, workers), [block.groups for block in blocks])
    coordinates = sum(block.size for block in blocks)
    times = law.rvs((200_000, workers), random_state=0)
    schedule = fractional_repetition_schedule(workers, coordinates, blocks=blocks)
    done = cgc.simulate(schedule, times, forward_cycles=forward, threads=2)
    assert abs(found.mean(cycles) - done.mean()) <= 4 * standard_error(done)
    for level in (0.1, 0.5, 0.9):
        at = float(np.quantile(done, level))
        late = (done > at).mean()
        assert abs(found.failure(np.array([at]), cycles)[0] - late) <= 4 * (0.25 / len(done)) ** 0.5


def test_one_group_is_the_fastest_of_all():
    found = NestedGroups(IdenticalLaw(stats.expon(), 5), [contiguous_groups(5, 1)])
    assert found.mean(np.array([3.0])) == pytest.approx(3.0 / 5, rel=1e-9)
    apart = NestedGroups(IdenticalLaw(stats.expon(), 5), [contiguous_groups(5, 5)])
    assert apart.mean(np.array([1.0])) == pytest.approx(sum(1 / k for k in range(1, 6)), rel=1e-9)


def test_what_does_not_nest_is_told():
    assert not nests([Block(1, contiguous_groups(6, 3)), Block(1, contiguous_groups(6, 2))])
    assert not nests([Block(1, contiguous_groups(4, 2), [0, 0.3, 1])])
    assert not nests([Block(1, contiguous_groups(4, 1), starts=2)])


def test_exact_sizes_are_the_best_of_their_neighbours():
    model, cost = IdenticalLaw(LAW, 4), Cost(4)
    planned = plan_fractional_repetition(LAW.rvs((100, 4), random_state=0), 1000, cost)
    improved, value = improve_exactly(model, planned, cost)
    blocks = [Block.of(block) for block in improved.parameters["blocks"]]
    groups = NestedGroups(model, [block.groups for block in blocks])
    heights = 4 / np.array([len(block.groups) for block in blocks])
    sizes = np.array([block.size for block in blocks])

    def mean(sizes):
        return groups.mean(np.cumsum(sizes * heights))

    assert len(blocks) > 1
    assert mean(sizes) == pytest.approx(value, rel=1e-12)
    assert value <= mean([block["size"] for block in planned.parameters["blocks"]])
    for i, j in itertools.permutations(range(len(sizes)), 2):
        moved = sizes.copy()
        moved[i] += 20
        moved[j] -= 20
        assert mean(moved) > value
    plan = make(coordinates=1000, **SEARCH["fractional_repetition"])
    assert plan.expected_runtime_standard_error == 0


# --- the choice ---


def test_auto_takes_the_best_and_says_why():
    plan = make(8, 2000, scheme="auto", draws=2000)
    report = plan.scheme_report
    names = [score.name for score in report.scores]
    assert plan.scheme == names[0] == "walked"
    assert sorted(names) == [
        "cyclic",
        "fractional_repetition",
        "load_balancing",
        "pairs",
        "uncoded",
        "walked",
    ]
    assert [score.runtime for score in report.scores] == sorted(score.runtime for score in report.scores)
    assert report.scores[0].excess == 0
    assert all(score.excess > 2 * score.excess_standard_error for score in report.scores[1:])
    assert report.margin == pytest.approx(report.scores[1].runtime / report.scores[0].runtime - 1)
    assert "walked is the fastest" in plan.summary()
    again = type(report).from_dict(json.loads(json.dumps(report.to_dict())))
    assert again == report
    alone = make(8, 2000, scheme="walked", draws=2000)
    assert alone.parameters == plan.parameters


def test_auto_takes_what_is_complete_by_the_threshold_most_often():
    asked = {"scheme": "auto", "objective": "completion_probability", "draws": 1000}
    plan = make(8, 2000, threshold=2e6, **asked)
    assert plan.scheme == "walked"
    assert plan.objective == "completion_probability"
    scores = {score.name: score for score in plan.scheme_report.scores}
    assert [score.late for score in scores.values()] == sorted(score.late for score in scores.values())
    assert plan.failure_probability(2e6) == pytest.approx(scores["walked"].late, abs=0.1)
    # What has block sizes was made for the threshold.
    cyclic = make(8, 2000, threshold=2e6, **{**asked, "scheme": "cyclic"})
    error = scores["cyclic"].late_standard_error
    assert scores["cyclic"].late == pytest.approx(cyclic.failure_probability(2e6), abs=4 * error)
    assert plan.scheme_report.margin == pytest.approx(
        plan.scheme_report.scores[1].late - scores["walked"].late
    )
    assert f"walked is late in {scores['walked'].late:.2%} of the draws" in plan.summary()
    report = plan.scheme_report
    assert type(report).from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_a_threshold_that_tells_nothing():
    asked = {"scheme": "auto", "objective": "completion_probability", "draws": 200}
    impossible = make(4, 200, threshold=1.0, **asked)
    assert "nothing is complete by the threshold in any draw" in impossible.scheme_report.reason
    assert impossible.scheme == make(4, 200, scheme="auto", draws=200).scheme
    ample = make(4, 200, threshold=1e9, **asked)
    assert ample.method == "uncoded"  # it stores least
    assert ample.scheme_report.margin == 0


def test_the_threshold_of_a_trace_is_judged_on_its_second_half():
    rows = np.random.default_rng(0).exponential(1.0, (60, 4)) + 0.2
    asked = {"scheme": "auto", "objective": "completion_probability", "draws": 200}
    plan = make(cycle_time=cgc.Trace(rows), threshold=200.0, **asked)
    (uncoded,) = (score for score in plan.scheme_report.scores if score.name == "uncoded")
    done = baselines.uncoded(rows[30:], 120, samples=4)
    assert uncoded.late == (done > 200.0).mean()


def test_feedback_schemes_compete_only_if_allowed():
    plan = make(6, 300, scheme="auto", feedback="claim", forward_cycles=300.0)
    assert plan.scheme == "shared_samples"
    notes = {score.name: score.note for score in plan.scheme_report.scores}
    assert "announce" in notes["pairs"]
    announced = make(6, 300, scheme="auto", feedback="announce", forward_cycles=300.0)
    assert "shared_samples" not in {score.name for score in announced.scheme_report.scores}
    assert "shared_samples" not in announced.scheme_report.refused


@pytest.mark.parametrize("feedback", ["none", "announce"])
@pytest.mark.parametrize(
    ("scheme", "most"), [("pairs", 0.5), ("pairs", 0.7), ("walked", 0.3), ("walked", 1 / 6)]
)
def test_workers_that_may_not_send_everything(scheme, most, feedback):
    plan = make(6, 240, scheme=scheme, max_values_sent=most, feedback=feedback)
    schedule = plan.schedule()
    for walk in schedule.walks:
        assert sum(schedule.cells[cell].width for cell in walk.cells) <= most * 240 + 1e-9
    assert plan.coordinate_redundancy.min() >= 0
    (score,) = plan.scheme_report.scores
    free = make(6, 240, scheme=scheme, feedback=feedback)
    assert score.values_sent <= 6 * most
    if feedback == "none":  # else pairs send nothing twice, whatever the limit
        assert score.values_sent < free.scheme_report.scores[0].values_sent
    assert plan.expected_runtime > free.expected_runtime
    problem = Quadratic.random(23, 240)
    theta = np.random.default_rng(1).normal(size=240)
    cycle_times = LAW.rvs((2, 6), random_state=3)
    with cgc.Cluster(schedule, problem, engine="serial", cycle_times=cycle_times) as cluster:
        for _ in range(2):
            error = abs(cluster.gradient(theta) - problem.gradient(theta)).max()
            assert error <= 1e-12 * problem.scale(theta, 6)


def test_workers_of_different_speeds_that_may_not_send_everything():
    laws = [stats.expon(loc=1.0 + w % 3, scale=1.0) for w in range(7)]
    for scheme in ("pairs", "walked"):
        plan = make(7, 210, laws, scheme=scheme, max_values_sent=0.8, min_redundancy=0)
        schedule = plan.schedule()
        assert max(sum(schedule.cells[c].width for c in walk.cells) for walk in schedule.walks) <= 168
    survives = make(7, 210, laws, scheme="walked", max_values_sent=0.8, min_redundancy=2)
    assert survives.coordinate_redundancy.min() >= 2


def test_auto_takes_who_can_send_less():
    plan = make(6, 240, scheme="auto", max_values_sent=0.4)
    assert plan.scheme == "walked"
    assert {"uncoded", "cyclic", "load_balancing", "fractional_repetition", "pairs"} == set(
        plan.scheme_report.refused
    )


def test_auto_says_what_does_not_fit():
    plan = make(6, 300, scheme="auto", sequential=True, max_parts=2)
    assert set(plan.scheme_report.refused) == {"pairs", "walked"}
    assert parts_stored(plan.schedule()) <= 2
    assert "not considered    pairs: " in plan.summary()
    # The simplest stays where nothing is better.
    equal = make(5, 100, cycle_time=stats.uniform(1.0, 1e-9), scheme="auto", forward_cycles=10.0)
    assert equal.method == "uncoded"
    survives = make(6, 300, scheme="auto", min_redundancy=1)
    assert {"uncoded", "load_balancing"} <= set(survives.scheme_report.refused)
    assert survives.coordinate_redundancy.min() >= 1


def test_the_command_shows_the_table():
    options = ["plan", "--workers", "4", "--coordinates", "60", "--cycle-time", "expon(loc=50, scale=1000)"]
    result = CliRunner().invoke(app, [*options, "--scheme", "auto", "--draws", "200", "--max-parts", "2"])
    assert result.exit_code == 0, result.output
    for name in ("uncoded", "cyclic", "pairs", "walked", "load_balancing", "fractional_repetition"):
        assert name in result.stdout
    assert "chosen " in result.stdout


def copies():
    for name in sorted(TRACES):
        times = load_trace(name).times
        yield name, times
        yield f"{name}, shuffled in each row", np.random.default_rng(0).permuted(times, axis=1)
        yield f"{name}, rows shuffled", np.random.default_rng(1).permutation(times)
        yield f"{name}, rotated", np.roll(times, len(times) // 3, axis=0)


@pytest.mark.parametrize("times", [pytest.param(times, id=name) for name, times in copies()])
def test_auto_is_never_worse_than_uncoded_or_load_balancing(times):
    """Planned on the first half of the rows, scored on the second; the bench does it without the limit."""
    first, second = halves(times)
    workers = times.shape[1]
    plan = cgc.plan(workers, 2000, cgc.Trace(first), scheme="auto", samples=workers, max_parts=2, draws=300)
    own = cgc.simulate(plan.schedule(), second, samples=workers)
    speeds = 1.0 / first.mean(axis=0)
    for other in (
        baselines.uncoded(second, 2000, samples=workers),
        baselines.load_balancing(second, 2000, speeds, samples=workers),
    ):
        assert not is_larger(own, other), (plan.scheme, own.mean(), other.mean())


def test_measured_speeds_are_planned_for_with_an_insurance():
    """Two workers of the second half are four times slower than ever in the first."""
    first, second = halves(load_trace("gpu_training_10_workers").times)
    plan = cgc.plan(10, 2000, cgc.Trace(first), scheme="auto", samples=10, draws=300)
    assert plan.coordinate_redundancy.min() >= 1
    own = cgc.simulate(plan.schedule(), second, samples=10)
    assert own.mean() <= 0.25 * baselines.uncoded(second, 2000, samples=10).mean()


class TestChoice:
    """Of runtimes on common draws."""

    parts: ClassVar = {"walked": 10.0, "pairs": 2.0, "load_balancing": 1.3, "uncoded": 1.0}

    @staticmethod
    def runtimes(**means):
        base = np.random.default_rng(0).normal(1.0, 0.01, 100)
        return {name: mean * base for name, mean in means.items()}

    def test_a_law_is_taken_at_its_word(self):
        runtimes = self.runtimes(walked=1.0, pairs=1.02, load_balancing=1.5)
        assert _choice(runtimes, self.parts, None)[0] == "walked"

    @pytest.mark.parametrize(("longer", "chosen"), [(1.02, "pairs"), (1.04, "walked")])
    def test_who_survives_a_loss_may_take_a_little_longer(self, longer, chosen):
        runtimes = self.runtimes(walked=1.0, pairs=longer, load_balancing=1.5)
        name, reason = _choice(runtimes, self.parts, {"pairs"})
        assert name == chosen
        assert ("waits for every worker" in reason) == (chosen == "pairs")
        assert _choice(runtimes, self.parts, {"pairs", "walked"})[0] == "walked"

    def test_but_not_than_uncoded_or_load_balancing(self):
        for simple in ("uncoded", "load_balancing"):
            runtimes = self.runtimes(**{simple: 1.0, "pairs": 1.02, "walked": 1.5})
            assert _choice(runtimes, self.parts, {"pairs", "walked"})[0] == simple

    def test_a_layout_that_survives_a_loss_may_take_a_little_longer(self):
        law = stats.expon(loc=1000, scale=1000)
        times, judge = law.rvs((300, 6), random_state=0), law.rvs((300, 6), random_state=1)

        def planned(premium):
            return plan_walked(times, 600, Cost(6), judge=judge, premium=premium)

        def groups(premium):
            return [len(block["groups"]) for block in planned(premium).parameters["blocks"]]

        assert groups(0.0) == [6, 1]  # the first block waits for everybody
        assert groups(1e-4) == [6, 1]
        assert groups(0.1) == [1]
        assert planned(0.1).in_sample.runtime <= 1.1 * planned(0.0).in_sample.runtime


# --- draws not seen ---


def test_halves_keep_iterations_together():
    rows = np.arange(14).reshape(7, 2)
    assert [len(half) for half in halves(rows)] == [4, 3]
    assert [len(half) for half in halves(np.repeat(rows, 3, axis=0), 3)] == [12, 9]
    np.testing.assert_array_equal(per_iteration(np.array([1.0, 3.0, 5.0, 5.0]), 2), [2.0, 5.0])


def test_a_difference_within_noise_is_none():
    base = np.random.default_rng(0).normal(size=100)
    assert is_larger(base + 1e-3, base)  # paired: no noise at all
    assert not is_larger(base, base)
    assert not is_larger(base + 0.1 * np.random.default_rng(1).normal(size=100), base + 0.01)
    assert is_larger(np.array([1.0, np.inf]), np.array([5.0, 5.0]))
    assert not is_larger(np.array([1.0, np.inf]), np.array([np.inf, np.inf]))
    assert not is_larger(np.array([2.0]), np.array([1.0]))
