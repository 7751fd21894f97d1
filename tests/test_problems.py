"""Problems: the protocol and its check, the compiled linear models, shards, data, training, the example."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgc_fast import build_info, reference
from cgc_fast.datasets import digits_with_random_features, random_fourier_features
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError, CgcError
from cgc_fast.problems import (
    HeldSamples,
    LeastSquares,
    LinearModel,
    LogisticRegression,
    Problem,
    SoftmaxRegression,
    as_ranges,
    check_problem,
    merge_ranges,
)
from cgc_fast.training import accelerated_gradient, softmax_accuracy

EXAMPLES = Path(__file__).parent.parent / "examples"


def make(kind: str, samples: int = 37, features: int = 11, seed: int = 0) -> LinearModel:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, features))
    if kind == "squares":
        return LeastSquares(x, rng.standard_normal(samples))
    if kind == "logistic":
        return LogisticRegression(x, rng.integers(0, 2, samples))
    return SoftmaxRegression(x, rng.integers(0, 4, samples), classes=4)


def theta_for(problem: LinearModel, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(problem.coordinates) / 2


def derivatives(problem: Any, ranges: Any, coefficients: Any, start: int = 0, stop: int | None = None) -> Any:
    stop = problem.coordinates if stop is None else stop
    out = np.full(stop - start, np.nan)  # everything must be overwritten
    problem.derivatives(start, stop, as_ranges(ranges), np.asarray(coefficients, dtype=float), out)
    return out


kinds = pytest.mark.parametrize("kind", ["squares", "logistic", "softmax"])


# --- derivatives ------------------------------------------------------------------------------------------


@kinds
def test_gradient_is_the_slope_of_the_loss(kind: str) -> None:
    problem = make(kind)
    theta = theta_for(problem)
    gradient = problem.gradient(theta)
    h = 1e-5
    for coordinate in range(problem.coordinates):
        step = np.zeros_like(theta)
        step[coordinate] = h
        slope = (problem.loss(theta + step) - problem.loss(theta - step)) / (2 * h)
        # Rounding of the loss (< 1e3) over 2h: about 1e-8; third derivative (< 1e3) times h²: 1e-7.
        assert abs(gradient[coordinate] - slope) < 1e-6


@kinds
def test_kernel_equals_its_twin(kind: str) -> None:
    problem = make(kind, samples=29, features=14)
    theta = theta_for(problem)
    ranges, coefficients = as_ranges([(0, 5), (9, 9), (5, 29), (2, 7)]), np.array([0.3, 2.0, -1.7, 5.0])
    logits = reference.linear_model_logits(problem.features, theta.reshape(problem.classes, -1))
    residuals, losses = reference.linear_model_residuals(kind, logits, problem.targets)
    expected = reference.linear_model_derivatives(problem.features, residuals, ranges, coefficients)
    problem.begin(theta)
    got = derivatives(problem, ranges, coefficients)
    value = sum(c * losses[low:high].sum() for (low, high), c in zip(ranges, coefficients, strict=True))
    if kind == "squares" and not build_info()["fuses_multiply_add"]:
        assert np.array_equal(got, expected)
    # exp of NumPy and of the C library differ in the last bits: a few eps times the absolute sum.
    absolute = np.abs(residuals).T @ np.abs(problem.features) * np.abs(coefficients).sum()
    # Where products are not rounded before they are added, a logit, and so a residual, differs by at most one
    # rounding for each of 14 features.
    sizes = np.abs(problem.features) @ np.abs(theta).reshape(problem.classes, -1).T
    off = build_info()["fuses_multiply_add"] * 14 * 2.3e-16 * sizes.max(axis=1)
    of_logits = off @ np.abs(problem.features) * np.abs(coefficients).sum()
    assert (np.abs(got - expected) <= 1e-14 * absolute.ravel() + np.tile(of_logits, problem.classes)).all()
    slopes = np.abs(residuals).max(axis=1) + off  # of the losses, over the logits
    of_losses = 9 * (1e-13 * losses.sum() + problem.classes * (off * slopes).sum())
    assert problem.value(ranges, coefficients) == pytest.approx(value, rel=0, abs=of_losses)


@kinds
def test_plain_gradient_equals_matrix_products(kind: str) -> None:
    problem = make(kind, samples=200, features=30)
    theta = theta_for(problem)
    logits = problem.features @ theta.reshape(problem.classes, -1).T
    residuals, _ = reference.linear_model_residuals(kind, logits, problem.targets)
    expected = (residuals.T @ problem.features).ravel()
    scale = (np.abs(residuals).T @ np.abs(problem.features)).max()
    # 200 additions of rounded terms, in another order: at most 200 eps of the absolute sum on either side.
    assert np.abs(problem.gradient(theta) - expected).max() <= 2 * 200 * 2.3e-16 * scale


@kinds
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_slicing_has_the_same_bits(kind: str, data: st.DataObject) -> None:
    problem = make(kind, samples=13, features=data.draw(st.integers(1, 40)))
    bound = st.integers(0, 13)
    ranges = [sorted(pair) for pair in data.draw(st.lists(st.tuples(bound, bound), max_size=4))]
    coefficients = data.draw(st.lists(st.floats(-10, 10), min_size=len(ranges), max_size=len(ranges)))
    cuts = data.draw(st.lists(st.integers(0, problem.coordinates), max_size=6))
    cuts = sorted([0, *cuts, problem.coordinates])  # slices of width 0 included
    problem.begin(theta_for(problem))
    whole = derivatives(problem, ranges, coefficients)
    sliced = [derivatives(problem, ranges, coefficients, start, stop) for start, stop in pairwise(cuts)]
    assert np.array_equal(np.concatenate(sliced), whole)


@kinds
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_parts_in_the_order_of_the_features_have_the_same_bits(kind: str, data: st.DataObject) -> None:
    problem = make(kind, samples=33, features=data.draw(st.sampled_from([11, 40])))
    problem.begin(theta_for(problem), 1)
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, problem.coordinates)] * 2)))
    cuts = sorted({0, stop - start, *data.draw(st.lists(st.integers(0, stop - start), max_size=6))})
    ranges, coefficients = np.array([[0, 9], [20, 33]]), np.array([0.5, -1.75])
    kernel = problem.compiled_kernel()
    assert kernel is not None
    out = np.full(stop - start, np.nan)
    for begin, end in pairwise(cuts):
        kernel.derivatives_part(start, stop, begin, end, ranges, coefficients, out)
    assert np.array_equal(out, derivatives(problem, ranges, coefficients, start, stop))


@kinds
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_shard_has_the_bits_of_the_whole(kind: str, data: st.DataObject) -> None:
    problem = make(kind, samples=25)
    bound = st.integers(0, 25)
    held = [sorted(pair) for pair in data.draw(st.lists(st.tuples(bound, bound), max_size=5))]
    shard = pickle.loads(pickle.dumps(problem.shard(held)))
    assert (shard.samples, shard.coordinates) == (problem.samples, problem.coordinates)
    assert len(shard.features) == len({i for low, high in held for i in range(low, high)})
    # Anything within the held ranges, in another order of touching.
    ranges = [sorted(data.draw(st.tuples(*[st.integers(low, high)] * 2))) for low, high in held]
    coefficients = np.linspace(-2, 3, len(ranges))
    theta = theta_for(problem)
    problem.begin(theta, 0)
    shard.begin(theta, 0)
    shard.forward(as_ranges(ranges[::-1]))
    assert np.array_equal(
        derivatives(shard, ranges, coefficients), derivatives(problem, ranges, coefficients)
    )
    assert shard.value(ranges, coefficients) == problem.value(ranges, coefficients)


@kinds
def test_coded_parts_add_up_to_the_gradient(kind: str) -> None:
    problem = make(kind, samples=37)
    theta = theta_for(problem)
    problem.begin(theta)
    bounds = [0, 7, 15, 22, 30, 37]
    parts = [derivatives(problem, [pair], [1.0]) for pair in pairwise(bounds)]
    weighted = derivatives(problem, np.column_stack([bounds[:-1], bounds[1:]]), [1.0, -2.0, 3.0, 0.5, 4.0])
    twin = sum(c * part for c, part in zip([1.0, -2.0, 3.0, 0.5, 4.0], parts, strict=True))
    assert np.array_equal(weighted, twin)
    scale = sum(np.abs(part) for part in parts).max()
    # 37 terms in another order, each of size at most the largest residual times feature: well under 1e-13.
    assert np.abs(sum(parts) - problem.gradient(theta)).max() <= 1e-13 * max(scale, 1.0)


@kinds
def test_nothing_to_sum_is_zero(kind: str) -> None:
    problem = make(kind)
    problem.begin(theta_for(problem))
    for ranges in ([], [(5, 5)], [(0, 0), (37, 37)]):
        assert not derivatives(problem, ranges, [1.0] * len(ranges)).any()
        assert problem.value(ranges, [1.0] * len(ranges)) == 0.0
    empty = problem.shard([])
    empty.begin(theta_for(problem))
    assert not derivatives(empty, [(3, 3)], [1.0]).any()
    assert derivatives(problem, [(0, 37)], [1.0], 4, 4).shape == (0,)


def test_begin_forgets_and_gradient_does_not_disturb() -> None:
    problem = make("softmax")
    first, second = theta_for(problem, 1), theta_for(problem, 2)
    problem.begin(first)
    at_first = derivatives(problem, [(0, 37)], [1.0])
    assert np.array_equal(problem.gradient(second), _fresh(problem, second))
    assert np.array_equal(derivatives(problem, [(0, 37)], [1.0]), at_first)
    problem.begin(second)
    assert np.array_equal(derivatives(problem, [(0, 37)], [1.0]), _fresh(problem, second))


def _fresh(problem: LinearModel, theta: np.ndarray) -> np.ndarray:
    copy = pickle.loads(pickle.dumps(problem))
    copy.begin(theta)
    return derivatives(copy, [(0, problem.samples)], [1.0])


def test_large_logits_neither_overflow_nor_lose_the_loss() -> None:
    problem = LogisticRegression(np.array([[1000.0], [-1000.0], [1000.0]]), [0, 1, 1])
    assert problem.loss([1.0]) == 2000.0
    assert problem.gradient([1.0]).tolist() == [2000.0]
    softmax = SoftmaxRegression(np.array([[1000.0]]), [0], classes=3)
    assert softmax.loss([0.0, 1.0, 0.0]) == 1000.0
    assert softmax.gradient([0.0, 1.0, 0.0]).tolist() == [-1000.0, 1000.0, 0.0]


def test_features_are_viewed_and_a_shard_is_compact() -> None:
    x, y = np.ones((1000, 50)), np.zeros(1000)
    problem = LeastSquares(x, y)
    assert problem.features is x
    assert np.shares_memory(problem.shard([(10, 20)]).features, x)
    shard = problem.shard([(0, 10), (500, 520), (5, 12)])
    assert shard.held.ranges.tolist() == [[0, 12], [500, 520]]
    shard.begin(np.zeros(50))
    assert len(pickle.dumps(shard)) < 32 * 51 * 8 + 2000
    assert shard.shard([(505, 510)]).held.count == 5


def test_theta_is_viewed_and_kept_alive() -> None:
    problem = make("squares")
    theta = theta_for(problem)
    expected = problem.gradient(theta)
    before = sys.getrefcount(theta)
    problem.begin(theta)
    assert sys.getrefcount(theta) == before + 1
    theta.setflags(write=False)
    problem.begin(theta)
    del theta
    assert np.array_equal(derivatives(problem, [(0, 37)], [1.0]), expected)


# --- bad data ---------------------------------------------------------------------------------------------

X = np.arange(12.0).reshape(6, 2)
WITH_NAN = np.where(X == 5.0, np.nan, X)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: LeastSquares(WITH_NAN, np.zeros(6)), ArgumentValueError, r"features.*nan at \(2, 1\)"),
        (lambda: LeastSquares(X, [0, 0, np.inf, 0, 0, 0]), ArgumentValueError, r"targets.*inf at \(2,\)"),
        (lambda: LeastSquares(X, np.zeros(5)), ArgumentValueError, "targets.*6, got 5"),
        (lambda: LeastSquares(X, np.zeros((6, 1))), ArgumentValueError, r"targets.*\(6, 1\)"),
        (lambda: LeastSquares(X[0], np.zeros(2)), ArgumentValueError, "features.*2 dimension"),
        (lambda: LeastSquares(X[:0], np.zeros(0)), ArgumentValueError, r"features.*\(0, 2\)"),
        (lambda: LeastSquares(X[:, :0], np.zeros(6)), ArgumentValueError, r"features.*\(6, 0\)"),
        (lambda: LeastSquares(X + 0j, np.zeros(6)), ArgumentTypeError, "features.*complex"),
        (lambda: LeastSquares(object(), np.zeros(6)), ArgumentTypeError, "features.*object"),
        (lambda: LogisticRegression(X, [0, 1, 2, 0, 1, 0]), ArgumentValueError, r"labels.*\{-1, 1\}"),
        (lambda: LogisticRegression(X, [0, 1, -1, 0, 1, 0]), ArgumentValueError, "labels"),
        (lambda: LogisticRegression(X, ["a"] * 6), ArgumentTypeError, "labels"),
        (lambda: SoftmaxRegression(X, [0.0] * 6), ArgumentTypeError, "labels.*float64"),
        (lambda: SoftmaxRegression(X, [0, 1, 2, 3, 4, -1]), ArgumentValueError, "labels.*got -1"),
        (lambda: SoftmaxRegression(X, [0, 1, 2, 3, 4, 5], classes=5), ArgumentValueError, "0..4, got 5"),
        (lambda: SoftmaxRegression(X, [0] * 6, classes=1), ArgumentValueError, "classes.*2, got 1"),
        (lambda: SoftmaxRegression(X, [0] * 6, classes=2.5), ArgumentTypeError, "classes.*2.5"),
        (lambda: SoftmaxRegression(X, np.zeros((6, 1), int)), ArgumentValueError, r"labels.*\(6, 1\)"),
        (lambda: LeastSquares(X, np.zeros(6), forward_cycles=-1.0), ArgumentValueError, "forward_cycles"),
        (lambda: LeastSquares(X, np.zeros(6), forward_cycles=np.nan), ArgumentValueError, "forward_cycles"),
    ],
)
def test_bad_data_are_refused(build: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


def test_bad_calls_are_refused() -> None:
    problem = make("softmax")
    whole, one, out = as_ranges([(0, 37)]), np.ones(1), np.empty(44)
    with pytest.raises(CgcError, match="begin"):
        problem.derivatives(0, 44, whole, one, out)
    theta = theta_for(problem)
    with pytest.raises(ArgumentTypeError, match=r"theta.*float32"):
        problem.begin(theta.astype(np.float32))
    with pytest.raises(ArgumentTypeError, match="theta"):
        problem.begin(np.zeros(88)[::2])
    with pytest.raises(ArgumentValueError, match=r"theta.*\(44,\).*\(43,\)"):
        problem.begin(theta[:43])
    with pytest.raises(ArgumentValueError, match=r"theta.*nan at \(3,\)"):
        problem.gradient(np.where(np.arange(44) == 3, np.nan, theta))
    with pytest.raises(ArgumentValueError, match="theta"):
        problem.loss(theta[:40])
    problem.begin(theta)
    for start, stop in ((-1, 43), (1, 45), (44, 45)):
        with pytest.raises(ValueError, match=r"\[0, 44\)"):
            problem.derivatives(start, stop, whole, one, np.empty(stop - start))
    with pytest.raises(ArgumentValueError, match=r"out.*\(44,\).*\(43,\)"):
        problem.derivatives(0, 44, whole, one, out[:43])
    with pytest.raises(ArgumentTypeError, match="out"):
        problem.derivatives(0, 22, whole, one, out[::2])
    with pytest.raises(ValueError, match="one a range, that is 1, got 2"):
        problem.derivatives(0, 44, whole, np.ones(2), out)
    with pytest.raises(ValueError, match=r"\[30, 38\)"):
        problem.derivatives(0, 44, [(30, 38)], one, out)
    shard = problem.shard([(3, 9), (20, 25)])
    shard.begin(theta)
    for absent in ((2, 4), (8, 10), (9, 10), (5, 22), (36, 37)):
        with pytest.raises(ValueError, match=rf"\[{absent[0]}, {absent[1]}\) are not all held"):
            shard.forward([absent])
        with pytest.raises(ArgumentValueError, match="not all held"):
            shard.shard([absent])


def test_data_are_converted_once() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((9, 4)).astype(np.float32)
    y = rng.integers(0, 2, 9)
    theta = np.linspace(-1, 1, 4)
    expected = LogisticRegression(x.astype(float), y.astype(float)).gradient(theta)
    for features, labels in (
        (x, y.astype(bool)),
        (np.asfortranarray(x), 2 * y - 1),
        (x.tolist(), y.tolist()),
    ):
        assert np.array_equal(LogisticRegression(features, labels).gradient(theta), expected)
    assert SoftmaxRegression(x, np.zeros(9, np.uint8)).classes == 2
    assert SoftmaxRegression(x, y).coordinates == 8


def test_cost_of_the_forward_pass() -> None:
    problem = make("softmax")
    assert problem.forward_cycles == problem.coordinates == 44
    assert LeastSquares(X, np.zeros(6), forward_cycles=0.5).shard([(0, 2)]).forward_cycles == 0.5


def test_representation() -> None:
    assert repr(make("softmax")) == "SoftmaxRegression(samples=37, features=11, classes=4)"
    assert repr(make("squares").shard([(1, 3)])) == "LeastSquares(samples=37, features=11, held=[[1, 3]])"


@kinds
def test_smoothness_bound_is_one(kind: str) -> None:
    problem = make(kind)
    bound = problem.smoothness_bound()
    for seed in range(5):
        theta, direction = theta_for(problem, seed), theta_for(problem, seed + 100)
        change = problem.gradient(theta + 1e-3 * direction) - problem.gradient(theta)
        # rounding of the difference of two gradients: 1e-13 absolute against changes above 1e-3
        assert np.linalg.norm(change) <= 1e-3 * bound * np.linalg.norm(direction) * (1 + 1e-9)
    if kind == "squares":
        hessian = problem.features.T @ problem.features
        assert bound == pytest.approx(np.linalg.norm(hessian, 2), rel=1e-12)


# --- ranges -----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted), max_size=8))
def test_merged_ranges_hold_the_same_samples(ranges: list[list[int]]) -> None:
    samples = sorted({i for low, high in ranges for i in range(low, high)})
    merged = merge_ranges(ranges)
    assert [i for low, high in merged for i in range(low, high)] == samples
    assert (merged[1:, 0] > merged[:-1, 1]).all()
    held = HeldSamples(ranges)
    assert held.count == len(samples)
    data = np.array(samples, dtype=np.int64)
    assert np.array_equal(held.take(data, ranges), data)
    for low, high in ranges:
        assert data[held.rows(low, high)].tolist() == list(range(low, high))
    assert np.array_equal(held.ranges, merged)


@pytest.mark.parametrize(
    ("ranges", "error"),
    [
        ([(0.5, 2.0)], ArgumentTypeError),
        ([(3, 2)], ArgumentValueError),
        ([(1, 2, 3)], ArgumentValueError),
        ([1, 2], ArgumentValueError),
    ],
)
def test_bad_ranges_are_refused(ranges: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="ranges"):
        as_ranges(ranges)


def test_ranges_in_order_are_not_copied() -> None:
    ranges = np.array([[0, 3], [4, 4]])
    assert as_ranges(ranges) is ranges
    assert as_ranges([]).shape == (0, 2)


# --- the check --------------------------------------------------------------------------------------------


def own(**attributes: Any) -> SimpleNamespace:
    methods = dict.fromkeys(("shard", "begin", "derivatives"), lambda *args: None)
    return SimpleNamespace(**{"coordinates": 10, "samples": 5, **methods, **attributes})


@kinds
def test_built_in_problems_pass(kind: str) -> None:
    problem = make(kind)
    assert isinstance(problem, Problem)
    traits = check_problem(problem)
    assert (traits.coordinates, traits.samples) == (problem.coordinates, 37)
    assert traits.sliceable
    assert traits.has_forward
    assert traits.has_value
    assert traits.boundaries is None
    assert not traits.sequential
    assert traits.forward_cycles == problem.coordinates


def test_defaults_of_the_optional_attributes() -> None:
    traits = check_problem(own())
    assert not any([traits.sliceable, traits.sequential, traits.has_forward, traits.has_value])
    assert traits.forward_cycles == 0.0
    stated = check_problem(own(boundaries=[0, 4, 10], sequential=True, coordinates=np.int32(10)))
    assert stated.boundaries is not None
    assert stated.boundaries.tolist() == [0, 4, 10]
    assert stated.sequential
    assert type(stated.coordinates) is int


@pytest.mark.parametrize(
    ("problem", "error", "message"),
    [
        (object(), ArgumentTypeError, "method shard"),
        (LeastSquares, ArgumentTypeError, "class LeastSquares itself"),
        (own(derivatives=3), ArgumentTypeError, "method derivatives"),
        (own(begin=None), ArgumentTypeError, "method begin"),
        (own(coordinates=0), ArgumentValueError, "coordinates.*at least 1, got 0"),
        (own(samples=-2), ArgumentValueError, "samples.*got -2"),
        (own(samples=5.0), ArgumentTypeError, "samples.*5.0"),
        (own(samples=True), ArgumentTypeError, "samples.*True"),
        (own(coordinates=None), ArgumentTypeError, "coordinates.*None"),
        (own(boundaries=[0, 5]), ArgumentValueError, r"boundaries.*coordinates = 10.*\[0, 5\]"),
        (own(boundaries=[1, 10]), ArgumentValueError, "boundaries"),
        (own(boundaries=[0, 4, 4, 10]), ArgumentValueError, "boundaries"),
        (own(boundaries=[0, 6, 4, 10]), ArgumentValueError, "boundaries"),
        (own(boundaries=[10]), ArgumentValueError, "boundaries"),
        (own(boundaries=[0.0, 10.0]), ArgumentTypeError, "boundaries.*float64"),
        (own(boundaries=[[0, 10]]), ArgumentTypeError, "boundaries"),
        (own(sequential=1), ArgumentTypeError, "sequential"),
        (own(sliceable="yes"), ArgumentTypeError, "sliceable"),
        (own(forward_cycles=-1), ArgumentValueError, "forward_cycles"),
        (own(forward_cycles=float("inf")), ArgumentValueError, "forward_cycles"),
        (own(forward_cycles="many"), ArgumentTypeError, "forward_cycles"),
        (own(forward=3), ArgumentTypeError, "forward: expected a method"),
        (own(value=0.0), ArgumentTypeError, "value: expected a method"),
    ],
)
def test_what_is_not_a_problem_is_refused(problem: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_problem(problem)


def test_a_missing_count_is_named() -> None:
    problem = own()
    del problem.samples
    with pytest.raises(ArgumentTypeError, match="attribute samples"):
        check_problem(problem)


# --- data and training ------------------------------------------------------------------------------------


def test_random_features_approximate_the_gaussian_kernel() -> None:
    rng = np.random.default_rng(0)
    data = rng.standard_normal((12, 3))
    features = random_fourier_features(data, 40_000, 1.5, rng)
    distances = ((data[:, None] - data[None]) ** 2).sum(axis=2)
    # An inner product is a mean of 40,000 terms in [-2, 2] of variance <= 2: standard deviation <= 0.0071.
    assert np.abs(features @ features.T - np.exp(-distances / (2 * 1.5**2))).max() < 6 * 0.0071


def test_digits_are_learned_in_fifteen_iterations() -> None:
    data = digits_with_random_features()
    assert data.train_features.shape == (1437, 2000)
    assert data.test_features.shape == (360, 2000)
    assert np.bincount(data.train_labels).min() > 100
    assert np.abs(data.train_features.mean(axis=0)).max() < 1e-12  # centred, up to rounding
    problem = SoftmaxRegression(data.train_features, data.train_labels)
    assert problem.coordinates == 20_000
    losses = []
    theta = accelerated_gradient(
        problem.gradient,
        np.zeros(problem.coordinates),
        1.0 / problem.smoothness_bound(),
        15,
        lambda k, theta: losses.append(problem.loss(theta)),
    )
    assert losses == sorted(losses, reverse=True)
    assert softmax_accuracy(theta, data.test_features, data.test_labels) >= 0.95


def test_digits_depend_on_the_seed_only() -> None:
    first, again, other = (digits_with_random_features(20, seed) for seed in (0, 0, 1))
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(first.train_labels, other.train_labels)
    for arguments in ({"features": 0}, {"test": 0}, {"test": 1797}):
        with pytest.raises(ArgumentValueError, match="expected"):
            digits_with_random_features(**arguments)


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"cgc_fast\[sklearn\]"):
        digits_with_random_features()


def test_accelerated_gradient_keeps_its_promise() -> None:
    problem = make("squares", samples=60, features=20)
    best = np.linalg.lstsq(problem.features, problem.targets, rcond=None)[0]
    step = 1.0 / problem.smoothness_bound()
    seen: list[tuple[int, np.ndarray]] = []
    start = np.zeros(20)
    last = accelerated_gradient(problem.gradient, start, step, 30, lambda k, theta: seen.append((k, theta)))
    assert [k for k, _ in seen] == list(range(30))
    assert np.array_equal(seen[-1][1], last)
    assert not start.any()
    for k, theta in seen:  # after k + 1 steps
        gap = problem.loss(theta) - problem.loss(best)
        assert gap <= 2 * np.sum(best**2) / (step * (k + 2) ** 2) + 1e-10  # 1e-10: rounding of the losses
    # The first step is plain gradient descent.
    assert np.array_equal(seen[0][1], -step * problem.gradient(start))


@pytest.mark.parametrize(("step", "iterations"), [(0.0, 1), (np.nan, 1), (np.inf, 1), (1.0, -1)])
def test_bad_training_arguments_are_refused(step: float, iterations: int) -> None:
    with pytest.raises(ArgumentValueError, match="expected"):
        accelerated_gradient(lambda theta: theta, [1.0], step, iterations)


# --- a user's own problem ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("huber_regression", EXAMPLES / "huber_regression.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["huber_regression"] = module  # so that it pickles
    spec.loader.exec_module(module)
    return module


def test_the_example_is_a_problem(example: ModuleType) -> None:
    rng = np.random.default_rng(0)
    problem = example.HuberRegression(rng.standard_normal((40, 9)), 3 * rng.standard_normal(40), delta=1.0)
    assert isinstance(problem, Problem)
    traits = check_problem(problem)
    assert traits.sliceable
    assert traits.has_forward
    theta = rng.standard_normal(9)
    expected = example.plain_gradient(problem, theta)
    ranges = [(0, 13), (13, 13), (13, 31), (31, 40)]
    shard = pickle.loads(pickle.dumps(problem.shard(np.array(ranges[2:]))))
    for part in (problem, shard):
        part.begin(theta, 0)
    # 40 rounded terms in another order: 40 eps of an absolute sum below 200
    tolerance = 40 * 2.3e-16 * 200
    assert np.abs(derivatives(problem, ranges, np.ones(4)) - expected).max() <= tolerance
    coded = derivatives(problem, ranges, [0.0, 1.0, 2.0, -3.0], 2, 7)
    assert np.abs(derivatives(shard, ranges[2:], [2.0, -3.0], 2, 7) - coded).max() <= 5 * tolerance
    with pytest.raises(ArgumentValueError, match="not all held"):
        derivatives(shard, [(0, 5)], [1.0])
    # theta changes: nothing of the last iteration is left
    problem.begin(np.zeros(9), 1)
    at_zero = example.plain_gradient(problem, np.zeros(9))
    assert np.abs(derivatives(problem, ranges, np.ones(4)) - at_zero).max() <= tolerance
