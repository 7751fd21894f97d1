from __future__ import annotations

import copy
import itertools
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgc_fast import _core, codes, cyclic_matrices, reference
from cgc_fast.codes import CyclicCode, RepetitionCode
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError, DecodeError, NumericalError

UNIT_ROUNDOFF = 2.0**-53


def all_sets(workers: int, size: int):
    return (np.array(rows, dtype=np.int64) for rows in itertools.combinations(range(workers), size))


def assert_decodes(code: CyclicCode, rows: np.ndarray, vector: np.ndarray) -> None:
    """aᵀB = 1ᵀ within the promise, and within what the code predicts (which bounds residual and rounding)."""
    assert vector.shape == rows.shape
    residual = np.abs(vector @ code.matrix[rows] - 1.0).max()
    predicted = code.predicted_error(rows, vector)
    assert residual <= predicted <= code.promise


# --- the matrix ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "redundancy"), [(n, s) for n in range(1, 8) for s in range(n)] + [(20, 7)]
)
def test_rows_are_unit_vectors_on_their_parts_in_the_null_space(workers, redundancy):
    code = CyclicCode(workers, redundancy, seed=3)
    matrix = code.matrix
    assert matrix.shape == (workers, workers)
    assert matrix.dtype == np.float64
    assert not matrix.flags.writeable
    for w in range(workers):
        parts, coefficients = code.support(w)
        assert parts.tolist() == [(w + i) % workers for i in range(redundancy + 1)]
        assert parts.tolist() == code.support_parts(w).tolist()
        np.testing.assert_array_equal(matrix[w, parts], coefficients)
        assert np.count_nonzero(np.delete(matrix[w], parts)) == 0
        assert matrix[w, w] >= 0
        # A norm of s + 1 rounded squares and one rounded division.
        assert abs(np.linalg.norm(coefficients) - 1) <= (redundancy + 3) * UNIT_ROUNDOFF
    # Householder QR of s rows is backward stable: a modest multiple of s u ‖H‖.
    null_matrix = code._draw().null_matrix
    scale = 10 * max(redundancy, 1) * UNIT_ROUNDOFF * np.linalg.norm(null_matrix)
    assert np.abs(null_matrix @ matrix.T).max(initial=0.0) <= scale
    np.testing.assert_array_equal(null_matrix.sum(axis=1), 0.0)  # exact, whatever the order of summation


def test_no_redundancy_is_the_identity_and_full_redundancy_plain_sums():
    np.testing.assert_array_equal(CyclicCode(6, 0).matrix, np.eye(6))
    np.testing.assert_array_equal(CyclicCode(6, 0).decoding_vector(range(6)), np.ones(6))
    np.testing.assert_array_equal(CyclicCode(6, 5).matrix, np.full((6, 6), 1 / math.sqrt(6)))
    assert CyclicCode(1, 0).matrix.tolist() == [[1.0]]


def test_a_seed_fixes_the_matrix_and_another_changes_a_drawn_one():
    np.testing.assert_array_equal(CyclicCode(20, 9, seed=5).matrix, CyclicCode(20, 9, seed=5).matrix)
    assert not np.array_equal(CyclicCode(20, 9, seed=5).matrix, CyclicCode(20, 9, seed=6).matrix)
    np.testing.assert_array_equal(CyclicCode(9, 4, seed=5).matrix, CyclicCode(9, 4, seed=6).matrix)


def test_the_matrix_is_made_on_first_use_only(monkeypatch):
    code = CyclicCode(1000, 400)
    monkeypatch.setattr(codes, "choose_matrix", lambda *_: pytest.fail("a matrix was chosen"))
    assert code.can_decode(range(600))
    assert not code.can_decode(range(599))
    assert code.required_rows == 600
    assert code.support_parts(999)[:2].tolist() == [999, 0]
    assert CyclicCode(100, 40).promise == 1e-9


def test_a_pickled_code_is_never_drawn_again(monkeypatch):
    code = CyclicCode(12, 5, seed=1)
    data = pickle.dumps(code)  # makes the matrix
    rows = np.arange(3, 11)
    vector = code.decoding_vector(rows)
    monkeypatch.setattr(codes, "choose_matrix", lambda *_: pytest.fail("a matrix was chosen"))
    for twin in (pickle.loads(data), copy.deepcopy(code)):
        assert twin == code
        assert hash(twin) == hash(code)
        assert twin.profile == code.profile
        np.testing.assert_array_equal(twin.matrix, code.matrix)
        np.testing.assert_array_equal(twin.decoding_vector(rows), vector)
        assert not twin.support(0)[1].flags.writeable


def test_equality_is_by_value():
    assert CyclicCode(5, 2, seed=1) == CyclicCode(workers=5, redundancy=2, seed=1)
    assert len({CyclicCode(5, 2), CyclicCode(5, 2), CyclicCode(5, 3), CyclicCode(5, 2, seed=1)}) == 3
    assert CyclicCode(5, 2) != RepetitionCode(5)
    assert repr(CyclicCode(5, 2)) == "CyclicCode(workers=5, redundancy=2, seed=0)"


@given(st.integers(1, 14), st.data())
@settings(max_examples=25, deadline=None)
def test_coefficients_agree_with_their_twin(workers, data):
    redundancy = data.draw(st.integers(0, workers - 1))
    seed = data.draw(st.integers(0, 2**32))
    null_matrix = cyclic_matrices._null_matrix(workers, redundancy, np.random.default_rng(seed))
    expected = reference.cyclic_matrix(null_matrix)
    coefficients = _core.cyclic_coefficients(null_matrix)
    for w in range(workers):
        parts = (w + np.arange(redundancy + 1)) % workers
        # A null vector moves by the backward error over the least singular value of its columns; two methods.
        values = np.linalg.svd(null_matrix[:, parts], compute_uv=False)
        condition = values[0] / values[-1] if redundancy else 1.0
        tolerance = 20 * (redundancy + 1) * UNIT_ROUNDOFF * condition
        # The sign rule decides nothing where a row has no weight on its own part.
        if abs(coefficients[w, 0]) > tolerance:
            np.testing.assert_allclose(coefficients[w], expected[w, parts], rtol=0, atol=tolerance)


# --- the choice of the matrix ---------------------------------------------------------------------------


def test_the_profile_is_what_was_measured():
    code = CyclicCode(50, 9)
    assert code.profile.sets == 1_050
    assert max(code.profile.contiguous, code.profile.random) <= code.profile.adversarial == code.profile.worst
    assert code.profile.median <= code.profile.worst <= code.promise == 1e-9
    contiguous = [np.delete(np.arange(50), (w + np.arange(9)) % 50) for w in range(50)]
    errors = [code.predicted_error(rows, code.decoding_vector(rows)) for rows in contiguous]
    assert max(errors) == code.profile.contiguous
    few = CyclicCode(8, 3)
    assert few.profile.sets == math.comb(8, 3)  # all there are
    errors = [few.predicted_error(rows, few.decoding_vector(rows)) for rows in all_sets(8, few.required_rows)]
    assert max(errors) == few.profile.worst


@pytest.mark.parametrize("workers", range(2, 11))
def test_the_highest_harmonics_determine_the_sum_from_any_rows_of_either_parity(workers):
    for redundancy in range(1, workers):
        null_matrix = cyclic_matrices._null_matrix(workers, redundancy)
        assert null_matrix.shape == (redundancy, workers)
        # Any s columns are independent, by far more than rounding: then any N - s rows decode.
        least = min(
            np.linalg.svd(null_matrix[:, list(columns)], compute_uv=False)[-1]
            for columns in itertools.combinations(range(workers), redundancy)
        )
        assert least > 1e-3


def test_drawn_matrices_decode_where_symmetric_sets_would_not():
    # Harmonics 2 and 4 of 6 points agree on the points 0 and 3: without the Gaussian those stragglers do not
    # decode.
    angles = 2 * np.pi * np.arange(6) / 6
    bare = np.array([np.cos(2 * angles), np.sin(2 * angles)])
    assert abs(np.linalg.det(bare[:, [0, 3]])) < 1e-12
    found = set()
    for seed in range(8):
        drawn = cyclic_matrices._null_matrix(6, 2, np.random.default_rng(seed))
        found.add(abs(np.linalg.det(drawn[:, [0, 3]])) > 1e-5)
    assert found == {True}


def test_the_search_for_adversarial_sets_finds_the_worst_there_is():
    code = CyclicCode(14, 5, seed=1)
    decoder = code._make_decoder()
    everything = np.array(list(itertools.combinations(range(14), 5)), dtype=np.int64)
    errors = decoder.profile(everything)
    starts = everything[np.random.default_rng(0).permutation(len(everything))[:200]]
    found, error = cyclic_matrices._worst_found(decoder, 14, starts, np.random.default_rng(1))
    assert decoder.profile(found[None])[0] == error
    assert error > decoder.profile(starts).max()
    assert error >= 0.3 * errors.max()


def test_test_sets_hold_all_contiguous_ones():
    sets = {tuple(sorted(s)) for s in cyclic_matrices._test_sets(20, 6, np.random.default_rng(0)).tolist()}
    assert all(tuple(sorted((w + i) % 20 for i in range(6))) in sets for w in range(20))
    assert len(sets) > 1_000
    assert all(len(set(s)) == 6 for s in sets)


def test_the_best_of_several_draws_is_taken():
    code = CyclicCode(50, 12)
    assert code.profile.attempts > 1
    others = []
    for seed in range(4):
        generator = np.random.default_rng(seed)
        null_matrix = cyclic_matrices._null_matrix(50, 12, generator)
        decoder = _core.CyclicDecoder(null_matrix, _core.cyclic_coefficients(null_matrix))
        others.append(cyclic_matrices._measured(decoder, 50, 12, generator, 1).worst)
    assert code.profile.worst <= min(others)


def test_when_no_matrix_keeps_the_promise_the_error_names_the_best(monkeypatch):
    monkeypatch.setattr(cyclic_matrices, "promised_error", lambda workers: 1e-16)
    monkeypatch.setattr(cyclic_matrices, "_MOST_ROUNDS", 2)
    with pytest.raises(NumericalError, match=r"N = 20 .* s = 8 .* 1\.0e-16: the best of 48 .* \d\.\de-\d\d"):
        _ = CyclicCode(20, 8).matrix


def test_beyond_a_hundred_workers_the_promise_is_the_measured_profile():
    code = CyclicCode(120, 5)
    assert code.promise == max(1e-9, code.profile.contiguous, code.profile.random)
    assert 0 < code.promise < 1e-4
    assert_decodes(code, np.arange(115), code.decoding_vector(np.arange(115)))


def test_two_threads_measure_what_one_does():
    drawn = CyclicCode(14, 6)._draw()
    decoder = _core.CyclicDecoder(drawn.null_matrix, drawn.coefficients)
    sets = cyclic_matrices._test_sets(14, 6, np.random.default_rng(1))
    np.testing.assert_array_equal(decoder.profile(sets, threads=1), decoder.profile(sets, threads=2))
    np.testing.assert_array_equal(decoder.profile(sets[:1], threads=2), decoder.profile(sets[:1], threads=1))
    # Fewer stragglers than tolerated is a set, too.
    few = decoder.profile(np.ascontiguousarray(sets[:2, :4]), threads=2)
    rows = np.setdiff1d(np.arange(14), sets[1, :4])
    assert few[1] == decoder.decode(rows)[1]


# --- decoding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", range(1, 9))
def test_every_straggler_set_of_every_level_decodes(workers):
    for redundancy in range(workers):
        code = CyclicCode(workers, redundancy)
        for size in range(code.required_rows, workers + 1):
            for rows in all_sets(workers, size):
                assert code.can_decode(rows)
                assert_decodes(code, rows, code.decoding_vector(rows))


@pytest.mark.parametrize(
    ("workers", "levels"), [(12, range(12)), (20, range(20)), (50, (1, 5, 15, 25, 40, 48))]
)
def test_larger_codes_decode_or_ask_for_one_more_row(workers, levels):
    rng = np.random.default_rng(workers)
    refused = decoded = 0
    for redundancy in levels:
        code = CyclicCode(workers, redundancy)
        contiguous = [(w + np.arange(code.required_rows)) % workers for w in range(workers)]
        random = [
            rng.permutation(workers)[: rng.integers(code.required_rows, workers + 1)] for _ in range(30)
        ]
        for rows in contiguous + random:
            try:
                vector = code.decoding_vector(rows)
            except NumericalError:
                refused += 1
            else:
                decoded += 1
                assert_decodes(code, rows, vector)
    # The acceptance test found no refusal in 1,000 random sets a level, so hardly any is left.
    assert refused <= 0.01 * decoded


@given(st.integers(9, 30), st.data())
@settings(max_examples=30, deadline=None)
def test_any_rows_of_any_level_decode_within_the_promise_or_raise(workers, data):
    redundancy = data.draw(st.integers(0, workers - 1))
    rows = np.array(data.draw(st.permutations(range(workers))), dtype=np.int64)
    code = CyclicCode(workers, redundancy)
    rows = rows[: data.draw(st.integers(0, workers))]
    if rows.size < code.required_rows:
        with pytest.raises(DecodeError):
            code.decoding_vector(rows)
        return
    try:
        vector = code.decoding_vector(rows)
    except NumericalError:
        assert not code._make_decoder().decode(rows)[1] <= code.promise
    else:
        assert_decodes(code, rows, vector)


@given(st.integers(1, 24), st.data())
@settings(max_examples=60, deadline=None)
def test_decoding_vectors_agree_with_their_twin(workers, data):
    redundancy = data.draw(st.integers(0, workers - 1))
    size = data.draw(st.integers(workers - redundancy, workers))
    rows = np.array(data.draw(st.permutations(range(workers)))[:size], dtype=np.int64)
    code = CyclicCode(workers, redundancy, seed=data.draw(st.integers(0, 3)))
    vector, predicted = code._make_decoder().decode(rows)
    expected = reference.decoding_vector(code.matrix, rows, code.required_rows)
    # Two least-norm solutions of one system, each perturbed by u relative to it: condition (squared, as the
    # system may be solved by its complement) times the solution.
    row_space = np.linalg.svd(code.matrix)[2][: code.required_rows]
    values = np.linalg.svd(code.matrix[rows] @ row_space.T, compute_uv=False)
    tolerance = 50 * workers * UNIT_ROUNDOFF * (values[0] / values[-1]) ** 2 * np.linalg.norm(expected)
    assert np.linalg.norm(vector - expected) <= tolerance
    # Same formula, sums in another order: the residual differs by the rounding that the prediction counts.
    assert reference.predicted_error(code.matrix[rows], vector, redundancy) == pytest.approx(
        predicted, rel=1.0, abs=0.0
    )


def test_more_rows_than_needed_give_the_shortest_vector():
    code = CyclicCode(12, 5)
    rows = np.array([0, 11, 3, 7, 5, 6, 2, 9, 1])
    vector = code.decoding_vector(rows)
    shorter_sets = [code.decoding_vector(np.delete(rows, i)) for i in range(rows.size)]
    assert np.linalg.norm(vector) < min(np.linalg.norm(a) for a in shorter_sets)


def test_the_order_of_the_rows_is_kept():
    code = CyclicCode(10, 4)
    rows = np.array([9, 0, 4, 2, 7, 5])
    shuffled = np.array([2, 5, 9, 7, 0, 4])
    a = dict(zip(rows.tolist(), code.decoding_vector(rows), strict=True))
    b = dict(zip(shuffled.tolist(), code.decoding_vector(shuffled), strict=True))
    # The same system with its equations permuted: what differs is rounding, which the profile bounds in the
    # decoded sum; the vector is known to that times the condition of the rows.
    tolerance = code.profile.worst * np.linalg.cond(code.matrix[rows])
    assert all(abs(a[row] - b[row]) <= tolerance for row in a)


def test_too_few_rows_are_a_decode_error():
    code = CyclicCode(7, 2)
    with pytest.raises(DecodeError, match="5 distinct rows; got 4"):
        code.decoding_vector([0, 1, 2, 3])
    with pytest.raises(DecodeError, match="got 0"):
        code.decoding_vector([])
    assert not code.can_decode([0, 1, 2, 3, 3])
    assert code.can_decode([0, 1, 2, 3, 3, 4])


def test_a_vector_beyond_the_promise_is_refused(monkeypatch):
    code = CyclicCode(20, 6)
    rows = np.arange(14)
    predicted = code.predicted_error(rows, code.decoding_vector(rows))
    monkeypatch.setattr(codes, "promised_error", lambda workers: predicted / 2)
    with pytest.raises(NumericalError, match=r"predicted error .* exceeds .* wait for one more row"):
        code.decoding_vector(rows)


def test_a_matrix_that_cannot_decode_predicts_an_infinite_error():
    # Columns 0 and 1 of H are equal: rows 0 and 3 are both (1, -1, 0, 0) up to sign and scale.
    null_matrix = np.array([[1.0, 1.0, -1.0, -1.0], [1.0, 1.0, -2.0, 0.0]])
    decoder = _core.CyclicDecoder(null_matrix, _core.cyclic_coefficients(null_matrix))
    errors = decoder.profile(np.array(list(itertools.combinations(range(4), 2))))
    assert errors.max() > 0.1  # infinite, or hopeless by a rounding error's accident
    assert errors.min() < 1e-14


@pytest.mark.parametrize("workers", [1, 2, 7, 20])
def test_the_vectors_of_all_levels_are_those_of_each(workers):
    rng = np.random.default_rng(workers)
    order = rng.permutation(workers)
    family = [CyclicCode(workers, s) for s in range(workers)] + [RepetitionCode(workers)]
    for code, result in zip(family, codes.decoding_vectors(family, order), strict=True):
        rows, vector = result
        assert rows == tuple(sorted(order[: code.required_rows].tolist()))
        assert code.decoding_vector(rows) is vector or isinstance(code, RepetitionCode)
        fresh, _ = code._make_decoder().decode(np.array(rows)) if code.parts > 1 else (vector, 0)
        np.testing.assert_array_equal(vector, fresh)  # the same operations
    assert codes.decoding_vectors([], order) == []
    ((rows, vector),) = codes.decoding_vectors([RepetitionCode(workers)], order)
    assert (rows, vector.tolist()) == ((order[0],), [1.0])


def test_a_level_beyond_its_promise_is_told_apart(monkeypatch):
    family = [CyclicCode(20, 3), CyclicCode(20, 10)]
    order = np.random.default_rng(0).permutation(20)
    errors = _core.decode_in_order([code._make_decoder() for code in family], order)[2]
    assert errors[0] != errors[1]
    monkeypatch.setattr(codes, "promised_error", lambda workers: float(errors.mean()))
    results = codes.decoding_vectors(family, order)
    refused = int(errors.argmax())
    assert isinstance(results[refused], NumericalError)
    assert isinstance(results[1 - refused], tuple)


def test_orders_that_do_not_fit_are_refused():
    with pytest.raises(ArgumentValueError, match=r"same number of rows in each, got \[4, 5\]"):
        codes.decoding_vectors([CyclicCode(4, 1), CyclicCode(5, 1)], range(4))
    with pytest.raises(ArgumentValueError, match="order: expected at least 3 rows, got 2"):
        codes.decoding_vectors([CyclicCode(4, 1)], [0, 1])
    decoder = CyclicCode(4, 1)._make_decoder()
    with pytest.raises(ValueError, match="order: expected at least 3 rows, got 2"):
        _core.decode_in_order([decoder], np.array([0, 1]))
    with pytest.raises(ValueError, match="order: expected distinct"):
        _core.decode_in_order([decoder], np.array([0, 1, 1]))
    with pytest.raises(ValueError, match="codes: expected decoders, got None"):
        _core.decode_in_order([None], np.array([0, 1, 2]))


# --- the numerical guard --------------------------------------------------------------------------------


def worst_of_swaps(code: CyclicCode, rows: np.ndarray, rng: np.random.Generator, tries: int) -> np.ndarray:
    """Return the worst rows that a greedy search finds by exchanging one row for a missing one."""
    decoder = code._make_decoder()
    worst = decoder.decode(rows)[1]
    for _ in range(tries):
        candidate = rows.copy()
        candidate[rng.integers(rows.size)] = rng.choice(np.setdiff1d(np.arange(code.rows), rows))
        error = decoder.decode(candidate)[1]
        if error > worst:
            rows, worst = candidate, error
    return rows


def part_sums(kind: str, parts: int, rng: np.random.Generator) -> np.ndarray:
    if kind == "signed":
        return rng.standard_normal((parts, 40))
    if kind == "positive":
        return rng.random((parts, 40))
    if kind == "heavy-tailed":
        return rng.standard_cauchy((parts, 40)) ** 3
    return rng.standard_normal((parts, 40)) * (rng.random((parts, 40)) < 1.5 / parts)  # sparse


@pytest.mark.parametrize("kind", ["signed", "positive", "heavy-tailed", "sparse"])
@pytest.mark.parametrize(("workers", "redundancy"), [(3, 1), (7, 3), (20, 4), (20, 12), (50, 10), (50, 30)])
def test_the_predicted_error_bounds_the_measured_one(workers, redundancy, kind):
    rng = np.random.default_rng([workers, redundancy])
    code = CyclicCode(workers, redundancy)
    size = code.required_rows
    sets = [np.arange(size), np.sort(rng.permutation(workers)[:size]), rng.permutation(workers)[:size]]
    sets += [worst_of_swaps(code, sets[1], rng, 300), rng.permutation(workers)[: size + 1]]
    for rows in sets:
        vector, predicted = code._make_decoder().decode(rows)  # the prediction holds beyond the promise, too
        sums = part_sums(kind, workers, rng)
        payloads = []
        for row in rows:
            parts, coefficients = code.support(row)
            payload = np.zeros(sums.shape[1])
            for part, coefficient in zip(parts, coefficients, strict=True):
                payload += coefficient * sums[part]
            payloads.append(payload)
        decoded = np.empty(sums.shape[1])
        _core.weighted_sum(payloads, vector, decoded)
        # Exact arithmetic: the value of every double, no rounding until the end.
        exact = [sum(map(Fraction, column)) for column in sums.T.tolist()]
        errors = [abs(float(Fraction(d) - e)) for d, e in zip(decoded.tolist(), exact, strict=True)]
        assert max(errors) <= predicted * np.abs(sums).sum(axis=0).max()


def decoded_errors(code: CyclicCode, rows, vector, sums: np.ndarray, dtype: type) -> np.ndarray:
    """Errors of decoding part sums (parts, L) sent as a data type, relative to the sums of magnitudes."""
    payloads = []
    for row in rows:
        parts, coefficients = code.support(row)
        payload = np.zeros(sums.shape[1])
        for part, coefficient in zip(parts, coefficients, strict=True):
            payload += coefficient * sums[part]
        payloads.append(payload.astype(dtype))
    decoded = np.empty(sums.shape[1])
    _core.weighted_sum(payloads, vector, decoded)
    exact = [sum(map(Fraction, column)) for column in sums.T.tolist()]
    errors = [abs(float(Fraction(d) - e)) for d, e in zip(decoded.tolist(), exact, strict=True)]
    return np.array(errors) / np.abs(sums).sum(axis=0)


def one_heavy_part(parts: int, rng: np.random.Generator) -> np.ndarray:
    """Part sums (parts, 6 parts): each part in turn has nearly all the weight, and every addition rounds."""
    sums = rng.uniform(-1e-3, 1e-3, (parts, 6 * parts))
    sums[np.arange(6 * parts) % parts, np.arange(6 * parts)] = rng.uniform(1, 2, 6 * parts)
    return sums


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("workers", "redundancy"), [(8, 3), (20, 4), (20, 12), (50, 10), (50, 30)])
def test_the_prediction_bounds_the_error_and_is_tight_on_typical_sets(workers, redundancy, dtype):
    rng = np.random.default_rng([workers, redundancy])
    code = CyclicCode(workers, redundancy)
    ratios = []
    for _ in range(5):
        rows = np.sort(rng.permutation(workers)[: code.required_rows])
        vector = code.decoding_vector(rows)
        measured = decoded_errors(code, rows, vector, one_heavy_part(workers, rng), dtype).max()
        ratios.append(code.predicted_error(rows, vector, dtype) / measured)
    assert min(ratios) >= 1.0
    assert np.median(ratios) <= 10.0


def test_the_promise_for_float32_holds_or_names_the_alternative():
    rng = np.random.default_rng(0)
    for workers, redundancy in [(6, 2), (10, 3), (20, 3)]:
        code = CyclicCode(workers, redundancy)
        promise = code.promise_for(np.float32)
        assert 1e-7 < promise <= 1e-3
        sets = [(w + np.arange(code.required_rows)) % workers for w in range(3)]
        sets += [rng.permutation(workers)[: code.required_rows] for _ in range(3)]
        for rows in sets:
            vector = code.decoding_vector(rows)
            errors = decoded_errors(code, rows, vector, one_heavy_part(workers, rng), np.float32)
            assert errors.max() <= code.predicted_error(rows, vector, np.float32)
            assert errors.max() <= promise
            np.testing.assert_array_equal(code.decoding_vector(tuple(rows.tolist()), np.float32), vector)
    with pytest.raises(NumericalError, match=r"float32 .* use float64 payloads, or a repetition code"):
        CyclicCode(50, 25).promise_for(np.float32)
    assert CyclicCode(50, 25).promise_for(np.float64) == 1e-9
    assert RepetitionCode(4).promise_for("float32") == 1e-5
    assert RepetitionCode(4).predicted_error([1], np.ones(1), np.float32) <= 1e-5
    with pytest.raises(ArgumentTypeError, match="dtype: expected float64 or float32, got int64"):
        RepetitionCode(4).promise_for(np.int64)


def test_float32_vectors_are_refused_where_float64_ones_are_not(monkeypatch):
    code = CyclicCode(10, 3)
    rows = (0, 1, 2, 3, 4, 5, 6)
    vector = code.decoding_vector(rows)
    assert code.decoding_vector(rows, np.float32).tolist() == vector.tolist()
    code = CyclicCode(10, 3)  # the same matrix; nothing kept yet
    monkeypatch.setattr(code, "_single_promise", lambda: 0.9 * code.predicted_error(rows, vector, "float32"))
    with pytest.raises(NumericalError, match="wait for one more row"):
        code.decoding_vector(rows, np.float32)
    assert code.decoding_vector(rows).tolist() == vector.tolist()
    with pytest.raises(NumericalError, match="float32"):
        CyclicCode(50, 25).decoding_vector(range(25), "float32")


@pytest.mark.parametrize("single", [False, True])
def test_the_predicted_error_agrees_with_its_twin(single):
    code = CyclicCode(20, 7)
    rows = np.array([3, 19, 4, 0, 8, 12, 13, 2, 7, 17, 1, 5, 11])
    vector, _ = code._make_decoder().decode(rows)
    expected = reference.predicted_error(code.matrix[rows], vector, 7, single)
    # The residual of two orders of summation; float32 roundings outweigh it.
    tolerance = 1e-6 if single else 1.0
    assert code._make_decoder().predicted_error(rows, vector, single) == pytest.approx(
        expected, rel=tolerance
    )


def test_the_predicted_error_of_a_wrong_vector_shows_its_residual():
    code = CyclicCode(8, 3)
    rows = np.arange(5)
    vector = code.decoding_vector(rows)
    assert code.predicted_error(rows, 1.5 * vector) == pytest.approx(0.5, abs=1e-9)
    assert code.predicted_error(rows, np.full(5, np.nan)) == math.inf
    assert code.predicted_error(rows, np.full(5, np.inf)) == math.inf


# --- repetition -----------------------------------------------------------------------------------------


def test_repetition_decodes_from_the_first_row():
    code = RepetitionCode(4)
    assert (code.rows, code.parts, code.redundancy, code.required_rows) == (4, 1, 3, 1)
    assert [a.tolist() for a in code.support(2)] == [[0], [1.0]]
    assert code.decoding_vector([3, 1]).tolist() == [1.0, 0.0]
    assert code.can_decode([2])
    assert not code.can_decode([])
    assert (
        code.predicted_error([3, 1], code.decoding_vector([3, 1])) <= UNIT_ROUNDOFF <= code.promise == 1e-12
    )
    assert code.predicted_error([0, 1], np.array([0.5, 0.25])) == pytest.approx(0.25)
    with pytest.raises(DecodeError, match="got none"):
        code.decoding_vector([])


def test_repetition_codes_are_values():
    assert RepetitionCode(3) == pickle.loads(pickle.dumps(RepetitionCode(3)))
    assert len({RepetitionCode(3), RepetitionCode(3), RepetitionCode(2)}) == 2
    assert RepetitionCode(3) != 3
    assert repr(RepetitionCode(3)) == "RepetitionCode(3)"


# --- bad input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CyclicCode(0, 0), ArgumentValueError, "workers: expected an integer >= 1, got 0"),
        (lambda: CyclicCode(4, 4), ArgumentValueError, r"redundancy: expected an integer in 0\.\.3, got 4"),
        (lambda: CyclicCode(4, -1), ArgumentValueError, "redundancy"),
        (lambda: CyclicCode(4, 1, seed=-1), ArgumentValueError, "seed: expected an integer >= 0"),
        (lambda: CyclicCode(4.0, 1), ArgumentTypeError, "workers: expected an integer >= 1, got 4.0"),
        (lambda: CyclicCode(4, True), ArgumentTypeError, "redundancy"),
        (lambda: RepetitionCode(0), ArgumentValueError, "rows: expected an integer >= 1, got 0"),
        (lambda: RepetitionCode("3"), ArgumentTypeError, "rows: expected an integer >= 1, got '3'"),
        (
            lambda: RepetitionCode(2).support(2),
            ArgumentValueError,
            r"row: expected an integer in 0\.\.1, got 2",
        ),
        (lambda: CyclicCode(4, 1).support(-1), ArgumentValueError, "row: expected an integer"),
    ],
)
def test_impossible_codes_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("code", [CyclicCode(4, 1), RepetitionCode(4)], ids=repr)
@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([0, 1, 4], ArgumentValueError, r"rows: expected indices in 0\.\.3, got \[0, 1, 4\]"),
        ([0, -1, 2], ArgumentValueError, "rows: expected indices"),
        (np.array([2**63 + 1], dtype=np.uint64), ArgumentValueError, "rows: expected indices"),
        ([0, 1, 1, 2], ArgumentValueError, r"rows: expected each row once, got \[0, 1, 1, 2\]"),
        ([0.0, 1.0, 2.0], ArgumentTypeError, "rows: expected integers, got float64"),
        ([True, False, True, True], ArgumentTypeError, "rows: expected integers, got bool"),
        ([[0, 1, 2]], ArgumentValueError, "rows: expected one dimension"),
    ],
)
def test_impossible_rows_are_refused(code, rows, error, message):
    with pytest.raises(error, match=message):
        code.decoding_vector(rows)


def test_a_vector_of_another_length_is_refused():
    for code in (CyclicCode(4, 1), RepetitionCode(4)):
        with pytest.raises(ArgumentValueError, match=r"shape \(3,\); got \(2,\)"):
            code.predicted_error([0, 1, 2], np.ones(2))


def test_the_compiled_functions_check_their_arrays():
    null_matrix = cyclic_matrices._null_matrix(5, 2, np.random.default_rng(0))
    coefficients = _core.cyclic_coefficients(null_matrix)
    decoder = _core.CyclicDecoder(null_matrix, coefficients)
    with pytest.raises(ValueError, match="fewer rows than columns"):
        _core.cyclic_coefficients(np.zeros((3, 3)))
    with pytest.raises(TypeError):
        _core.cyclic_coefficients(null_matrix.astype(np.float32))
    with pytest.raises(ValueError, match="coefficients, second dimension: expected length 3, got 2"):
        _core.CyclicDecoder(null_matrix, np.ascontiguousarray(coefficients[:, :2]))
    with pytest.raises(ValueError, match="expected at least 3, got 2"):
        decoder.decode(np.array([0, 1]))
    with pytest.raises(ValueError, match=r"expected indices in \[0, 5\), got 5"):
        decoder.decode(np.array([0, 1, 5]))
    with pytest.raises(ValueError, match="got 1 twice"):
        decoder.decode(np.array([0, 1, 1]))
    with pytest.raises(ValueError, match="vector: expected length 3, got 2"):
        decoder.predicted_error(np.array([0, 1, 2]), np.ones(2))
    with pytest.raises(ValueError, match="at most 2 a set, got 3"):
        decoder.profile(np.array([[0, 1, 2]]))
    with pytest.raises(ValueError, match="stragglers: expected distinct"):
        decoder.profile(np.array([[0, 0]]))
