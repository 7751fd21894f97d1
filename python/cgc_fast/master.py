"""The master of one cluster: hosts decoder and supervisor, and carries out what they say.

One iteration at a time, by one thread at a time: `begin`, then `step` until `done`, then `finish`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import all_finite, plain_sum, weighted_sum
from cgc_fast.arguments import Cost
from cgc_fast.decoder import DecodeCell, Decoder
from cgc_fast.engines import (
    Collecting,
    Delivered,
    Engine,
    Event,
    Job,
    Lost,
    Ready,
    Replanning,
    Summed,
    Visited,
)
from cgc_fast.errors import ArgumentValueError, CgcError, DecodeError, NonFiniteGradient, WorkerDied
from cgc_fast.ordinary import Ended, Left, OrdinaryIterations
from cgc_fast.payloads import loss_of, loss_size
from cgc_fast.reports import (
    Delivery,
    EventLog,
    Health,
    IterationReport,
    MeasuredTimes,
    MeasuredVisits,
    WorkerEvent,
    WorkerHealth,
)
from cgc_fast.schedule import Schedule
from cgc_fast.supervisor import Failure, Kill, Order, Replace, Supervisor
from cgc_fast.worker import Visit, visit_of

__all__ = ["Block", "Master", "slot_widths"]

logger = logging.getLogger(__name__)

_NOTHING = Left()
_MOST_SKIPPED = 256  # iterations that the compiled core keeps the account of


@dataclass(frozen=True)
class Block:
    """A block of the gradient, complete.

    Attributes
    ----------
    coordinates : slice
        Which coordinates; `theta[block.coordinates]` are the parameters that they belong to.
    values : ndarray, float64
        The partial derivatives, summed over all samples. A read-only view of the gradient of this iteration.
    elapsed_s : float
        Seconds since the iteration began (virtual ones under the serial engine).
    workers : tuple of int
        Whose payloads were used.
    """

    coordinates: slice
    values: NDArray[np.float64]
    elapsed_s: float
    workers: tuple[int, ...]


def slot_widths(schedule: Schedule) -> NDArray[np.int64]:
    """Values of the payload of each row of each cell: its coordinates and, at the end of theta, the loss."""
    loss = loss_size(np.dtype(schedule.payload))
    widths = [cell.width + (loss if cell.stop == schedule.coordinates else 0) for cell in schedule.cells]
    return np.repeat(np.array(widths, dtype=np.int64), np.diff(schedule.row_offsets))


class Master:
    """Run iterations on an engine.

    Parameters
    ----------
    schedule : Schedule
    engine : Engine
        Started; closed by whoever made it.
    walks : list of list of Visit
        Of each worker.
    sample_ranges : list of ndarray (R, 2)
        What each worker holds.
    cost : Cost
        M, b, c.
    log : EventLog, optional
    """

    def __init__(
        self,
        schedule: Schedule,
        engine: Engine,
        walks: list[list[Visit]],
        sample_ranges: list[NDArray[np.int64]],
        cost: Cost,
        log: EventLog | None = None,
    ) -> None:
        self.engine = engine
        self.iteration = 0
        self.loss = 0.0
        self._sample_ranges = sample_ranges
        self._cost = cost
        self._log = log
        self._losses: dict[int, Lost] = {}
        # Of an ordinary iteration there is none until somebody asks, also in another thread.
        self._report: IterationReport | None = None
        self._books = threading.RLock()
        self._lay_out(schedule, walks)
        self._generations = [0] * schedule.workers  # under claim, of each worker
        count = schedule.workers
        self._delivered, self._abandoned, self._non_finite, self._delivered_now = (
            np.zeros(count, dtype=np.int64) for _ in range(4)
        )
        self._is_ordinary = False  # the iteration under way
        self._all_well = True  # at the end of the last iteration
        self._skipped = 0  # ordinary iterations that the supervisor knows nothing of
        self._well_s = 0.0  # when the last of them found every worker there and not silent
        self._ended: Ended | None = None  # the last of them, if it was the last iteration
        self._left = _NOTHING
        # Sums that are not in the report yet: worker, cells, visits, when they were added.
        self._sums: list[tuple[int, Sequence[int], Sequence[Visited], float]] = []
        # Workers that sent a sum, and are expected to do what they left until `_settle`.
        self._answered: list[int] = []
        self._can_hang = False
        self._check_at_s: float | None = None
        self._under_way = False
        self._broken_off = False  # the last iteration, by an exception or by leaving the loop

    def _lay_out(self, schedule: Schedule, walks: list[list[Visit]]) -> None:
        self.schedule = schedule
        self._feedback = schedule.feedback
        self._decoder = Decoder(schedule)
        self._supervisor = Supervisor(
            self._decoder, self._can_visit, self.engine.start_s, lambda: self._measured.recent().tolist()
        )
        self._offsets = schedule.row_offsets
        self._cell_of_slot = np.repeat(np.arange(len(schedule.cells)), np.diff(self._offsets)).tolist()
        self._held: dict[tuple[int, int, int], bool] = {}
        self._walk_length = np.array([len(walk) for walk in walks])
        self._measured = (
            MeasuredTimes([{v.slot: v.arrival_cycles for v in walk} for walk in walks])
            if self._feedback == "none"
            else MeasuredVisits(walks)
        )
        self._visits = {visit.slot: visit for walk in walks for visit in walk}
        self._ordinary: OrdinaryIterations | None = None
        plain = self._feedback == "none" and schedule.payload == "float64"
        if plain and isinstance(self.engine, Collecting):
            self._ordinary = OrdinaryIterations(schedule, self.engine)

    def replan(self, schedule: Schedule, walks: list[list[Visit]], job: Job) -> None:
        """Go on by another schedule, of the same feedback, with the same workers and samples."""
        assert isinstance(self.engine, Replanning)
        self.finish()
        self.secure()
        signs = self.engine.signs_of_life(reset=True)
        if signs is not None:  # what ordinary iterations have kept of them
            self._supervisor.remember(signs)
        patience_s = [self._supervisor.kill_after_s(w) for w in range(schedule.workers)]
        self.engine.replan(job, patience_s)
        decoder, supervisor, measured = self._decoder, self._supervisor, self._measured
        self._lay_out(schedule, walks)
        self._decoder.go_on_from(decoder)
        self._supervisor.go_on_from(supervisor)
        self._measured.go_on_from(measured)
        self._generations = [0] * schedule.workers  # the board is a new one
        if self._log is not None:
            self._log.schedule(schedule)

    # --- one iteration --------------------------------------------------------------------------------

    def begin(
        self,
        theta: NDArray[np.float64],
        gradient: NDArray[np.float64],
        cycle_times: NDArray[np.float64] | None,
        *,
        with_value: bool = False,
        to_the_end: bool = False,
    ) -> None:
        """Publish theta; `gradient` (L,) is filled by `step`.

        With `to_the_end` it may be complete on return. Raises if theta is not finite.
        """
        self.finish()  # what was dropped without a word
        self._gradient = gradient
        self._with_value = with_value
        self.loss = 0.0
        if cycle_times is None and self._begin_ordinary(theta, to_the_end):
            return
        _check_finite(theta)
        engine, supervisor = self.engine, self._supervisor
        gradient[:] = 0.0
        self._take_over()
        self.iteration += 1
        report = self._report = IterationReport(self.iteration)
        self._ended = None
        self._under_way = True
        self._delivered_now[:] = 0
        self._measured.begin()
        self._sums.clear()
        for event in engine.wait(0.0):  # what happened meanwhile
            self._take(event)
        if self._broken_off:
            self._reconcile()
        self._broken_off = True
        signs = engine.signs_of_life(reset=True)
        # The workers are at it while the master opens its accounts.
        engine.start(report.iteration, theta, cycle_times, self._decoder.open_cells, with_value)
        silent = () if cycle_times is None else np.flatnonzero(np.isinf(cycle_times)).tolist()
        before = [record.state for record in supervisor.records]
        supervisor.begin(report.iteration, engine.clock_s(), silent, signs, self._skipped, self._well_s)
        self._skipped = 0
        self._withdraw_suspected(before)
        self._can_hang = signs is not None
        self._act()
        self._next_check()

    @property
    def done(self) -> bool:
        """Whether the gradient is complete."""
        if self._is_ordinary:
            assert self._ordinary is not None
            return self._ordinary.done
        return self._decoder.done

    def step(self, until_s: float | None = None, *, each_block: bool = True) -> list[Block]:
        """Wait for the next thing to happen, or until a moment of the iteration; blocks that it completed.

        Raises if the gradient can never be complete; with `until_s` only when nothing more of it can come.
        Without `each_block` it may go on to the end, and may leave blocks out.
        """
        if self._is_ordinary:
            return self._step_ordinary(until_s, each_block)
        engine = self.engine
        if until_s is None or self._supervisor.nothing_can_come:
            self._raise_if_hopeless()
        timeout_s = None if until_s is None else max(0.0, until_s - engine.elapsed_s())
        asked_s = engine.clock_s()
        if self._check_at_s is not None:
            left_s = max(0.0, self._check_at_s - asked_s)
            timeout_s = left_s if timeout_s is None else min(timeout_s, left_s)
        elif timeout_s is None and engine.is_idle():
            raise DecodeError("no worker can deliver anything any more, but cells are still open")
        events = engine.wait(timeout_s)
        blocks = self._take_all(events)
        # Whether other workers may be waited for than before.
        changed = any(isinstance(event, Ready) for event in events)
        if self._check_at_s is not None and not self.done:
            now_s = engine.clock_s()
            if now_s >= self._check_at_s:
                signs = engine.signs_of_life()
                assert signs is not None
                # Beyond what was asked for the master itself did not run.
                overslept_s = now_s - asked_s - (timeout_s or 0.0)
                before = [record.state for record in self._supervisor.records]
                self._supervisor.check(now_s, signs, overslept_s if overslept_s > 1.0 else 0.0)
                self._note_suspicions(before)
                self._withdraw_suspected(before)
                changed = True
        if not self.done and (self._act() or changed):
            self._next_check()
        return blocks

    def finish(self) -> None:
        """End the iteration, complete or not; nothing if none is under way."""
        if not self._under_way:
            return
        self._under_way = False
        if self._is_ordinary:
            self._finish_ordinary()
            return
        report = self.report
        assert report is not None
        self.engine.finish(report.iteration)
        report.elapsed_s = self.engine.elapsed_s()
        report.complete = self._decoder.done
        self._broken_off = not report.complete
        self._decoder.cancel()
        self._tell_of_sums()
        if report.deliveries:
            self._measured.finish(report.elapsed_s)
        self._all_well = self._supervisor.all_well
        if self._feedback == "none":  # else what it leaves others have done
            self._abandoned += np.maximum(self._walk_length - self._delivered_now, 0)
        if self._log is not None:
            self._log.iteration(report)

    # --- ordinary iterations --------------------------------------------------------------------------

    def _begin_ordinary(self, theta: NDArray[np.float64], to_the_end: bool) -> bool:
        """Have the compiled core carry the iteration out, if all was well and is."""
        ordinary = self._ordinary
        if ordinary is None or not self._all_well or self._broken_off:
            return False
        before = self._report, self._ended
        with self._books:
            self._report = self._ended = None
            self._is_ordinary = self._under_way = True
            self.iteration += 1
        begun = ordinary.begin(self.iteration, theta, self._gradient, self._with_value, to_the_end=to_the_end)
        if not begun:
            with self._books:
                self._is_ordinary = self._under_way = False
                self.iteration -= 1
                self._report, self._ended = before
        return begun

    def _step_ordinary(self, until_s: float | None, each_block: bool) -> list[Block]:
        assert self._ordinary is not None
        complete = self._ordinary.step(until_s, each_block)
        if complete is None:
            return self._leave_ordinary()
        return [self._block(c.block, c.workers, c.at_s) for c in complete]

    def _leave_ordinary(self) -> list[Block]:
        """Something unusual happened: go on with the state machines, which go through the record."""
        ordinary, report = self._ordinary, self.report
        assert ordinary is not None
        assert report is not None
        left, complete = ordinary.leave()
        self._take_over()
        began_s = self._well_s = self.engine.clock_s() - self.engine.elapsed_s()
        self._supervisor.begin(report.iteration, began_s, (), left.signs, self._skipped, self._well_s)
        self._skipped = 0
        self._can_hang = self._broken_off = True
        self._is_ordinary = False
        self._left = left
        self.loss = left.loss
        self._delivered_now[:] = 0
        self._measured.begin()
        report.leave_record()
        blocks = [self._block(c.block, c.workers, c.at_s) for c in complete]
        blocks += self._take_all(left.events)
        self._left = _NOTHING
        if not self.done:
            self._act()
            self._next_check()
        return blocks

    def _finish_ordinary(self) -> None:
        ordinary = self._ordinary
        assert ordinary is not None
        self._decoder.skip(self.iteration)
        self._skipped += 1
        with self._books:
            self._is_ordinary = False
            ended = self._ended = ordinary.end(self.iteration)
            if ended is not None:
                self.loss, self._well_s = ended.loss, ended.began_s
            if self._report is not None:
                self._close(self._report)
            if self._skipped % _MOST_SKIPPED == 0:
                self._take_over()
        if self._log is not None:
            report = self.report
            assert report is not None
            self._log.iteration(report)

    @property
    def report(self) -> IterationReport | None:
        """Of the iteration under way or, if none is, of the last one."""
        with self._books:
            if self._report is None and self.iteration > 0:
                assert self._ordinary is not None
                iteration, ordinary = self.iteration, self._ordinary
                self._report = IterationReport.of_record(iteration, lambda: ordinary.record(iteration))
                if not self._under_way:
                    self._close(self._report)
            return self._report

    def _close(self, report: IterationReport) -> None:
        """Have the report of an ordinary iteration keep what there is to say."""
        ordinary, ended = self._ordinary, self._ended
        assert ordinary is not None
        record = None if ended is None else ordinary.record(report.iteration, at_once=False)
        if ended is None or record is None:
            report.leave_record()
            return
        report.elapsed_s, report.complete = ended.elapsed_s, ordinary.done
        report.close_record(record)

    def _take_over(self) -> None:
        """Add what the compiled core has counted to the accounts."""
        if self._ordinary is None:
            return
        with self._books:
            ended = self._ordinary.take_ended()
            if ended is None:
                return
            self._delivered += ended.delivered.sum(axis=0)
            self._abandoned += np.maximum(self._walk_length - ended.delivered, 0).sum(axis=0)
            assert isinstance(self._measured, MeasuredTimes)
            self._measured.walked(ended)

    def secure(self) -> None:
        """Ask the engine for everything that it may be asked for when it has come to its end."""
        if self.report is not None:
            self._take_over()

    # --- over all iterations --------------------------------------------------------------------------

    def health(self) -> Health:
        """Every worker's state, speed and history."""
        self._take_over()
        times = self._measured.recent()
        known = times[~np.isnan(times)]
        process_ids = self.engine.process_ids()
        median = float(np.median(known)) if len(known) else np.nan
        return Health(
            tuple(
                WorkerHealth(
                    worker=worker,
                    state=record.state,
                    process_id=process_ids[worker],
                    cycle_time_s=float(times[worker]),
                    relative_time=float(times[worker] / median),
                    delivered=int(self._delivered[worker]),
                    abandoned=int(self._abandoned[worker]),
                    non_finite=int(self._non_finite[worker]),
                    deaths=record.deaths,
                    suspicions=record.suspicions,
                )
                for worker, record in enumerate(self._supervisor.records)
            )
        )

    def measured(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Cycle times (I, N), and where "longer than that" is all that is known."""
        self._take_over()
        return self._measured.table()

    # --- events ---------------------------------------------------------------------------------------

    def _take_all(self, events: Sequence[Event]) -> list[Block]:
        blocks: list[Block] = []
        error: CgcError | None = None
        for event in events:
            try:
                blocks += self._take(event)
            except CgcError as caught:  # an overflow: whatever else happened is to be known all the same
                error = caught
        self._settle()
        if not self.done:  # else `finish` does it, when the gradient is complete
            self._tell_of_sums()
        if error is not None:
            raise error
        return blocks

    def _take(self, event: Event) -> list[Block]:
        if isinstance(event, Delivered):
            return self._take_delivery(event)
        if isinstance(event, Summed):
            return self._take_sum(event)
        self._settle()
        if isinstance(event, Lost):
            logger.warning("worker %d is gone, exit code %s", event.worker, event.exit_code)
            self._losses[event.worker] = event
            self._note(event.worker, "lost", f"exit code {event.exit_code}")
            self._withdraw(event.worker)
            self._supervisor.lost(event.worker)
        else:
            logger.info("the successor of worker %d is there", event.worker)
            self._note(event.worker, "ready")
            self._supervisor.ready(event.worker, self.engine.clock_s())
        return []

    def _reconcile(self) -> None:
        """Catch up with the engine: Ctrl-C may have come between its events and taking note of them."""
        for worker, presence in enumerate(self.engine.presence()):
            state = self._supervisor.records[worker].state
            if presence == "gone" and state != "given up":
                self._take(Lost(worker, None, ""))
            elif presence == "there" and state == "starting":
                self._take(Ready(worker))

    def _take_delivery(self, event: Delivered) -> list[Block]:
        report = self.report
        assert report is not None
        worker = event.worker
        cell = self._cell_of_slot[event.slot]
        row = event.slot - int(self._offsets[cell])
        instructions = self._decoder.deliver(event.iteration, worker, cell, row, finite=event.finite)
        self._supervisor.delivered(worker, finite=event.finite)
        if event.iteration != report.iteration:
            return []
        report.deliveries.append(Delivery(worker, cell, row, event.began_s, event.ended_s, event.finite))
        self._delivered_now[worker] += 1
        if event.finite:
            self._delivered[worker] += 1
            if isinstance(self._measured, MeasuredVisits):
                self._measured.visited(worker, self._visit_of(event.slot), event.began_s, event.ended_s)
            else:
                self._measured.delivered(worker, event.slot, event.ended_s)
        else:
            self._non_finite[worker] += 1
            logger.warning("worker %d sent non-finite values for cell %d", worker, cell)
            self._note(worker, "non-finite", f"cell {cell}, row {row}")
        blocks = []
        left = self._left  # what the compiled core has done of the instructions already
        for instruction in instructions:
            if isinstance(instruction, DecodeCell):
                index = instruction.cell
                if index not in left.decoded_s:
                    self._decode(instruction)
                elif left.contributors[index] != instruction.workers:
                    raise RuntimeError(
                        f"cell {index}: decoded from workers {left.contributors[index]}, expected "
                        f"{instruction.workers}"
                    )
                report.decoded_s[index] = left.decoded_s.get(index, self.engine.elapsed_s())
                if self._feedback != "none":
                    self.engine.announce(report.iteration, [index])
            elif instruction.block in left.blocks_s:  # handed over already
                report.blocks_s[instruction.block] = left.blocks_s[instruction.block]
            else:
                blocks.append(self._block(instruction.block, instruction.workers, self.engine.elapsed_s()))
        return blocks

    def _take_sum(self, event: Summed) -> list[Block]:
        """Add the sum of what a worker committed, unless that was withdrawn; it has nothing more to do."""
        report, worker = self.report, event.worker
        assert report is not None
        self._supervisor.delivered(worker)
        if event.iteration != report.iteration:
            self._decoder.stale += 1
            return []
        visits = event.visits if event.generation == self._generations[worker] else ()
        cells = [self._cell_of_slot[visit.slot] for visit in visits]
        if cells:
            if not self._decoder.are_open(cells):
                raise RuntimeError(f"cells {cells} of worker {worker} are in another sum already")
            total = self.engine.sum_of(worker)
            plain_sum([total[:-1]], self._gradient, True)
            if self._with_value:
                self.loss += float(total[-1])
        slots = [visit.slot for visit in visits]
        complete = self._decoder.deliver_sum(worker, slots)
        self._delivered[worker] += len(cells)
        self._delivered_now[worker] += len(cells)
        self._answered.append(worker)
        now_s = self.engine.elapsed_s()
        self._sums.append((worker, cells, visits, now_s))
        self.engine.announce(event.iteration, cells)
        return [self._block(block.block, block.workers, now_s) for block in complete]

    def _tell_of_sums(self) -> None:
        """Put into the report, and measure, what the sums since the last time were made of."""
        report = self.report
        assert report is not None
        for worker, cells, visits, at_s in self._sums:
            report.deliveries += [
                Delivery(
                    worker, cell, visit.slot - int(self._offsets[cell]), visit.began_s, visit.ended_s, True
                )
                for cell, visit in zip(cells, visits, strict=True)
            ]
            report.decoded_s.update(dict.fromkeys(cells, at_s))
            assert isinstance(self._measured, MeasuredVisits)
            for visit in visits:
                self._measured.visited(worker, self._visit_of(visit.slot), visit.began_s, visit.ended_s)
        self._sums.clear()

    def _settle(self) -> None:
        """Expect nothing more of the workers that have answered with a sum, unless they are ordered to.

        After all sums that are there: at the end, when everybody waits, there is nothing to settle.
        """
        answered, self._answered = self._answered, []
        if not answered or self.done:
            return
        for worker in answered:
            self._decoder.give_up(worker)
        for cell, _ in self._decoder.short_cells():  # what they left because another has it
            owner = self.engine.committed_by(self.iteration, cell)
            if owner is not None:
                self._decoder.expect(owner, cell, 0)

    def _visit_of(self, slot: int) -> Visit:
        visit = self._visits.get(slot)
        if visit is None:
            cell = self._cell_of_slot[slot]
            row = slot - int(self._offsets[cell])
            visit = visit_of(self.schedule, cell, row, int(self._cost.samples), self._cost)
            self._visits[slot] = visit
        return visit

    def _decode(self, instruction: DecodeCell) -> None:
        cell = self.schedule.cells[instruction.cell]
        first = int(self._offsets[instruction.cell])
        payloads = [
            self.engine.payload(worker, first + row)
            for worker, row in zip(instruction.workers, instruction.rows, strict=True)
        ]
        if cell.stop == self.schedule.coordinates:
            if self._with_value:
                # One by one, in the order of the rows, as the compiled core does it.
                terms = zip(instruction.vector.tolist(), payloads, strict=True)
                self.loss += sum(a * float(loss_of(payload, cell.width)[0]) for a, payload in terms)
            payloads = [payload[: cell.width] for payload in payloads]
        weighted_sum(payloads, instruction.vector, self._gradient[cell.start : cell.stop], True)

    def _block(self, block: int, workers: tuple[int, ...], at_s: float) -> Block:
        report = self.report
        assert report is not None
        start, stop = self.schedule.blocks[block]
        values = self._gradient[start:stop]
        if not all_finite(values):
            raise NonFiniteGradient(
                f"coordinates {start} to {stop}: the payloads are finite, their sum is not (overflow)"
            )
        values = values.view()
        values.flags.writeable = False
        if not self._is_ordinary:
            report.blocks_s[block] = at_s
        return Block(slice(start, stop), values, at_s, workers)

    # --- workers that do not deliver ------------------------------------------------------------------

    def _act(self) -> bool:
        """Carry out what the supervisor decides; whether that was anything."""
        actions = self._supervisor.decide()
        for action in actions:
            if isinstance(action, Order):
                logger.info("worker %d visits %d more rows", action.worker, len(action.rows))
                some = ", ".join(f"cell {c} row {r}" for c, r in action.rows[:8])
                self._note(action.worker, "rescue", some, len(action.rows))
                samples = int(self._cost.samples)
                visits = [visit_of(self.schedule, c, r, samples, self._cost) for c, r in action.rows]
                self._measured.ordered(action.worker, {v.slot: v.cycles + v.forward_cycles for v in visits})
                self.engine.order(action.worker, visits)
            elif isinstance(action, Replace):
                self.engine.replace(action.worker)
            elif isinstance(action, Kill):
                logger.warning("worker %d is killed: silent for %.3g s", action.worker, action.silent_s)
                self._note(action.worker, "killed", f"silent for {action.silent_s:.3g} s")
                self.engine.kill(action.worker)
        return bool(actions)

    def _withdraw(self, worker: int) -> None:
        """Take back what a worker has committed: nobody may wait for its sum."""
        if self._feedback == "claim":
            self._generations[worker] = self.engine.withdraw(worker)

    def _withdraw_suspected(self, before: Sequence[str]) -> None:
        for worker, record in enumerate(self._supervisor.records):
            if record.state == "suspected" and before[worker] != "suspected":
                self._withdraw(worker)

    def _note(self, worker: int, what: str, detail: str = "", rows: int = 0) -> None:
        report = self.report
        assert report is not None
        # Before the decoder has started it happened between two iterations.
        at_s = self.engine.elapsed_s() if self._decoder.iteration == report.iteration else 0.0
        report.events.append(WorkerEvent(at_s, worker, what, detail, rows))

    def _note_suspicions(self, before: Sequence[str]) -> None:
        for worker, record in enumerate(self._supervisor.records):
            if record.state == "suspected" and before[worker] != "suspected":
                logger.warning("worker %d is silent: its rows are visited elsewhere", worker)
                self._note(worker, "suspected")

    def _next_check(self) -> None:
        self._check_at_s = self._supervisor.next_check_s(self.engine.clock_s()) if self._can_hang else None

    def _can_visit(self, worker: int, cell: int, row: int) -> bool:
        """Whether a worker holds the samples of a row."""
        key = (worker, cell, row)
        known = self._held.get(key)
        if known is None:
            ranges, _ = self.schedule.support(cell, row, int(self._cost.samples))
            held = self._sample_ranges[worker]
            # Held ranges are disjoint, ascending and do not touch.
            index = np.searchsorted(held[:, 0], ranges[:, 0], side="right") - 1
            known = bool(len(held) > 0 and ((index >= 0) & (ranges[:, 1] <= held[index, 1])).all())
            known = known or len(ranges) == 0
            self._held[key] = known
        return known

    @property
    def failure(self) -> CgcError | None:
        """Why the gradient can never be complete; None as long as it may."""
        if self._is_ordinary:
            return None
        failure = self._supervisor.failure
        return None if failure is None else self._error(failure)

    def _raise_if_hopeless(self) -> None:
        failure = self.failure
        if failure is not None:
            raise failure

    def _error(self, failure: Failure) -> CgcError:
        cell = self.schedule.cells[failure.cell]
        what = (
            f"coordinates {cell.start} to {cell.stop} cannot be decoded: {failure.required_rows} rows are "
            f"needed, {failure.available_rows} can come"
        )
        if failure.lost:
            lost = self._losses[failure.lost[-1]]
            return WorkerDied(
                f"worker {lost.worker} is gone (exit code {lost.exit_code}), was started again in vain, and "
                f"{what}; given up so far: {', '.join(map(str, failure.lost))}. "
                "A plan with min_redundancy survives more."
                + (f"\nIts traceback:\n{lost.traceback}" if lost.traceback else ""),
                lost.worker,
                lost.exit_code,
                lost.traceback,
            )
        if failure.rejected:
            return NonFiniteGradient(
                f"worker(s) {', '.join(map(str, failure.rejected))} sent NaN or infinity, and {what}"
            )
        if failure.refused is not None:
            return failure.refused
        return DecodeError(
            f"{what}; worker(s) {', '.join(map(str, failure.silent))} never answer in this iteration "
            "(infinite cycle time). A plan with min_redundancy survives more."
        )


def _check_finite(theta: NDArray[np.float64]) -> None:
    if not all_finite(theta):
        bad = int(np.flatnonzero(~np.isfinite(theta))[0])
        raise ArgumentValueError(f"theta: expected finite values, got {theta[bad]} at coordinate {bad}")
