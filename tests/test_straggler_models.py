"""Models of cycle times: what is accepted, what is refused, draws, JSON form, law text."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cgc_fast.errors import ArgumentTypeError, ArgumentValueError
from cgc_fast.straggler_models import (
    IdenticalLaw,
    LawPerWorker,
    Trace,
    as_straggler_model,
    law_text,
    parse_law,
    straggler_model_from_dict,
)

SHIFTED = stats.expon(loc=50, scale=1000)


class UsersLaw(stats.rv_continuous):
    def _pdf(self, x):
        return np.exp(-x)


def generator():
    return np.random.default_rng(7)


def test_a_law_is_shared_by_all_workers():
    model = as_straggler_model(SHIFTED, 3)
    assert isinstance(model, IdenticalLaw)
    times = model.draw(generator(), 4)
    assert times.shape == (4, 3)
    assert times.min() > 50
    np.testing.assert_array_equal(times, model.draw(generator(), 4))


def test_a_sequence_gives_each_worker_its_law():
    model = as_straggler_model([stats.uniform(w + 1, 0.5) for w in range(4)], 4)
    assert isinstance(model, LawPerWorker)
    times = model.draw(generator(), 100)
    for worker in range(4):
        assert worker + 1 <= times[:, worker].min() <= times[:, worker].max() <= worker + 1.5


def test_a_trace_draws_whole_rows():
    times = np.arange(1.0, 13.0).reshape(4, 3)
    drawn = as_straggler_model(Trace(times), 3).draw(generator(), 200)
    assert {tuple(row) for row in drawn} == {tuple(row) for row in times}


def test_a_trace_is_a_copy_that_cannot_change():
    times = np.ones((2, 2))
    trace = Trace(times)
    times[0, 0] = 5.0
    assert trace.times[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        trace.times[0, 0] = 2.0


def test_draws_that_underflow_stay_positive():
    law = stats.gamma(0.001)  # half its mass is below the smallest double
    assert law.rvs(1000, random_state=generator()).min() == 0
    assert as_straggler_model(law, 2).draw(generator(), 1000).min() > 0


@pytest.mark.parametrize(
    ("law", "error", "match"),
    [
        (stats.norm(10, 1), ArgumentValueError, r"positive half-line.*norm\(10, 1\).*probability 7\.6"),
        (stats.expon(loc=-1), ArgumentValueError, "positive half-line"),
        (stats.poisson(3), ArgumentValueError, "at or below 0"),
        (stats.expon(scale=-1), ArgumentValueError, "impossible parameters"),
        (stats.expon(scale=np.nan), ArgumentValueError, "impossible parameters"),
        (stats.expon(scale=[1.0, 2.0]), ArgumentValueError, "sequence of laws"),
        (stats.expon, ArgumentTypeError, "expon without parameters"),
        (np.ones((3, 2)), ArgumentTypeError, r"cgc\.Trace"),
        ("expon", ArgumentTypeError, "got str"),
        (3.0, ArgumentTypeError, "got float"),
        (None, ArgumentTypeError, "got NoneType"),
        ([SHIFTED, stats.expon], ArgumentTypeError, r"cycle_time\[1\].*expon has no parameters"),
        ([SHIFTED, 3], ArgumentTypeError, r"cycle_time\[1\].*got int"),
        ([SHIFTED] * 3, ArgumentValueError, "expected 2 laws, one per worker, got 3"),
        (Trace(np.ones((5, 3))), ArgumentValueError, "expected 2 columns, one per worker, got 3"),
    ],
)
def test_what_is_no_model_is_refused(law, error, match):
    with pytest.raises(error, match=match):
        as_straggler_model(law, 2)


@pytest.mark.parametrize(
    ("times", "censored", "error", "match"),
    [
        ([1.0, 2.0], None, ArgumentValueError, r"got \(2,\)"),
        (np.ones((0, 3)), None, ArgumentValueError, "at least"),
        ([[1.0, np.nan]], None, ArgumentValueError, "got nan at row 0, worker 1"),
        ([[1.0, 1.0], [0.0, 1.0]], None, ArgumentValueError, "got 0.0 at row 1, worker 0"),
        ([[-1.0]], None, ArgumentValueError, "positive"),
        ([["a"]], None, ArgumentTypeError, "numbers"),
        ([[1.0], [1.0, 2.0]], None, ArgumentTypeError, "numbers"),
        ([[1.0]], [[1]], ArgumentTypeError, "booleans"),
        ([[1.0]], [True], ArgumentValueError, "shape of times"),
    ],
)
def test_bad_traces_are_refused(times, censored, error, match):
    with pytest.raises(error, match=match):
        Trace(times, censored)


@pytest.mark.parametrize(
    "cycle_time",
    [
        SHIFTED,
        stats.gamma(2.5, scale=3),
        stats.randint(1, 9),
        [SHIFTED, stats.lognorm(0.5), stats.weibull_min(c=1.7, scale=2.0)],
        Trace([[1.0, np.inf, 0.1], [2.0, 3.0, 1 / 3]]),
        Trace([[1.0, 2.0, 3.0]], censored=[[False, True, False]]),
    ],
)
def test_json_form_gives_the_same_draws(cycle_time):
    model = as_straggler_model(cycle_time, 3)
    again = straggler_model_from_dict(json.loads(json.dumps(model.to_dict(), allow_nan=False)))
    np.testing.assert_array_equal(again.draw(generator(), 20), model.draw(generator(), 20))
    assert repr(again) == repr(model)
    if isinstance(model, Trace):
        np.testing.assert_array_equal(again.censored, model.censored)


def test_a_law_of_the_users_own_has_no_json_form():
    law = UsersLaw(a=0.0, name="expon")()  # the name alone must not make it SciPy's
    assert IdenticalLaw(law, 2).to_dict() is None
    assert LawPerWorker([SHIFTED, law]).to_dict() is None
    assert straggler_model_from_dict(None) is None


def test_unknown_json_forms_are_refused():
    with pytest.raises(
        ArgumentValueError, match="expected one of at_most_never, law, laws, trace; got 'oracle'"
    ):
        straggler_model_from_dict({"kind": "oracle"})
    with pytest.raises(ArgumentValueError, match=r"expon.*got 'linspace'"):
        straggler_model_from_dict(
            {"kind": "law", "workers": 2, "law": {"name": "linspace", "args": [], "keywords": {}}}
        )


def test_a_trace_is_read_from_csv(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("# seconds\n1,2.5\ninf,4\n")
    np.testing.assert_array_equal(Trace.from_csv(path).times, [[1, 2.5], [np.inf, 4]])
    path.write_text("1,two\n")
    with pytest.raises(ArgumentValueError, match=r"trace\.csv"):
        Trace.from_csv(path)
    path.write_text("# nothing\n")
    with pytest.raises(ArgumentValueError, match="at least"):
        Trace.from_csv(path)


@given(loc=st.floats(0, 1e6), scale=st.floats(1e-6, 1e6))
def test_law_text_is_read_back(loc, scale):
    law = parse_law(f"expon(loc={loc!r}, scale={scale!r})")
    assert law.mean() == stats.expon(loc=loc, scale=scale).mean()
    assert parse_law(law_text(law)).dist.name == "expon"


def test_law_text_takes_shapes_and_the_module_name():
    assert parse_law(" stats.gamma(2, scale=3) ").mean() == 6
    assert parse_law("pareto(b=3)").mean() == 1.5


@pytest.mark.parametrize(
    "text",
    [
        "lognorm(1.5, scale=20)",
        "Mixture(0.9*expon(loc=1), 0.1*expon(loc=10))",
        "Never(expon(loc=50, scale=1000), 0.05)",
        "Never(Mixture(0.25*Never(uniform(loc=1), 0.5), 0.75*atoms({2: 1})), 0.125)",
        "atoms({1: 0.75, 3.5: 0.25})",
    ],
)
def test_laws_print_what_is_read(text):
    law = parse_law(text)
    assert law_text(law) == text
    assert law_text(parse_law(text.lower().replace("expon(", " stats.expon( "))) == text
    if text.startswith(("Mixture", "Never")):
        assert repr(law) == text


def test_composed_laws_are_the_ones_of_the_text():
    law = parse_law("mixture(0.333333*expon(loc=1), 0.666667*atoms({2: 0.5, 4: 0.5}))")
    assert law.mean() == pytest.approx(2 / 3 + 2, rel=1e-6)
    law = parse_law("never(uniform(loc=1), 0.2)")
    assert law.cdf([1.5, 2.0, np.inf]).tolist() == pytest.approx([0.4, 0.8, 1.0])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("mixture()", r"Mixture\(0.9\*expon"),
        ("mixture(expon())", "expected text like"),
        ("mixture(0.5+expon(), 0.5*expon())", "expected text like"),
        ("mixture(0.5*expon(), weight=0.5)", "expected text like"),
        ("mixture(0.5*expon(), 0.6*expon())", "weights: expected the sum 1"),
        ("mixture(expon()*1)", "expected text like"),
        ("never(expon())", r"Never\(expon"),
        ("never(0.05, expon())", "expected text like"),
        ("never(expon(), 1.5)", r"probability: expected a number in \[0, 1\)"),
        ("never(Never(expon(loc=-2), 0.5), 0.5)", "positive half-line"),
        ("atoms(1)", "expected text like"),
        ("atoms({1: 0.5})", "atoms: expected distinct values"),
        ("atoms({1: 0.5, 1: 0.5})", "atoms: expected distinct values"),
        ("atoms({0: 1})", "positive half-line"),
        ("atoms({**{1: 1}})", "expected text like"),
        ("expon(scale=True)", "expected text like"),
        ("expon(\0)", "expected text like"),
        ("expon", "expected text like"),
        ("expon(", "expected text like"),
        ("expon(loc=__import__('os').getpid())", "expected text like"),
        ("expon(*[1])", "expected text like"),
        ("expon(**{'loc': 1})", "expected text like"),
        ("expon(loc='1 2')", "expected text like"),
        ("np.stats.expon()", "expected text like"),
        (
            "exponential(3)",
            "law: expected one of Mixture, Never, alpha, .*atoms, .*expon, .*got 'exponential'",
        ),
        ("poisson(3)", "got 'poisson'"),
        ("linregress(1, 2)", "got 'linregress'"),
        ("gamma()", "gamma does not take these parameters.*it has a, loc and scale"),
        ("expon(rate=3)", "no shape parameters, loc and scale"),
        ("expon(loc=-3)", "positive half-line"),
    ],
)
def test_other_law_texts_are_refused(text, match):
    with pytest.raises(ArgumentValueError, match=match):
        parse_law(text)
