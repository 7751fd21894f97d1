"""Every kernel on every instruction set of this machine, beside its NumPy twin; an interpreter for each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cgc_fast
from cgc_fast import _core, reference
from cgc_fast.combine import all_finite, largest_deviation, plain_sum, weighted_sum
from cgc_fast.schemes.uncoded import uncoded_schedule
from own_problems import Quadratic

# Around the sizes of registers (2 to 16 values) and of the chunk that stays in the cache (8192 or 16384).
LENGTHS = [0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 1001, 8193, 16385]
TYPES = [(np.float64, np.float64), (np.float32, np.float32), (np.float32, np.float64)]


def from_odd_place(values, place):
    """The same values `place` values behind a boundary of 64 bytes."""
    buffer = np.zeros(values.size + 32, values.dtype)
    start = (-buffer.ctypes.data // buffer.itemsize) % (64 // buffer.itemsize) + place
    view = buffer[start : start + values.size]
    view[:] = values
    return view


@pytest.mark.parametrize(("row_type", "out_type"), TYPES)
@pytest.mark.parametrize("count", [0, 1, 2, 5, 6, 7, 8, 12, 13, 64])
def test_sums_have_the_bits_of_the_twin(row_type, out_type, count):
    rng = np.random.default_rng(count)
    for length in LENGTHS if count < 64 else [1, 17, 1001]:
        rows = [from_odd_place(rng.standard_normal(length).astype(row_type), i % 16) for i in range(count)]
        coefficients = rng.standard_normal(count) * 1e3
        for place in (0, 1, 3):
            for accumulate in (False, True):
                got = from_odd_place(rng.standard_normal(length).astype(out_type), place)
                expected, plain, expected_plain = got.copy(), got.copy(), got.copy()
                weighted_sum(rows, coefficients, got, accumulate)
                reference.weighted_sum(rows, coefficients, expected, accumulate)
                np.testing.assert_array_equal(got, expected)
                plain_sum(rows, plain, accumulate)
                reference.plain_sum(rows, expected_plain, accumulate)
                np.testing.assert_array_equal(plain, expected_plain)


@pytest.mark.parametrize(("row_type", "out_type"), TYPES)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_sums_larger_than_the_caches_have_the_bits_of_the_twin(row_type, out_type, place):
    rng = np.random.default_rng(place)
    length = 2**25 // (3 * np.dtype(row_type).itemsize + np.dtype(out_type).itemsize) + 11
    rows = [from_odd_place(rng.standard_normal(length).astype(row_type), i) for i in range(3)]
    coefficients = rng.standard_normal(3)
    expected = np.empty(length, out_type)
    reference.weighted_sum(rows, coefficients, expected)
    for threads in (1, 2, 0):
        got = from_odd_place(np.full(length, 7.0, out_type), place)
        weighted_sum(rows, coefficients, got, threads=threads)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_checks_agree_with_the_twins(dtype):
    rng = np.random.default_rng(0)
    for length in LENGTHS:
        for place in (0, 1, 5):
            values = from_odd_place((1.0 + rng.standard_normal(length)).astype(dtype), place)
            assert all_finite(values) is True
            assert largest_deviation(values, 1.0) == reference.largest_deviation(values, 1.0)
            for position in {0, length // 2, length - 1} if length else ():
                kept = values[position]
                values[position] = 1e3
                assert largest_deviation(values, 1.0) == dtype(1e3) - dtype(1.0)
                for bad in (np.nan, np.inf, -np.inf):
                    values[position] = bad
                    assert all_finite(values) is reference.all_finite(values) is False
                    assert largest_deviation(values, 1.0) == np.inf
                values[position] = kept


@pytest.mark.parametrize("classes", [1, 2, 3, 4, 7, 13, 16, 19, 70])
@pytest.mark.parametrize("width", [1, 3, 4, 15, 16, 17, 33, 260])
def test_derivatives_are_sums_in_order(classes, width):
    rng = np.random.default_rng(width)
    samples = 37 if classes < 16 else 300  # more than one pass
    features = rng.standard_normal((samples, width))
    theta = rng.standard_normal((classes, width))
    targets = rng.integers(0, classes, samples).astype(np.float64)
    loss = "softmax" if classes > 1 else "squares"
    model = _core.LinearModel(loss, classes, features, targets, np.array([[0, samples]]))
    model.begin(theta.ravel())
    got = np.empty(classes * width)
    model.derivatives(0, got.size, np.array([[0, samples]]), np.ones(1), got)
    logits = reference.linear_model_logits(features, theta)
    residuals, _ = reference.linear_model_residuals(loss, logits, targets)
    whole = np.array([[0, samples]])
    expected = reference.linear_model_derivatives(features, residuals, whole, np.ones(1))
    fused = cgc_fast.build_info()["fuses_multiply_add"]  # then the C++ tests compare bits
    if loss == "squares" and not fused:
        np.testing.assert_array_equal(got, expected)
        return
    eps = np.finfo(np.float64).eps
    # If products are rounded here and not there, the sums of a logit differ by one rounding a term, and a
    # residual by no more, since no derivative of the softmax function is above 1.
    logit_error = fused * width * eps * (np.abs(features) @ np.abs(theta).T).max(axis=1)
    # The exponentials of NumPy and the C library differ by a few units in the last place, and their K sums
    # are rounded: a residual is off by less than (8 + K) 2^-52, since a probability is at most 1. That times
    # a feature, over all samples, and a rounding for each addition.
    exponential_error = 0 if loss == "squares" else (8 + classes) * eps
    largest = np.abs(residuals).max(axis=1)
    error = (logit_error + exponential_error + samples * eps * largest) @ np.abs(features)
    assert (np.abs(got - expected) <= np.tile(error, classes)).all()


def run(isa, *arguments, **variables):
    environment = {**os.environ, **variables, "CGC_FAST_FORCE_ISA": isa}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("isa", cgc_fast.build_info()["available_instruction_sets"])
def test_the_tests_above_pass_with_it(isa):
    if isa == cgc_fast.build_info()["instruction_set"]:
        pytest.skip("they just ran with it")
    names = "twin or order"
    done = run(isa, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", names, __file__)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("isa", cgc_fast.build_info()["available_instruction_sets"])
def test_build_info_names_what_was_forced(isa):
    done = run(isa, "-c", "import cgc_fast; print(cgc_fast.build_info()['instruction_set'])")
    assert done.stdout.strip() == isa, done.stderr


def test_the_fastest_runs_unless_another_is_forced():
    info = cgc_fast.build_info()
    assert info["available_instruction_sets"][0] == "baseline"
    forced = os.environ.get("CGC_FAST_FORCE_ISA")
    assert info["instruction_set"] == (forced or info["available_instruction_sets"][-1])


@pytest.mark.parametrize("isa", ["", "AVX2", "sse9", "avx512, neon"])
def test_a_set_that_is_not_there_fails_the_import_and_names_those_that_are(isa):
    done = run(isa, "-c", "import cgc_fast._core")
    assert done.returncode == 1
    names = ", ".join(cgc_fast.build_info()["available_instruction_sets"])
    assert f"ImportError: CGC_FAST_FORCE_ISA: expected one of {names}," in done.stderr
    assert f"got '{isa}'" in done.stderr


def test_a_set_of_another_architecture_fails_the_import():
    missing = {"avx512", "neon"} - set(cgc_fast.build_info()["available_instruction_sets"])
    assert missing  # no machine has both
    for isa in missing:
        assert "ImportError: CGC_FAST_FORCE_ISA" in run(isa, "-c", "import cgc_fast._core").stderr


@pytest.mark.skipif(
    not cgc_fast.build_info()["fuses_multiply_add"]
    or cgc_fast.build_info()["available_instruction_sets"][0] == cgc_fast.build_info()["instruction_set"],
    reason="all instruction sets round alike",
)
def test_workers_that_would_round_otherwise_are_refused(monkeypatch):
    problem = cgc_fast.problems.LeastSquares(np.ones((6, 3)), np.ones(6))
    monkeypatch.setenv("CGC_FAST_FORCE_ISA", "baseline")
    expected = "expected one like the master's, which does fuse multiply and add, got one that does not"
    with pytest.raises(cgc_fast.WorkerDied, match=expected):
        cgc_fast.Cluster(uncoded_schedule(2, 3), problem)
    with cgc_fast.Cluster(uncoded_schedule(2, 3), Quadratic.random(6, 3)):
        pass  # whose bits are its own matter


def test_worker_processes_inherit_it():
    code = (
        "import numpy as np, cgc_fast as cgc\n"
        "from cgc_fast.schemes import uncoded_schedule\n"
        "from own_problems import SaysInstructionSet\n"
        "with cgc.Cluster(uncoded_schedule(2, 3), SaysInstructionSet.random(6, 3)) as cluster:\n"
        "    print(cluster.gradient(np.zeros(3)))\n"
    )
    here = str(Path(__file__).parent)
    environment = {"PYTHONPATH": os.pathsep.join([here, str(Path(cgc_fast.__file__).parents[1])])}
    assert run("baseline", "-c", code, **environment).stdout.strip() == "[6. 6. 6.]"
    fastest = cgc_fast.build_info()["available_instruction_sets"][-1]
    if fastest != "baseline":
        assert run(fastest, "-c", code, **environment).stdout.strip() == "[0. 0. 0.]"
