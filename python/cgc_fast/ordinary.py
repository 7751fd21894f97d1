"""Ordinary iterations: everybody delivers what its walk says, and the compiled core carries them out.

The core receives, counts, decodes and sleeps; Python is asked for decoding vectors and told when blocks are
complete. As soon as anything unusual happens (a worker is gone or silent for long, a payload is not finite, a
vector is refused) the master leaves: it feeds all arrivals so far to the `Decoder`, which so arrives at the
same state by itself, and goes on with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cgc_fast import supervisor
from cgc_fast.codes import RepetitionCode
from cgc_fast.engines import CellOutline, Collecting, Event
from cgc_fast.errors import DecodeError, NumericalError
from cgc_fast.reports import Record
from cgc_fast.schedule import Schedule
from cgc_fast.supervisor import SignOfLife

__all__ = ["CompleteBlock", "Finished", "Left", "OrdinaryIterations"]


def _short_s() -> float:
    """Whoever was seen so long before the iteration began cannot be suspected for as long after."""
    return 0.5 * supervisor.SUSPECT_S


@dataclass(frozen=True)
class CompleteBlock:
    """A block that was completed, when, and whose payloads were used."""

    block: int
    at_s: float
    workers: tuple[int, ...]


@dataclass(frozen=True)
class Left:
    """An iteration that was left in the middle.

    Attributes
    ----------
    events : list of Event
        All arrivals, in their order.
    signs : sequence of SignOfLife
        When it began.
    contributors : dict
        Of each cell that is decoded already, whose payloads were used, in the order of their rows.
    decoded_s, blocks_s : dict
        When cells were decoded and blocks complete.
    loss : float
        Of the decoded cells.
    """

    events: list[Event] = field(default_factory=list)
    signs: Sequence[SignOfLife] = ()
    contributors: dict[int, tuple[int, ...]] = field(default_factory=dict)
    decoded_s: dict[int, float] = field(default_factory=dict)
    blocks_s: dict[int, float] = field(default_factory=dict)
    loss: float = 0.0


class Finished(NamedTuple):
    """An iteration that ended as it began.

    `delivered`: payloads of each worker (N,); `last_ended_ns`: when it completed the last; `loss`: of the
    decoded cells, if it was asked for.
    """

    record: Record
    delivered: NDArray[np.int64]
    last_ended_ns: NDArray[np.int64]
    loss: float


class OrdinaryIterations:
    """Run iterations in the compiled core as long as they are ordinary.

    Parameters
    ----------
    schedule : Schedule
        Without feedback, and with float64 payloads.
    engine : Collecting
    """

    def __init__(self, schedule: Schedule, engine: Collecting) -> None:
        self._engine = engine
        self._codes = [cell.code for cell in schedule.cells]
        self._offsets = schedule.row_offsets
        self._cells_of_block: list[list[int]] = [[] for _ in schedule.blocks]
        outlines = []
        for index, cell in enumerate(schedule.cells):
            blocks = list(schedule.cell_blocks(index))
            code = cell.code
            # The first row alone, as it is: what `RepetitionCode.decoding_vector` answers.
            plain = type(code) is RepetitionCode
            required = code.required_rows
            outlines.append(
                CellOutline(cell.start, cell.stop, code.rows, required, plain, cell.is_empty, blocks)
            )
            if not cell.is_empty:
                for block in blocks:
                    self._cells_of_block[block].append(index)
        engine.lay_out_collector(outlines, np.array(schedule.blocks, dtype=np.int64).reshape(-1, 2))
        self._told = 0
        self.done = False

    def begin(
        self, iteration: int, theta: NDArray[np.float64], gradient: NDArray[np.float64], with_value: bool
    ) -> bool:
        """Publish theta; False, and nothing has happened, if a worker is missing or silent."""
        self._told = 0
        self.done = False
        return self._engine.start_collecting(iteration, theta, gradient, with_value, _short_s())

    def step(self, until_s: float | None, each_block: bool) -> list[CompleteBlock] | None:
        """Go on until the end, a moment of the iteration or, with `each_block`, new blocks; these.

        None: something unusual happened.
        """
        longest_s = _short_s()
        moment_s = longest_s if until_s is None else min(until_s, longest_s)
        while True:
            why = self._engine.collect(moment_s, each_block)
            if why == "done":
                self.done = True
                return self._new_blocks() if each_block else []
            if why == "vector":
                if not self._decode_pending():
                    return None
            elif why == "unusual" or (why == "late" and moment_s == longest_s):
                return None
            else:
                return self._new_blocks() if each_block else []

    def _decode_pending(self) -> bool:
        """Hand over the decoding vector that is asked for; False if it is refused."""
        collector = self._engine.running_collector()
        cell, rows = collector.pending()
        try:
            vector = self._codes[cell].decoding_vector(rows)
        except (DecodeError, NumericalError):
            return False
        collector.decode(vector)
        return True

    def _new_blocks(self) -> list[CompleteBlock]:
        collector = self._engine.running_collector()
        completed = collector.completed()
        new, self._told = completed[self._told :], len(completed)
        if not new:
            return []
        record = self.record(at_once=False)
        assert record is not None
        return [
            CompleteBlock(block, record.seconds(int(record.blocks_ns[block])), self._contributors(block))
            for block in new
        ]

    def _contributors(self, block: int) -> tuple[int, ...]:
        collector = self._engine.running_collector()
        workers = {w for cell in self._cells_of_block[block] for w in collector.contributors(cell)}
        return tuple(sorted(workers))

    def leave(self) -> tuple[Left, list[CompleteBlock]]:
        """What whoever goes on has to know, and the blocks that nobody was told of."""
        engine = self._engine
        new = self._new_blocks()
        record = self.record(at_once=False)
        assert record is not None
        decoded_s = record.decoded_s()
        left = Left(
            events=engine.collected_events(),
            signs=engine.signs_at_start(),
            contributors={cell: tuple(engine.running_collector().contributors(cell)) for cell in decoded_s},
            decoded_s=decoded_s,
            blocks_s=record.blocks_s(),
            loss=engine.running_collector().loss,
        )
        return left, new

    def finish(self, iteration: int) -> Finished | None:
        """End it, complete or not; None if it did not begin, or the engine is at its end."""
        record = self.record(at_once=False)
        if record is None:
            return None
        collector = self._engine.running_collector()
        if collector.iteration != iteration:
            return None
        return Finished(record, *collector.tally(), collector.loss)

    def record(self, *, at_once: bool = True) -> Record | None:
        """What happened so far; None while, with `at_once`, another thread waits for more."""
        found = self._engine.record(at_once=at_once)
        return None if found is None else Record(*found, row_offsets=self._offsets)
