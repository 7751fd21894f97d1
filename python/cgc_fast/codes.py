"""Codes: which parts a row sums, with which coefficients, and how rows are decoded.

A code describes rows over the equal parts of a cell's sample range; a row is not a process. Matrices are
made on first use: planning, invariants and simulation only count rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Code", "CyclicCode", "RepetitionCode"]


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
        """How many rows any decode needs."""
        return self.rows - self.redundancy

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
    def decoding_vector(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
        """Coefficients a (len(rows),) with aᵀ B[rows] = 1ᵀ.

        Raises
        ------
        DecodeError
            The rows do not determine the sum.
        NumericalError
            They do, but not to the accuracy that the code promises; one more row may help.
        """


class RepetitionCode(Code):
    """Every row is the one part itself: any one row decodes, with coefficient 1."""

    def __init__(self, rows: int) -> None:
        self.rows, self.parts, self.redundancy = rows, 1, rows - 1

    def support(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The one part, coefficient 1."""
        return np.zeros(1, dtype=np.int64), np.ones(1)

    def support_parts(self, row: int) -> NDArray[np.int64]:
        """The one part."""
        return np.zeros(1, dtype=np.int64)

    def can_decode(self, rows: Sequence[int] | NDArray[np.int64]) -> bool:
        """Any row will do."""
        return len(rows) > 0

    def decoding_vector(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
        """The first row alone."""
        vector = np.zeros(len(rows))
        vector[0] = 1.0
        return vector

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RepetitionCode) and other.rows == self.rows

    def __hash__(self) -> int:
        return hash((RepetitionCode, self.rows))


class CyclicCode(Code):
    """Stand-in: row w on parts w..w+s (mod N), without coefficients."""

    def __init__(self, workers: int, redundancy: int, seed: int = 0) -> None:
        self.rows = self.parts = workers
        self.redundancy, self.seed = redundancy, seed

    def support(self, row: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Parts, with coefficients that tell them apart."""
        parts = self.support_parts(row)
        return parts, 1.0 + parts.astype(np.float64)

    def support_parts(self, row: int) -> NDArray[np.int64]:
        """Parts w..w+s (mod N)."""
        return (row + np.arange(self.redundancy + 1, dtype=np.int64)) % self.parts

    def can_decode(self, rows: Sequence[int] | NDArray[np.int64]) -> bool:
        """Counting rows."""
        return len(set(map(int, rows))) >= self.required_rows

    def decoding_vector(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
        """Not in the stand-in."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CyclicCode) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[int, int, int]:
        return self.rows, self.redundancy, self.seed
