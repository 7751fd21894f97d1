"""Hypothesis strategies for small schedules of any shape.

All fractions, costs and times are dyadic with few bits, so that sums and products of them are exact and ties
are frequent: results can be compared for equality.

Besides, a check of schedules that are small enough to try every set of stragglers.
"""

import itertools

import numpy as np
from hypothesis import strategies as st

from cgc_fast.codes import Code, CyclicCode, RepetitionCode
from cgc_fast.schedule import Cell, Schedule, Walk


class ListedCode(Code):
    """A code of which the schedule knows nothing: any supports, one row may be missing."""

    promise = 0.0

    def __init__(self, supports, parts):
        self.rows, self.parts, self.redundancy = len(supports), parts, min(1, len(supports) - 1)
        self.supports = [np.array(sorted(parts), dtype=np.int64) for parts in supports]

    def support_parts(self, row):
        return self.supports[row]

    def support(self, row):
        return self.supports[row], 1.0 + self.supports[row]

    def can_decode(self, rows):
        return len(set(rows)) >= self.required_rows

    def decoding_vector(self, rows, dtype=np.float64):
        raise NotImplementedError

    def predicted_error(self, rows, vector):
        raise NotImplementedError


repetition_codes = st.integers(1, 3).map(RepetitionCode)
# Made once: a code whose coefficients are asked for draws and tests a matrix.
cyclic_codes = st.sampled_from([CyclicCode(parts, s) for parts in (2, 4) for s in range(parts)])
listed_codes = st.lists(st.sets(st.integers(0, 3), min_size=1), min_size=1, max_size=3).map(
    lambda supports: ListedCode(supports, parts=4)
)
any_codes = repetition_codes | cyclic_codes | listed_codes

costs = st.fixed_dictionaries(
    {
        "samples": st.sampled_from([1, 8]),
        "cycles_per_derivative": st.sampled_from([0.5, 1.0, 2.0]),
        "forward_cycles": st.sampled_from([0.0, 0.5, 4.0]),
    }
)
cycle_time = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 4.0, np.inf])
delay = st.sampled_from([0.0, 0.5, 4.0, np.inf])
latency = st.sampled_from([0.0, 0.25, 2.0])


def rows_of(workers, values):
    """Draws (S, workers) of `values`."""
    row = st.lists(values, min_size=workers, max_size=workers)
    return st.lists(row, min_size=1, max_size=3).map(np.array)


@st.composite
def schedules(draw, feedback="none", codes=any_codes):
    """Strips of samples, each cut into cells of its own; every cell visited often enough, in any order."""
    workers, coordinates = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    strips = draw(st.sampled_from([1, 2, 4]))
    cells = []
    for k in range(strips):
        cuts = sorted(draw(st.sets(st.integers(1, coordinates), max_size=2)) | {0, coordinates})
        for start, stop in itertools.pairwise(cuts):
            cells.append(Cell(start, stop, k / strips, (k + 1) / strips, draw(codes)))
    cells.insert(draw(st.integers(0, len(cells))), Cell(0, coordinates, 0.5, 0.5, draw(codes)))

    visits = [[] for _ in range(workers)]
    for index, cell in enumerate(cells):
        if cell.is_empty:
            continue
        rows = draw(st.permutations(range(cell.code.rows)))
        for row in rows[: draw(st.integers(cell.code.required_rows, cell.code.rows))]:
            for worker in draw(st.sets(st.integers(0, workers - 1), min_size=1)):
                visits[worker].append((index, row))
    walks = [Walk(*np.array(draw(st.permutations(of)), dtype=np.int64).reshape(-1, 2).T) for of in visits]
    return Schedule(workers, coordinates, cells, walks, feedback)


def check_every_straggler_set(made: Schedule, redundancy: int) -> None:
    """Whichever so many workers are missing, all cells decode as accurately as predicted and promised.

    `made` has one block, of which every worker visits one cell.
    """
    assert {len(walk) for walk in made.walks} == {1}
    for missing in itertools.combinations(range(made.workers), redundancy):
        for index, cell in enumerate(made.cells):
            rows = sorted(
                {
                    int(walk.rows[0])
                    for w, walk in enumerate(made.walks)
                    if walk.cells[0] == index and w not in missing
                }
            )
            vector = cell.code.decoding_vector(rows)
            decoded = np.zeros(cell.code.parts)
            for weight, row in zip(vector, rows, strict=True):
                parts, coefficients = cell.code.support(row)
                decoded[parts] += weight * coefficients
            predicted = cell.code.predicted_error(rows, vector)
            assert abs(decoded - 1.0).max() <= predicted <= cell.code.promise
