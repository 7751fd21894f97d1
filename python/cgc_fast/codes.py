"""Codes: which parts a row sums, with which coefficients, and how rows are decoded.

A code describes rows over the equal parts of a cell's sample range; a row is not a process. Matrices are
made on first use: planning, invariants and simulation only count rows.

Decoding is exact up to rounding, and the rounding is predicted: a decoding vector is handed out only if its
predicted error keeps the code's promise. Errors are measured in the norm

    max_l |decoded_l - g_l| <= promise * max_l Σ_parts |∂_l f_part|,

for payloads whose part sums have the same bits in every worker that holds the part. Payloads are float64
unless float32 is said: float32 payloads are summed in float64 by the worker, rounded once, and widened before
they are decoded (`combine.weighted_sum` into a float64 array).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from cgc_fast import _core
from cgc_fast.arguments import integer
from cgc_fast.cyclic_matrices import (
    ChosenMatrix,
    CodeProfile,
    choose_matrix,
    promised_error,
    tries_all_sets,
)
from cgc_fast.errors import ArgumentTypeError, ArgumentValueError, DecodeError, NumericalError

__all__ = ["Code", "CodeProfile", "CyclicCode", "RepetitionCode", "decoding_vectors"]

_UNIT_ROUNDOFF = float(np.finfo(np.float64).eps) / 2
_SINGLE_ROUNDOFF = float(np.finfo(np.float32).eps) / 2
# Beyond it float32 payloads of a cyclic code are refused.
_MOST_SINGLE_ERROR = 1e-3
_FLOAT64 = np.dtype(np.float64)


class Code(ABC):
    """Rows over the equal parts of a sample range.

    Attributes
    ----------
    rows : int
        Number of rows.
    parts : int
        Number of equal parts that the sample range is cut into.
    redundancy : int
        How many rows may be missing, whichever they are, with the all-ones row still in the span.
    """

    rows: int
    parts: int
    redundancy: int

    @property
    def required_rows(self) -> int:
        """How many rows any decoding needs, whichever they are: ``rows - redundancy``."""
        return self.rows - self.redundancy

    @property
    @abstractmethod
    def promise(self) -> float:
        """Largest predicted error of a decoding vector that is handed out (float64 payloads)."""

    def promise_for(self, dtype: DTypeLike) -> float:
        """`promise` for payloads of this type: float64, or float64 rounded to float32 once.

        Raises
        ------
        NumericalError
            Too little would be left of float32 payloads; the message names the alternatives.
        """
        return self._single_promise() if _is_single(dtype) else self.promise

    def _single_promise(self) -> float:
        raise NumericalError(
            f"{self!r}: no bound for float32 payloads is known; use float64 payloads, or a repetition code"
        )

    @abstractmethod
    def support(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Parts (k,) that `row` sums, and their coefficients (k,)."""

    @abstractmethod
    def support_parts(self, row: int) -> NDArray[np.int64]:
        """Parts (k,) that `row` sums, without making a matrix."""

    @abstractmethod
    def can_decode(self, rows: Sequence[int] | NDArray[np.int64]) -> bool:
        """Whether the all-ones row is in the span of these rows."""

    @abstractmethod
    def decoding_vector(
        self, rows: Sequence[int] | NDArray[np.int64], dtype: DTypeLike = np.float64
    ) -> NDArray[np.float64]:
        """Coefficients a (len(rows),) with aᵀ B[rows] = 1ᵀ, for payloads of this type (`promise_for`).

        Raises
        ------
        DecodeError
            The rows do not determine the sum.
        NumericalError
            They do, but not to the accuracy that the code promises; one more row may help.
        """

    @abstractmethod
    def predicted_error(
        self,
        rows: Sequence[int] | NDArray[np.int64],
        vector: NDArray[np.float64],
        dtype: DTypeLike = np.float64,
    ) -> float:
        """Error to expect when payloads of `rows` (k,), of this type, are decoded with `vector` (k,).

        ‖aᵀB − 1ᵀ‖_∞ and the rounding of payloads and decoding, in the norm of this module.
        """


_ONE = np.ones(1)
_ONE.flags.writeable = False


class RepetitionCode(Code):
    """Every row is the one part itself: any one row decodes, with coefficient 1.

    Two codes with the same number of rows are equal.

    Parameters
    ----------
    rows : int
        How many workers compute the part, at least 1. Redundancy is ``rows - 1``.
    """

    parts = 1

    def __init__(self, rows: int) -> None:
        self.rows = integer("rows", rows, 1)
        self.redundancy = self.rows - 1

    @property
    def promise(self) -> float:
        """1e-12: a decoded value is the payload itself."""
        return 1e-12

    def _single_promise(self) -> float:
        return 1e-5

    def support(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Part 0 with coefficient 1."""
        return self.support_parts(row), np.ones(1)

    def support_parts(self, row: int) -> NDArray[np.int64]:
        """Part 0."""
        _row_index(row, self.rows)
        return np.zeros(1, dtype=np.int64)

    def can_decode(self, rows: Sequence[int] | NDArray[np.int64]) -> bool:
        """Whether there is a row at all."""
        return _row_indices(rows, self.rows).size > 0

    def decoding_vector(
        self, rows: Sequence[int] | NDArray[np.int64], dtype: DTypeLike = np.float64
    ) -> NDArray[np.float64]:
        """(1, 0, ..., 0): the first of the rows, as it is."""
        if isinstance(rows, tuple) and len(rows) == 1 and 0 <= rows[0] < self.rows:  # the master's only case
            return _ONE
        indices = _distinct_row_indices(rows, self.rows)
        if not indices.size:
            raise DecodeError("a repetition code decodes from any one row; got none")
        vector = np.zeros(indices.size)
        vector[0] = 1.0
        return vector

    def predicted_error(
        self,
        rows: Sequence[int] | NDArray[np.int64],
        vector: NDArray[np.float64],
        dtype: DTypeLike = np.float64,
    ) -> float:
        """|Σ a − 1| and, for each row in use, the rounding of a product, a sum and a float32 payload."""
        indices = _distinct_row_indices(rows, self.rows)
        coefficients = _coefficient_vector(vector, indices.size)
        used = coefficients[coefficients != 0.0]
        residual = abs(math.fsum(used) - 1.0)
        roundings = used.size * _UNIT_ROUNDOFF + (_SINGLE_ROUNDOFF if _is_single(dtype) else 0.0)
        return residual + float(roundings * np.abs(used).sum())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RepetitionCode) and self.rows == other.rows

    def __hash__(self) -> int:
        return hash((RepetitionCode, self.rows))

    def __repr__(self) -> str:
        return f"RepetitionCode({self.rows})"


class CyclicCode(Code):
    """The cyclic gradient code [TANDON17]: row w sums the parts w, w+1, ..., w+s (mod N).

    Row w is the unit vector on its parts in the null space of an s × N matrix H that holds the all-ones row.
    Any N − s rows span that row, though not equally accurately: H is chosen from harmonics of the circle by
    the errors measured on straggler sets (`cgc_fast.cyclic_matrices`, docs/codes.md).

    The matrix is made when it is first needed and travels when a code is pickled: it is never chosen again
    elsewhere. Codes with the same workers, redundancy and seed are equal.

    Parameters
    ----------
    workers : int
        N, the number of rows and of parts, at least 1.
    redundancy : int
        s, in 0..N−1. 0 gives the identity, N−1 the plain sum of all parts, scaled, in every row.
    seed : int
        Seed of the draws, at least 0; a code whose matrix needs no draws does not depend on it.

    Notes
    -----
    Making the matrix takes seconds at most up to 100 workers (`choose_matrix` has the operations), a decoding
    vector of k rows O(N min(N − s, N − k)² + N²).
    """

    def __init__(self, workers: int, redundancy: int, seed: int = 0) -> None:
        self.rows = self.parts = integer("workers", workers, 1)
        self.redundancy = integer("redundancy", redundancy, 0, self.rows - 1)
        self.seed = integer("seed", seed, 0)
        self._drawn: ChosenMatrix | None = None
        self._matrix: NDArray[np.float64] | None = None
        self._decoder: _core.CyclicDecoder | None = None
        self._vectors: dict[tuple[int, ...], NDArray[np.float64]] = {}
        self._single_vectors: dict[tuple[int, ...], NDArray[np.float64]] = {}  # those good for float32, too

    @property
    def workers(self) -> int:
        """N, the number of rows."""
        return self.rows

    @property
    def promise(self) -> float:
        """1e-9 up to 100 workers; beyond, the worst random or contiguous set of `profile`, if more."""
        limit = promised_error(self.rows)
        return limit if math.isfinite(limit) else max(1e-9, self.profile.contiguous, self.profile.random)

    def _single_promise(self) -> float:
        measured = self.profile.single
        if not measured <= _MOST_SINGLE_ERROR:
            raise NumericalError(
                f"{self!r}: decoding float32 payloads may be off by {measured:.1e}, more than "
                f"{_MOST_SINGLE_ERROR}; use float64 payloads, or a repetition code, which loses nothing"
            )
        return measured

    @property
    def has_few_sets(self) -> bool:
        """Whether all straggler sets are tried when the matrix is made: there are at most 13,000."""
        return tries_all_sets(self.rows, self.redundancy)

    @property
    def profile(self) -> CodeProfile:
        """What was measured when the matrix was made (makes it)."""
        return self._draw().profile

    @property
    def matrix(self) -> NDArray[np.float64]:
        """B, float64 (N, N), read-only.

        Raises
        ------
        NumericalError
            No draw of a bounded number keeps the promise.
        """
        if self._matrix is None:
            matrix = np.zeros((self.rows, self.rows))
            rows = np.arange(self.rows)[:, None]
            matrix[rows, (rows + np.arange(self.redundancy + 1)) % self.rows] = self._draw().coefficients
            matrix.flags.writeable = False
            self._matrix = matrix
        return self._matrix

    def support(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Parts w, ..., w+s (mod N) of row w (s+1,), and their coefficients (s+1,), read-only."""
        return self.support_parts(row), self._draw().coefficients[row]

    def support_parts(self, row: int) -> NDArray[np.int64]:
        """Parts w, ..., w+s (mod N) of row w (s+1,); needs no matrix."""
        return (_row_index(row, self.rows) + np.arange(self.redundancy + 1, dtype=np.int64)) % self.rows

    def can_decode(self, rows: Sequence[int] | NDArray[np.int64]) -> bool:
        """Whether there are N − s distinct rows: fewer practically never span the all-ones row."""
        return len(set(_row_indices(rows, self.rows).tolist())) >= self.required_rows

    def decoding_vector(
        self, rows: Sequence[int] | NDArray[np.int64], dtype: DTypeLike = np.float64
    ) -> NDArray[np.float64]:
        """The shortest coefficients a (k,) with aᵀ B[rows] = 1ᵀ, read-only.

        Parameters
        ----------
        rows : sequence of int or int64 array (k,)
            Distinct rows, in the order in which their payloads will be summed. The vectors of the last tuples
            are kept: where the same workers are slow for hours, nothing is solved again.
        dtype : dtype
            Of the payloads: float64, or float32 where `promise_for` it is not an error.

        Raises
        ------
        DecodeError
            Fewer than N − s rows.
        NumericalError
            The predicted error exceeds the promise; one more row may help.
        """
        # np.float64 and its np.dtype: the master's every-day case.
        single = dtype is not np.float64 and dtype is not _FLOAT64 and _is_single(dtype)
        kept = self._single_vectors if single else self._vectors
        known = kept.get(rows) if isinstance(rows, tuple) else None
        if known is not None:
            return known
        indices = _distinct_row_indices(rows, self.rows)
        if indices.size < self.required_rows:
            raise DecodeError(f"{self!r} decodes from {self.required_rows} distinct rows; got {indices.size}")
        decoder = self._make_decoder()
        vector, error = decoder.decode(indices)
        if single:
            self._require(decoder.predicted_error(indices, vector, True), self._single_promise(), indices)
        self._require(error, self.promise, indices)
        _keep(kept, rows, vector)
        return vector

    def _require(self, error: float, promise: float, rows: NDArray[np.int64]) -> None:
        if not error <= promise:
            raise NumericalError(
                f"{self!r}: predicted error {error:.1e} of decoding from rows {rows.tolist()} exceeds the "
                f"promised {promise:.1e}; wait for one more row"
            )

    def predicted_error(
        self,
        rows: Sequence[int] | NDArray[np.int64],
        vector: NDArray[np.float64],
        dtype: DTypeLike = np.float64,
    ) -> float:
        """Error to expect when payloads of `rows` (k,), of this type, are decoded with `vector` (k,).

        The residual ‖aᵀB − 1ᵀ‖_∞, and a bound on the rounding of payloads and decoding in the norm of this
        module: certain for up to 36 rounding errors, beyond that with probability 1 − 3e-8 if they are
        independent and of mean zero. Rounding to float32 is relative down to 1e-38 only.
        """
        indices = _distinct_row_indices(rows, self.rows)
        coefficients = _coefficient_vector(vector, indices.size)
        return self._make_decoder().predicted_error(indices, coefficients, _is_single(dtype))

    def _draw(self) -> ChosenMatrix:
        if self._drawn is None:
            self._drawn, self._decoder = choose_matrix(self.rows, self.redundancy, self.seed)
        return self._drawn

    def _make_decoder(self) -> _core.CyclicDecoder:
        drawn = self._draw()
        if self._decoder is None:  # unpickled
            self._decoder = _core.CyclicDecoder(drawn.null_matrix, drawn.coefficients)
        return self._decoder

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.rows, self.redundancy, self.seed, self._draw())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CyclicCode) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((CyclicCode, self._key()))

    def _key(self) -> tuple[int, int, int]:
        return self.rows, self.redundancy, self.seed

    def __repr__(self) -> str:
        return f"CyclicCode(workers={self.rows}, redundancy={self.redundancy}, seed={self.seed})"


def _restored(workers: int, redundancy: int, seed: int, drawn: ChosenMatrix) -> CyclicCode:
    """Unpickle a code with the matrix that it was sent with."""
    code = CyclicCode(workers, redundancy, seed)
    code._drawn = drawn
    drawn.null_matrix.flags.writeable = drawn.coefficients.flags.writeable = False
    return code


# Decoding vectors that a code keeps.
_MOST_VECTORS = 256


def _keep(
    kept: dict[tuple[int, ...], NDArray[np.float64]], rows: object, vector: NDArray[np.float64]
) -> None:
    vector.flags.writeable = False
    if isinstance(rows, tuple):
        if len(kept) >= _MOST_VECTORS:
            del kept[next(iter(kept))]  # the oldest
        kept[rows] = vector


def decoding_vectors(
    codes: Sequence[Code], order: Sequence[int] | NDArray[np.int64]
) -> list[tuple[tuple[int, ...], NDArray[np.float64]] | NumericalError]:
    """Rows and decoding vectors of many codes of the same workers for one order of arrival.

    Each code decodes from the first `required_rows` rows of `order`; cyclic codes are solved in one call, and
    keep their vectors as `decoding_vector` does.

    Parameters
    ----------
    codes : sequence of C codes
        With the same number of rows, e.g. those of all levels.
    order : sequence of int or int64 array (k,)
        Distinct rows as they arrive, k no less than any code's required rows.

    Returns
    -------
    list of C entries
        The sorted rows and their vector; or the error of a code that should wait for one more row.

    Raises
    ------
    ArgumentValueError
        Different numbers of rows, or too few rows in `order`.
    """
    counts = {code.rows for code in codes}
    if len(counts) > 1:
        raise ArgumentValueError(f"codes: expected the same number of rows in each, got {sorted(counts)}")
    if not codes:
        return []
    indices = _distinct_row_indices(order, codes[0].rows)
    needed = max(code.required_rows for code in codes)
    if indices.size < needed:
        raise ArgumentValueError(f"order: expected at least {needed} rows, got {indices.size}")
    cyclic = [code for code in codes if isinstance(code, CyclicCode)]
    rows, vectors, errors = _core.decode_in_order([code._make_decoder() for code in cyclic], indices)
    ends = np.cumsum([code.required_rows for code in cyclic], dtype=np.int64)[:-1]
    solved = zip(np.split(rows, ends), np.split(vectors, ends), errors.tolist(), strict=True)
    results: list[tuple[tuple[int, ...], NDArray[np.float64]] | NumericalError] = []
    for code in codes:
        if not isinstance(code, CyclicCode):
            key = tuple(sorted(indices[: code.required_rows].tolist()))
            results.append((key, code.decoding_vector(key)))
            continue
        code_rows, vector, error = next(solved)
        try:
            code._require(error, code.promise, code_rows)
        except NumericalError as refusal:
            results.append(refusal)
        else:
            key = tuple(code_rows.tolist())
            vector = vector.copy()
            _keep(code._vectors, key, vector)
            results.append((key, vector))
    return results


def _is_single(dtype: DTypeLike) -> bool:
    kind = np.dtype(dtype)
    if kind not in (np.float64, np.float32):
        raise ArgumentTypeError(f"dtype: expected float64 or float32, got {kind}")
    return bool(kind == np.float32)


def _row_index(row: int, count: int) -> int:
    return integer("row", row, 0, count - 1)


def _row_indices(rows: ArrayLike, count: int) -> NDArray[np.int64]:
    """Check row indices (k,), repetitions allowed."""
    array = np.asarray(rows)
    if array.ndim != 1:
        raise ArgumentValueError(f"rows: expected one dimension, got shape {array.shape}")
    if not array.size:
        return np.empty(0, dtype=np.int64)
    if array.dtype.kind not in "iu":
        raise ArgumentTypeError(f"rows: expected integers, got {array.dtype}")
    if array.min() < 0 or array.max() >= count:
        raise ArgumentValueError(f"rows: expected indices in 0..{count - 1}, got {array.tolist()}")
    return np.ascontiguousarray(array, dtype=np.int64)


def _distinct_row_indices(rows: ArrayLike, count: int) -> NDArray[np.int64]:
    array = _row_indices(rows, count)
    if array.size and np.bincount(array).max() > 1:
        raise ArgumentValueError(f"rows: expected each row once, got {array.tolist()}")
    return array


def _coefficient_vector(vector: ArrayLike, count: int) -> NDArray[np.float64]:
    array = np.ascontiguousarray(vector, dtype=np.float64)
    if array.shape != (count,):
        raise ArgumentValueError(
            f"vector: expected one coefficient a row, shape ({count},); got {array.shape}"
        )
    return array
