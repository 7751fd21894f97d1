"""Every interleaving of claims, commitments, deaths between them, withdrawals, late sums, for small clusters.

The model of `test_exploration`, with workers that pass announced cells over, or that claim. A step of one
that claims is one claim, one commitment or one sum, so that whatever happens to others or to itself may come
in between. Checked besides what is checked there:

- the sums that the master takes hold every cell once, with the exact values (small integers);
- nobody writes a sum that the master has yet to read;
- whoever is expected to deliver will send a sum: else there would be a deadlock.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from cgc_fast.claims import ClaimTable, WorkerBoard
from cgc_fast.codes import RepetitionCode
from cgc_fast.decoder import DecodeCell
from cgc_fast.feedback_worker import AnnounceWorker, ClaimWorker
from cgc_fast.schedule import Cell, Schedule, Walk
from cgc_fast.worker import Deliver, Derive, Idle, SendSum
from test_exploration import CONSTANT, Budgets, Message, Process, World, altered, explore, twin

CONSTANT[AnnounceWorker] = CONSTANT[ClaimWorker] = {"visits", "_board", "_touched", "_rate", "_last"}
CONSTANT[ClaimTable] = set()


@dataclass
class Claimant(Process):
    """A worker process that claims; its memory is that of its successors, too.

    `total`: (iteration, cells) in its sum. `sent`: the last sum that it sent: iteration, generation, cells.
    """

    total: tuple = (0, ())
    sent: tuple = (0, 0, ())

    def key(self):
        machine = self.machine
        inner = ()
        if machine is not None and machine.iteration > 0:
            inner = (
                machine._generation,
                machine._is_answered,
                machine._unclaimed,
                tuple(machine._ways),
                frozenset(machine._refused),
                tuple(visit.cell for visit in machine._sum),
                None if machine._visit is None else (machine._visit.cell, machine._next_coordinate),
            )
        return super().key(), self.total, self.sent, inner


@dataclass
class BoardWorld(World):
    """One state of everything, the board included."""

    table: ClaimTable | None = None

    def _lay_out(self):
        self.table = ClaimTable(len(self.facts.walks), len(self.facts.schedule.cells))
        super()._lay_out()

    def _own_table(self):
        self.table = twin(self.table)
        for w, process in enumerate(self.processes):
            if process.machine is not None:
                machine = twin(process.machine)
                machine._board = WorkerBoard(self.table, w)
                self.processes[w] = altered(process, machine=machine)

    def after(self, kind, what):
        """The state after an event."""
        world = altered(self, processes=list(self.processes))
        world._own_table()
        getattr(world, "_" + kind.replace(" ", "_"))(what)
        return world

    def _begin_iteration(self):
        if self.iteration > 0:
            self._own_table()
        super()._begin_iteration()

    def _take_up(self, worker):
        """Look for iterations and orders, as the loop of a worker does."""
        process = self.processes[worker] = altered(self.processes[worker])
        machine = process.machine
        if process.last < self.iteration:
            process.last = self.iteration
            machine.begin(self.iteration)
        for iteration, visits in process.inbox:
            if iteration == process.last and machine.iteration < iteration:
                machine.begin(iteration, walk=False)
            if iteration == machine.iteration:
                machine.order(visits)
        process.inbox = ()
        return process


@dataclass
class AnnounceWorld(BoardWorld):
    """Workers pass announced cells over. A step is a visit up to its payload, or handing that over."""

    def _process(self, worker):
        return Process(AnnounceWorker(self.facts.walks[worker], WorkerBoard(self.table, worker)))

    def key(self):
        under_way = [
            p.machine is not None
            and p.machine.iteration > 0
            and p.machine._visit is not None
            and (p.machine._visit.slot, p.machine._next_coordinate)
            for p in self.processes
        ]
        return super().key(), tuple(under_way)

    def _step(self, worker, finite=True):
        machine = self._take_up(worker).machine
        machine.look(0.0)
        instruction = machine.next()
        if isinstance(instruction, Derive):
            self._check_nobody_reads(worker, instruction.visit, machine.iteration)
            machine.completed(0.0)
        elif isinstance(instruction, Deliver):
            visit = instruction.visit
            if finite:
                machine.delivered()
            else:
                machine.rejected(visit)
            self._send(Message(machine.iteration, worker, visit.cell, visit.row, finite))

    def _execute(self, instructions):
        super()._execute(instructions)
        for instruction in instructions:
            if isinstance(instruction, DecodeCell):
                self.table.announce(self.iteration, instruction.cell)


@dataclass
class ClaimWorld(BoardWorld):
    """Workers claim; `generations` as the master knows them."""

    generations: tuple = ()

    def _lay_out(self):
        self.generations = (0,) * len(self.facts.walks)
        super()._lay_out()

    def _process(self, worker):
        before = self.processes[worker] if self.processes else Claimant(None)
        machine = ClaimWorker(self.facts.walks[worker], WorkerBoard(self.table, worker))
        return Claimant(machine, total=before.total, sent=before.sent)

    def _ended(self, worker, status):
        before = self.processes[worker]
        return Claimant(None, status, total=before.total, sent=before.sent)

    def key(self):
        table = self.table
        return super().key(), self.generations, tuple(table._owners), tuple(table._claims)

    # --- of a process ---------------------------------------------------------------------------------

    def _has_work(self, worker):
        process = self.processes[worker]
        if process.inbox or process.last < self.iteration:
            return True
        machine = process.machine
        if not machine._active or (machine._visit is None and machine._is_answered):
            return False
        return not self._waits_for_reading(worker)

    def _waits_for_reading(self, worker):
        """Whether it has to wait before it may overwrite its last sum, as the loop of a worker does."""
        process = self.processes[worker]
        machine, (iteration, generation, cells) = process.machine, process.sent
        visit = machine._visit
        at_first = visit is not None and machine._next_coordinate == visit.stop and not machine._sum
        return bool(
            at_first
            and cells
            and iteration == machine.iteration
            and generation == self.table.generation(worker)
            and not self.table.is_announced(iteration, cells[0])
        )

    def _step(self, worker, finite=True):
        """Look for iterations, orders and at the board; then claim, commit or send."""
        process = self._take_up(worker)
        machine = process.machine
        machine.look(0.0)
        instruction = machine.next()
        if isinstance(instruction, SendSum):
            cells = tuple(visit.cell for visit in instruction.visits)
            if cells:
                assert process.total == (machine.iteration, cells)
                process.sent = machine.iteration, instruction.generation, cells
            self._send(Message(machine.iteration, worker, -2, 0, True, instruction.generation, cells))
        elif isinstance(instruction, Deliver):
            self._end_visit(worker, process, instruction.visit, finite)
        elif not isinstance(instruction, Idle):
            machine.completed(0.0)

    def _end_visit(self, worker, process, visit, finite):
        machine = process.machine
        if not finite:
            machine.rejected(visit)
            self._send(Message(machine.iteration, worker, visit.cell, visit.row, False))
        elif machine.committed():
            before = ()
            if machine.sum_size > 1:
                iteration, before = process.total
                assert iteration == machine.iteration
            self._check_nobody_reads_sum(worker)
            process.total = machine.iteration, (*before, visit.cell)

    def _check_nobody_reads_sum(self, worker):
        for message in self.flight:
            if message.worker == worker and message.cells and message.iteration == self.iteration:
                assert message.generation != self.generations[worker]

    # --- of the master --------------------------------------------------------------------------------

    def _withdraw(self, workers):
        for worker in workers:
            self.table.withdraw(worker)
        self.generations = tuple(self.table._generations)

    def _begin_iteration(self):
        before = self._suspected()
        super()._begin_iteration()
        self._withdraw(self._suspected() - before)

    def _arrive(self, message):
        if message.cell != -2:
            super()._arrive(message)
            return
        flight = list(self.flight)
        flight.remove(message)
        self.flight = tuple(flight)
        self._own_machines()
        self.supervisor.delivered(message.worker)
        if message.iteration == self.iteration:
            cells = message.cells if message.generation == self.generations[message.worker] else ()
            if cells:  # what lies in the worker's memory is what it sent
                assert self.processes[message.worker].total == (self.iteration, cells)
            for cell in cells:
                assert self.decoder.open_cells[cell]
                row = next(v.row for v in self.facts.visits.values() if v.cell == cell)
                self._execute(self.decoder.deliver(self.iteration, message.worker, cell, row))
                self.table.announce(self.iteration, cell)
            self.decoder.give_up(message.worker)
            for cell, _ in self.decoder.short_cells():
                owner = self.table.committed_by(self.iteration, cell)
                if owner >= 0:
                    self.decoder.expect(owner, cell, 0)
        self._act()

    def _lost(self, worker):
        self._withdraw({worker})
        super()._lost(worker)

    def _check(self, after_s, silent):
        before = self._suspected()
        super()._check(after_s, silent)
        self._withdraw(self._suspected() - before)


def shared(cells, *walks):
    """Cells of full width in one group; every worker may visit each."""
    bounds = [k / cells for k in range(cells)] + [1.0]
    code = RepetitionCode(len(walks))
    return Schedule(
        len(walks),
        2,
        [Cell(0, 2, bounds[k], bounds[k + 1], code) for k in range(cells)],
        [Walk(walk, [row] * len(walk)) for row, walk in enumerate(walks)],
        "claim",
    )


ONE = shared(1, [0], [0])
TWO = shared(2, [0, 1], [1, 0])
THREE = shared(3, [0, 2, 1], [1, 2, 0])
ALONE = Schedule(
    2,
    2,
    [Cell(0, 2, k / 2, (k + 1) / 2, RepetitionCode(1)) for k in range(2)],
    [Walk([0], [0]), Walk([1], [0])],
    "claim",
)
LOST, REJECTED = {"lost"}, {"rejected"}

SCENARIOS = {
    "no faults": (TWO, Budgets(), {}, set()),
    "no faults, three cells": (THREE, Budgets(), {}, set()),
    "a death": (TWO, Budgets(deaths=1), {}, set()),
    "deaths": (ONE, Budgets(deaths=2), {}, set()),
    "a death, three cells": (THREE, Budgets(deaths=1), {}, set()),
    "slow": (TWO, Budgets(suspicions=1), {}, set()),
    "hang": (TWO, Budgets(hangs=1), {}, set()),
    "NaN": (TWO, Budgets(nans=1), {}, set()),
    "NaN twice": (TWO, Budgets(nans=2), {}, set()),
    "NaN and death": (TWO, Budgets(nans=1, deaths=1), {}, set()),
    "the next iteration": (TWO, Budgets(iterations=2, early=True), {}, set()),
    "nobody else holds the samples": (ALONE, Budgets(deaths=3), {}, LOST),
    "nobody else, NaN": (ALONE, Budgets(nans=2), {}, REJECTED),
    "nobody else, slow": (ALONE, Budgets(suspicions=1, deaths=1), {}, set()),
    "silent": (TWO, Budgets(deaths=1), {"silent": [1]}, set()),
}


MEET = Schedule(
    2,
    2,
    [Cell(c, c + 1, 0.0, 1.0, RepetitionCode(2)) for c in range(2)],
    [Walk([0, 1], [0, 0]), Walk([1, 0], [1, 1])],
    "announce",
)
ANNOUNCED = {
    "no faults": (MEET, Budgets(), {}, set()),
    "deaths": (MEET, Budgets(deaths=2), {}, set()),
    "slow and dead": (MEET, Budgets(deaths=1, suspicions=1), {}, set()),
    "NaN": (MEET, Budgets(nans=2), {}, set()),
    "the next iteration": (MEET, Budgets(iterations=2, early=True), {}, set()),
}


@pytest.mark.parametrize("name", ANNOUNCED)
def test_every_path_ends_well_where_cells_are_announced(name):
    schedule, budgets, options, causes = ANNOUNCED[name]
    counts = explore(schedule, budgets, kind=AnnounceWorld, **options)
    print(counts)
    assert counts.causes == causes
    assert counts.failed == 0
    assert counts.completed > 0


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_path_ends_well(name):
    schedule, budgets, options, causes = SCENARIOS[name]
    counts = explore(schedule, budgets, kind=ClaimWorld, **options)
    print(counts)
    assert counts.causes == causes
    assert (counts.failed > 0) == bool(causes)
    assert counts.completed > 0
