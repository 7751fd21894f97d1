"""What the planner's public functions refuse, and the edges of what they take."""

import numpy as np
import pytest
from scipy import stats

import cgc_fast as cgc
from cgc_fast import baselines
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError
from cgc_fast.planning import METHODS

LAW = stats.expon(loc=1, scale=2)
TIMES = np.random.default_rng(0).random((5, 3)) + 1.0
SIZES = [2, 0, 3]
MEASURED = np.random.default_rng(1).exponential(size=(8, 3)) + 0.1
RAGGED = [[1.0], [1.0, 2.0]]


def plan(**arguments):
    return cgc.plan(**{"workers": 3, "coordinates": 10, "cycle_time": LAW, "draws": 100, **arguments})


def expected_runtime(**arguments):
    return cgc.expected_runtime(**{"block_sizes": SIZES, "cycle_time": LAW, "draws": 100, **arguments})


def completion_probability(**arguments):
    given = {"block_sizes": SIZES, "cycle_time": LAW, "threshold": 9.0, "draws": 100, **arguments}
    return cgc.completion_probability(**given)


def runtime(**arguments):
    return cgc.runtime(**{"block_sizes": SIZES, "cycle_times": TIMES, **arguments})


def mixture(**arguments):
    return cgc.Mixture(**{"laws": [LAW, stats.uniform(1, 2)], "weights": [0.4, 0.6], **arguments})


def never(**arguments):
    return cgc.Never(**{"law": LAW, "probability": 0.1, **arguments})


def trace(**arguments):
    return cgc.Trace(**{"times": TIMES, **arguments})


def fit(**arguments):
    return cgc.fit(**{"trace": MEASURED, **arguments})


def hierarchical_block_sizes(**arguments):
    given = {"mean_times": [1.0, 2.0, 4.0], "coordinates": 10, "layers": 3, **arguments}
    return baselines.hierarchical_block_sizes(**given)


def baseline(name):
    function = getattr(baselines, name)

    def call(**arguments):
        return function(**{"cycle_times": TIMES, "coordinates": 10, **arguments})

    call.__name__ = name
    return call


BASELINES = [
    baseline(name)
    for name in (
        "uncoded",
        "single_level",
        "partial_stragglers",
        "load_balancing",
        "hierarchical",
        "lower_bound",
    )
]
V, T = ArgumentValueError, ArgumentTypeError

# (function, parameter): values, each with the error and what its message says was expected and got.
WHOLE = [
    (0, V, "got 0"),
    (-3, V, "got -3"),
    (2.0, T, r"got 2\.0"),
    (np.nan, T, "got nan"),
    ("3", T, "got '3'"),
    (None, T, "got None"),
    (True, T, "got True"),
    (np.True_, T, "got np.True_"),
    ([3], T, r"got \[3\]"),
]
POSITIVE = [
    (0, V, "> 0, got 0"),
    (-1.5, V, r"> 0, got -1\.5"),
    (np.nan, V, "> 0, got nan"),
    (np.inf, V, "> 0, got inf"),
    ("3", T, "> 0, got '3'"),
    (None, T, "> 0, got None"),
    (True, T, "> 0, got True"),
    (np.True_, T, "> 0, got np.True_"),
    (3j, T, "> 0, got 3j"),
]
NOT_NEGATIVE = [(value, error, text.replace("> 0", ">= 0")) for value, error, text in POSITIVE[1:]]
NAMES = [("best", V, "got 'best'"), (3, V, "got 3"), (["cyclic"], V, r"got \['cyclic'\]")]
ARRAY_OF_A_NAME = [(np.array(["exact"]), V, "got array"), (np.array(["cyclic"]), V, "got array")]
SIZES_REFUSED = [
    ([1, np.nan, 1], V, "got nan at level 1"),
    ([1, -2, 1], V, "got -2 at level 1"),
    ([1, 1, np.inf], V, "got inf at level 2"),
    ([0, 0, 0], V, "only zeros"),
    ([], V, r"shape \(workers,\), got \(0,\)"),
    (3, V, r"got \(\)"),
    ([[1, 2, 3]], V, r"got \(1, 3\)"),
    (RAGGED, T, "rows of different lengths"),
    ("abc", T, "numbers, got dtype"),
    (None, T, "numbers, got dtype object"),
    ([True, False, True], T, "numbers, got dtype bool"),
    ([1j, 1, 1], T, "numbers, got dtype complex128"),
]
DRAWN_TIMES_REFUSED = [
    ([[1.0, np.nan, 2.0]], V, "positive numbers or infinity, got NaN"),
    ([[1.0, -1.0, 2.0]], V, "positive numbers or infinity"),
    ([[1.0, 0.0, 2.0]], V, "positive numbers or infinity"),
    (np.ones((2, 2, 3)), V, r"got \(2, 2, 3\)"),
    (RAGGED, T, "rows of different lengths"),
    ("abc", T, "numbers, got dtype"),
    ([["1", "2", "3"]], T, "numbers, got dtype"),
    ([[True, True, True]], T, "numbers, got dtype bool"),
    ([[1j, 2, 3]], T, "numbers, got dtype complex128"),
    (None, T, "numbers, got dtype object"),
]
MODELS_REFUSED = [
    (stats.expon, T, "distribution expon without parameters"),
    (stats.expon(scale=[1, 2, 3]), V, "expected scalar parameters"),
    (stats.expon(scale=-1), V, r"expon\(scale=-1\) has impossible parameters"),
    (stats.expon(scale=np.nan), V, r"expon\(scale=nan\) has impossible parameters"),
    (stats.expon(scale=np.inf), V, r"expon\(scale=inf\) has impossible parameters"),
    (stats.expon(loc=np.inf), V, r"expon\(loc=inf\) has impossible parameters"),
    (stats.uniform(1, 0), V, r"uniform\(1, 0\) has impossible parameters"),
    (stats.norm(3, 1), V, r"positive half-line, but norm\(3, 1\) is at or below 0 with probability 0.00135"),
    (stats.poisson(3), V, r"positive half-line, but poisson\(3\)"),
    ([LAW, LAW], V, "expected 3 laws, one per worker, got 2"),
    ([], V, "expected 3 laws, one per worker, got 0"),
    (cgc.Trace([[1.0, 2.0]]), V, "expected 3 columns, one per worker, got 2"),
    (TIMES, T, r"got an array: wrap measured times as cgc\.Trace\(times\)"),
    ("expon()", T, "got str"),
    (5.0, T, "got float"),
    (None, T, "got NoneType"),
    ({1: LAW}, T, "got dict"),
]
TABLE = {
    (plan, "workers"): WHOLE,
    (plan, "coordinates"): [*WHOLE, (2**70, V, r"at most 2\^53, got 1180591620717411303424")],
    (plan, "draws"): WHOLE,
    (plan, "seed"): WHOLE[1:],
    (plan, "min_block"): [*WHOLE, (11, V, r"1\.\.10, got 11")],
    (plan, "max_parts"): [*(row for row in WHOLE if row[0] is not None), (4, V, r"1\.\.3, got 4")],
    (plan, "min_redundancy"): [*WHOLE[1:], (3, V, r"0\.\.2, got 3")],
    (plan, "samples"): POSITIVE,
    (plan, "cycles_per_derivative"): POSITIVE,
    (plan, "forward_cycles"): NOT_NEGATIVE,
    (plan, "sequential"): [(1, T, "True or False, got 1"), (None, T, "True or False, got None")],
    (plan, "objective"): [*NAMES, *ARRAY_OF_A_NAME, (None, V, "got None")],
    (plan, "method"): [*NAMES, *ARRAY_OF_A_NAME],
    (plan, "scheme"): [*NAMES, *ARRAY_OF_A_NAME, (None, V, "got None")],
    (plan, "boundaries"): [
        ([3, 3], V, r"strictly ascending positions in 0\.\.10, got \[3, 3\]"),
        ([-1], V, r"0\.\.10, got \[-1\]"),
        ([11], V, r"0\.\.10, got \[11\]"),
        (3, V, r"one dimension, got shape \(\)"),
        ([[1, 2]], V, r"one dimension, got shape \(1, 2\)"),
        ([1.5], T, "integers, got dtype float64"),
        ([np.nan], T, "integers, got dtype float64"),
        ([True], T, "integers, got dtype bool"),
        (RAGGED, T, "integers, got rows of different lengths"),
    ],
    (plan, "cycle_time"): MODELS_REFUSED,
    (expected_runtime, "block_sizes"): SIZES_REFUSED,
    (expected_runtime, "cycle_time"): MODELS_REFUSED,
    (expected_runtime, "draws"): WHOLE,
    (expected_runtime, "seed"): WHOLE[1:],
    (expected_runtime, "samples"): POSITIVE,
    (expected_runtime, "cycles_per_derivative"): POSITIVE,
    (expected_runtime, "forward_cycles"): NOT_NEGATIVE,
    (expected_runtime, "scheme"): [*NAMES, *ARRAY_OF_A_NAME],
    (completion_probability, "block_sizes"): SIZES_REFUSED,
    (completion_probability, "cycle_time"): MODELS_REFUSED,
    (completion_probability, "draws"): WHOLE,
    (completion_probability, "seed"): WHOLE[1:],
    (completion_probability, "samples"): POSITIVE,
    (completion_probability, "forward_cycles"): NOT_NEGATIVE,
    (completion_probability, "scheme"): [*NAMES, *ARRAY_OF_A_NAME],
    (completion_probability, "threshold"): [
        (-1.0, V, "seconds >= 0, got NaN or a negative number"),
        (np.nan, V, "seconds >= 0, got NaN or a negative number"),
        ([1.0, np.nan], V, "seconds >= 0, got NaN or a negative number"),
        ("1", T, "seconds, got dtype"),
        (None, T, "seconds, got dtype object"),
        (True, T, "seconds, got dtype bool"),
        (1j, T, "seconds, got dtype complex128"),
        (RAGGED, T, "seconds, got rows of different lengths"),
    ],
    (runtime, "block_sizes"): SIZES_REFUSED,
    (runtime, "cycle_times"): [*DRAWN_TIMES_REFUSED, ([[1.0, 2.0]], V, r"\(draws, 3\), got \(1, 2\)")],
    (mixture, "laws"): [
        ([], T, r"a sequence of frozen laws, got \[\]"),
        (LAW, T, "a sequence of frozen laws, got"),
        ("expon", T, "got 'expon'"),
        (None, T, "got None"),
        ([LAW, 3.0], T, r"\[1\]: expected a frozen scipy.stats law, got float"),
        ([LAW, stats.expon], T, r"\[1\]: expected a frozen law; expon has no parameters"),
        ([LAW, stats.expon(scale=-1)], V, r"\[1\]: expon has impossible parameters"),
    ],
    (mixture, "weights"): [
        ([0.5, 0.4], V, r"the sum 1, got 0\.9"),
        ([1.0], V, "expected 2, one per law, got 1"),
        ([0.0, 1.0], V, r"\[0\]: expected a finite number > 0, got 0"),
        ([np.nan, 1.0], V, r"\[0\]: .*got nan"),
        ([1.5, -0.5], V, r"\[1\]: .*got -0\.5"),
        (["0.5", 0.5], T, r"\[0\]: .*got '0\.5'"),
        ([True, 0.5], T, r"\[0\]: .*got True"),
        (1.0, T, r"a sequence of numbers, got 1\.0"),
        (None, T, "a sequence of numbers, got None"),
        ("11", T, "a sequence of numbers, got '11'"),
    ],
    (never, "law"): [
        (3.0, T, "got float"),
        (None, T, "got NoneType"),
        (stats.expon, T, "expon has no parameters yet"),
        (stats.expon(scale=-1), V, "expon has impossible parameters"),
    ],
    (never, "probability"): [*NOT_NEGATIVE, (1.0, V, r"\[0, 1\), got 1\.0"), (1.5, V, r"got 1\.5")],
    (trace, "times"): [
        ([[1.0, np.nan]], V, "got nan at row 0, worker 1"),
        ([[1.0], [-2.0]], V, r"got -2\.0 at row 1, worker 0"),
        ([[1.0, 0.0]], V, r"got 0\.0 at row 0, worker 1"),
        ([1.0, 2.0], V, r"at least \(1, 1\), got \(2,\)"),
        (np.ones((2, 2, 2)), V, r"got \(2, 2, 2\)"),
        ([], V, r"got \(0,\)"),
        ([[]], V, r"got \(1, 0\)"),
        (3.0, V, r"got \(\)"),
        (RAGGED, T, "rows of different lengths"),
        ("abc", T, "got dtype <U3"),
        ([["1", "2"]], T, "got dtype <U1"),
        (None, T, "got dtype object"),
        ([[True, True]], T, "got dtype bool"),
        ([[1j, 2]], T, "got dtype complex128"),
        (np.array([["2020-01-01"]], dtype="datetime64[D]"), T, "got dtype datetime64"),
    ],
    (trace, "censored"): [
        (np.zeros((5, 3), dtype=int), T, "booleans, got dtype int64"),
        (np.zeros((3, 5), dtype=bool), V, r"\(5, 3\), got \(3, 5\)"),
        (True, V, r"\(5, 3\), got \(\)"),
        ([[True], [True, False]], T, "rows of different lengths"),
        ("no", T, "booleans, got dtype"),
    ],
    (fit, "trace"): [
        ([1.0, 2.0, 3.0], V, "at least 10 different finite, uncensored times, got 3"),
        (np.full((4, 4), np.inf), V, "at least 10 different finite, uncensored times, got 0"),
        (RAGGED, T, "rows of different lengths"),
        ("abc", T, "numbers, got dtype"),
        (None, T, "numbers, got dtype object"),
        ([[1j, 2.0]], T, "numbers, got dtype complex128"),
    ],
    (fit, "replicas"): [*WHOLE[1:], (98, V, ">= 99, got 98")],
    (fit, "seed"): WHOLE[1:],
    (hierarchical_block_sizes, "mean_times"): [
        ([3.0, 2.0, 1.0], V, "rising"),
        ([0.0, 1.0, 2.0], V, "positive"),
        ([-1.0, 1.0, 2.0], V, "positive"),
        ([1.0, np.nan, 2.0], V, "rising"),
        ([np.inf, np.inf], V, "the first one finite"),
        (3.0, V, r"got \(\)"),
        ([], V, r"got \(0,\)"),
        (RAGGED, T, "rows of different lengths"),
        (["1", "2"], T, "numbers, got dtype"),
    ],
    (hierarchical_block_sizes, "coordinates"): WHOLE,
    (hierarchical_block_sizes, "layers"): [*WHOLE, (10**30, V, r"1\.\.1000000, got 10{30}")],
}
for function in BASELINES:
    TABLE[function, "cycle_times"] = [*DRAWN_TIMES_REFUSED, ([], V, r"\(draws, workers\), got \(0,\)")]
    TABLE[function, "coordinates"] = WHOLE
    TABLE[function, "samples"] = POSITIVE
    TABLE[function, "cycles_per_derivative"] = POSITIVE
    TABLE[function, "forward_cycles"] = NOT_NEGATIVE
    if function.__name__ in ("single_level", "partial_stragglers"):
        whole = [row for row in WHOLE[1:] if row[0] is not None]
        TABLE[function, "redundancy"] = [*whole, (3, V, r"0\.\.2, got 3")]
    if function.__name__ == "partial_stragglers":
        TABLE[function, "alpha"] = [*NOT_NEGATIVE, (0.5, V, r">= 1, got 0\.5")]
    if function.__name__ == "hierarchical":
        TABLE[function, "layers"] = WHOLE
    if function.__name__ == "load_balancing":
        TABLE[function, "speeds"] = [
            ([1.0, 2.0], V, r"shape \(3,\), got \(2,\)"),
            (1.0, V, r"shape \(3,\), got \(\)"),
            ([1.0, -1.0, 1.0], V, "finite numbers >= 0"),
            ([1.0, np.nan, 1.0], V, "finite numbers >= 0"),
            ([0.0, 0.0, 0.0], V, "at least one of them positive"),
            (["1", "1", "1"], T, "numbers, got dtype"),
            (RAGGED, T, "rows of different lengths"),
        ]


FUNCTIONS = list(dict.fromkeys(function for function, _ in TABLE))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_refused_by_name(function):
    function()  # what the table starts from is taken
    for parameter in (name for called, name in TABLE if called is function):
        for value, error, text in TABLE[function, parameter]:
            # Nothing but ours, and the parameter at the head of the message.
            with pytest.raises(error, match=f"^{parameter}.*{text}"):
                function(**{parameter: value})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"min_redundancy": 2, "max_parts": 2}, "^max_parts, min_redundancy: .*at least 3 parts"),
        ({"method": "uncoded", "min_redundancy": 1}, "^method uncoded: .*lowest level allowed is 1"),
        ({"cycle_time": cgc.Never(LAW, 0.1)}, "^cycle_time: every worker may never answer"),
        ({"cycle_time": cgc.Trace(np.full((2, 3), np.inf))}, "^cycle_time: no level has a finite"),
        ({"cycle_time": stats.pareto(0.4), "max_parts": 1}, "^max_parts: .*lowest usable level is 2"),
        ({"cycle_time": stats.expon(), "method": "mean_rate"}, "^method mean_rate: .*max_parts=2"),
        ({"cycle_time": stats.randint(1, 9), "method": "exact"}, "^method exact: expected"),
        ({"scheme": "fractional_repetition", "method": "exact"}, "^method exact: expected the scheme cyclic"),
    ],
)
def test_refused_together(arguments, text):
    with pytest.raises(ArgumentValueError, match=text):
        plan(**arguments)


# --- edges of what is taken ---

EDGES = [(1, 1), (1, 5), (2, 1), (7, 3)]


@pytest.mark.parametrize(("workers", "coordinates"), EDGES)
@pytest.mark.parametrize("scheme", ["cyclic", "fractional_repetition"])
def test_every_method_at_the_smallest_sizes(workers, coordinates, scheme):
    generator = np.random.default_rng(0)
    models = [
        LAW,
        stats.uniform(1, 0.5),
        [LAW] * workers,
        cgc.Trace(generator.random((1, workers)) + 1),
        cgc.Trace(generator.random((9, workers)) + 1),
    ]
    given = {"workers": workers, "coordinates": coordinates, "scheme": scheme, "draws": 40}
    for method in (None, *METHODS):
        if method == "exact" and scheme != "cyclic":
            continue
        for model in models[: 2 if method == "exact" else None]:
            made = plan(cycle_time=model, method=method, **given)
            assert made.block_sizes.sum() == coordinates
            assert 0 < made.expected_runtime < np.inf
            assert made.completion_probability(np.inf) == pytest.approx(1.0, abs=1e-14)
            assert made.completion_probability(0) == 0.0
            if workers == 1 and model is LAW:  # all that one worker can do is to compute everything
                assert made.expected_runtime == pytest.approx(float(LAW.mean()) * coordinates, rel=1e-9)


@pytest.mark.parametrize("forward_cycles", [0.0, 2.0])
@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        ({"min_block": 10}, slice(0, 4)),
        ({"max_parts": 1}, slice(0, 1)),
        ({"max_parts": 4}, slice(0, 4)),
        ({"min_redundancy": 3}, slice(3, 4)),
        ({"min_redundancy": 3, "max_parts": 4}, slice(3, 4)),
        ({"boundaries": []}, slice(0, 4)),
        ({"boundaries": [0, 10]}, slice(0, 4)),
        ({"boundaries": list(range(11)), "min_block": 4}, slice(0, 4)),
    ],
)
def test_the_tightest_limits(limits, allowed, forward_cycles):
    made = plan(workers=4, forward_cycles=forward_cycles, **limits)
    assert made.block_sizes[allowed].sum() == 10
    if "boundaries" in limits:
        assert set(np.cumsum(made.block_sizes)) <= {0, 10, *limits["boundaries"]}


def test_numbers_of_numpy_are_numbers(tmp_path):
    made = plan(workers=np.int64(3), coordinates=np.int32(10), samples=np.float32(2), max_parts=np.int8(3))
    # Not in single precision, and JSON knows the numbers.
    assert made.expected_runtime == plan(samples=2, max_parts=3).expected_runtime
    made.save(tmp_path / "plan.json")
    assert cgc.Plan.load(tmp_path / "plan.json").samples == 2


def test_thresholds_at_the_ends():
    made = plan()
    # T > 1, so nothing ends before the fastest worker's last level; scipy's numbers end at 1e308.
    for threshold, inside in ((0, 0.0), (1e-300, 0.0), (1e300, 1.0), (np.inf, 1.0)):
        assert made.completion_probability(threshold) == pytest.approx(inside, abs=1e-14)
        assert made.failure_probability(threshold) == pytest.approx(1 - inside, abs=1e-14)
    assert made.completion_probability([]).shape == (0,)
    assert made.completion_probability(np.ones((2, 0, 3))).shape == (2, 0, 3)
