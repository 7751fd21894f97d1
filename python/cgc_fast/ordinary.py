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
from cgc_fast.reports import EndedIterations, Record
from cgc_fast.schedule import Schedule
from cgc_fast.supervisor import SignOfLife

__all__ = ["CompleteBlock", "Ended", "Left", "OrdinaryIterations"]


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


class Ended(NamedTuple):
    """An iteration that ended as it began: when it did, how long it took, the loss if that was asked for."""

    began_s: float
    elapsed_s: float
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
        self._why: str | None = None  # the core came back, and nobody has looked after it yet

    def begin(
        self,
        iteration: int,
        theta: NDArray[np.float64],
        gradient: NDArray[np.float64],
        with_value: bool,
        *,
        to_the_end: bool = False,
    ) -> bool:
        """Publish theta, and with `to_the_end` go on until that, or until `step` has something to do.

        False, and nothing has happened, if a worker is missing or silent, or theta is not finite.
        """
        self._told = 0
        self._why = None
        longest_s = _short_s()
        why = self._engine.start_collecting(
            iteration, theta, gradient, with_value, longest_s, longest_s if to_the_end else None
        )
        if why is None:
            return False
        if to_the_end:
            self._why = why
        return True

    @property
    def done(self) -> bool:
        """Whether every cell is decoded."""
        return self._why == "done"

    def step(self, until_s: float | None, each_block: bool) -> list[CompleteBlock] | None:
        """Go on until the end, a moment of the iteration or, with `each_block`, new blocks; these.

        None: something unusual happened.
        """
        longest_s = _short_s()
        moment_s = longest_s if until_s is None else min(until_s, longest_s)
        while True:
            why = self._why  # `begin` came back with it
            if why is None or why == "done":
                why = self._engine.collect(moment_s, each_block)
            self._why = None
            if why == "done":
                self._why = why
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
        record = self.record(collector.iteration, at_once=False)
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
        collector = engine.running_collector()
        collector.leave()
        new = self._new_blocks()
        record = self.record(collector.iteration, at_once=False)
        assert record is not None
        decoded_s = record.decoded_s()
        left = Left(
            events=engine.collected_events(),
            signs=engine.signs_at_start(),
            contributors={cell: tuple(collector.contributors(cell)) for cell in decoded_s},
            decoded_s=decoded_s,
            blocks_s=record.blocks_s(),
            loss=collector.loss,
        )
        return left, new

    def end(self, iteration: int) -> Ended | None:
        """End it, complete or not; None if it did not begin, or the engine is at its end."""
        if not self._engine.end_collecting(iteration):
            return None
        collector = self._engine.running_collector()
        return Ended(1e-9 * collector.began_ns, 1e-9 * collector.elapsed_ns, collector.loss)

    def take_ended(self) -> EndedIterations | None:
        """What ended iterations came to since the last call; None after the end of the engine."""
        rows = self._engine.take_ended()
        return None if rows is None else EndedIterations.of(rows)

    def record(self, iteration: int, *, at_once: bool = True) -> Record | None:
        """What happened so far; None if it did not begin or, with `at_once`, while another thread waits."""
        found = self._engine.record(at_once=at_once)
        if found is None or self._engine.running_collector().iteration != iteration:
            return None
        return Record(*found, row_offsets=self._offsets)
