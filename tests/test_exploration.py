"""Every interleaving, for small clusters: decoder, supervisor and workers under a model of all that happens.

The model holds the pure machines as they are, and what lies between them: processes that live, hang, die and
are started again, payloads on their way, orders not yet read. In every state everything that could happen
next is tried, depth first, and states that were seen before are left out. Faults come out of budgets: so many
deaths, hangs, payloads with NaN, and workers that are only slow and suspected without reason.

Checked in every state:

- a cell is decoded once, from rows that arrived in this iteration, are finite and distinct, to the exact sum
  (payloads are small integers and dyadic fractions, so nothing is rounded);
- nobody writes a payload that the master may be reading;
- the decoder's account is what a count from scratch says;
- duplicates and arrivals of an earlier iteration change nothing, and nothing happens after the last cell;
- unless the iteration is complete or given up, something will happen by itself: no deadlock. No state is
  reached again from itself, so that every path ends;
- an iteration is given up only if nobody who is alive, or being started, could visit what is missing.

The scenarios below have about 60,000 states and 160,000 events.
"""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from cgc_fast.arguments import Cost
from cgc_fast.codes import Code, RepetitionCode
from cgc_fast.decoder import MOST_REJECTIONS, DecodeCell, Decoder
from cgc_fast.errors import DecodeError, NumericalError
from cgc_fast.schedule import Cell, Schedule, Walk
from cgc_fast.schemes.fractional_repetition import fractional_repetition_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule
from cgc_fast.supervisor import Kill, Order, Replace, SignOfLife, Supervisor, WorkerRecord
from cgc_fast.worker import Deliver, Idle, Worker, visit_of, visits_of

SAMPLES = 12
# Signs of life that were this far apart: suspected after 0.8 s of silence, killed after 16 s.
LONGEST_S = 0.1
SUSPECT_AFTER_S, KILL_AFTER_S = 1.0, 100.0


VECTORS = {(0, 1): (2.0, -1.0), (0, 2): (1.0, 1.0), (1, 2): (1.0, 2.0), (0, 1, 2): (1.0, 0.0, 1.0)}


class ExactCode(Code):
    """The first example of [TANDON17]: three rows, any two decode, all numbers dyadic.

    `refused`: sets of rows that a numerical guard refuses.
    """

    rows = parts = 3
    redundancy = 1
    promise = 0.0
    _coefficients = ((0.5, 1.0), (1.0, -1.0), (1.0, 0.5))  # of parts (0, 1), (1, 2), (2, 0)

    def __init__(self, refused=()):
        self.refused = frozenset(refused)

    def support_parts(self, row):
        return np.array([row, (row + 1) % 3])

    def support(self, row):
        return self.support_parts(row), np.array(self._coefficients[row])

    def can_decode(self, rows):
        return len(set(rows)) >= 2

    def decoding_vector(self, rows, dtype=np.float64):
        if len(rows) < 2:
            raise DecodeError("scripted: two rows are needed")
        if tuple(rows) in self.refused:
            raise NumericalError("scripted: one more row is needed")
        return np.array(VECTORS[tuple(rows)])

    def predicted_error(self, rows, vector):
        return 0.0


def two_levels(refused=()):
    """Three workers: two coordinates uncoded, three under the code of redundancy 1."""
    cells = [Cell(0, 2, k / 3, (k + 1) / 3, RepetitionCode(1)) for k in range(3)]
    cells.append(Cell(2, 5, 0.0, 1.0, ExactCode(refused)))
    return Schedule(3, 5, cells, [Walk([w, 3], [0, w]) for w in range(3)])


def one_level(refused=()):
    cell = Cell(0, 2, 0.0, 1.0, ExactCode(refused))
    return Schedule(3, 2, [cell], [Walk([0], [w]) for w in range(3)])


def shared_row():
    """Both workers visit the same row: one may be silent, the other not."""
    return Schedule(2, 1, [Cell(0, 1, 0.0, 1.0, RepetitionCode(1))], [Walk([0], [0]), Walk([0], [0])])


# --- the model ----------------------------------------------------------------------------------------


def altered(record, **changes):
    """What `dataclasses.replace` gives of one with the same fields, in a third of its time."""
    other = object.__new__(type(record))
    other.__dict__.update(record.__dict__, **changes)
    return other


# Containers, arrays and records are copied, to the bottom; everything else is immutable.
_COPY = {
    dict: lambda value: {k: copied(v) for k, v in value.items()},
    list: lambda value: [copied(v) for v in value],
    set: set,  # of what can be hashed
    deque: lambda value: deque(map(copied, value)),
    np.ndarray: np.copy,
    bytearray: bytearray,
    WorkerRecord: altered,
}


def copied(value):
    copy = _COPY.get(type(value))
    return value if copy is None else copy(value)


# Set when a machine is made and never changed.
CONSTANT = {
    Decoder: {
        "schedule",
        "_offsets",
        "_cell_of_slot",
        "_walk_slots",
        "_required",
        "_blocks_of_cell",
        "_cells_of_block",
    },
    Supervisor: set(),
    Worker: {"visits"},
}


def twin(machine):
    """Copy a machine."""
    constant = CONSTANT[type(machine)]
    other = object.__new__(type(machine))
    other.__dict__.update(
        {name: value if name in constant else copied(value) for name, value in machine.__dict__.items()}
    )
    return other


@dataclass(frozen=True)
class Budgets:
    """How many faults may happen."""

    deaths: int = 0
    hangs: int = 0
    nans: int = 0
    suspicions: int = 0
    iterations: int = 1
    early: bool = False  # the user may leave an iteration before it is complete


@dataclass(frozen=True, order=True)
class Message:
    """A payload on its way; `cell` is -1 for the word of a successor that it is there.

    Under claim -2 for a sum: of which cells, and of which generation.
    """

    iteration: int
    worker: int
    cell: int
    row: int
    finite: bool
    generation: int = 0
    cells: tuple[int, ...] = ()


@dataclass
class Process:
    """One worker as the operating system sees it.

    `status`: "up", "dead" (not noticed yet), "starting" (asked for), "gone". `last`: iteration that it has
    looked at.
    """

    machine: Worker | None
    status: str = "up"
    hung: bool = False
    last: int = 0
    inbox: tuple = ()

    def key(self):
        machine = self.machine
        inner = ()
        if machine is not None:
            inner = (machine.iteration, machine._active)
            if machine.iteration > 0:
                inner += (
                    machine._next_of_walk,
                    tuple(visit.slot for visit, _ in machine._orders),
                    frozenset(machine._visited),
                    frozenset(machine._rejected),
                )
        inbox = tuple((iteration, tuple(v.slot for v in visits)) for iteration, visits in self.inbox)
        return self.status, self.hung, self.last, inbox, inner


class Facts:
    """What never changes while a scenario is explored."""

    def __init__(self, schedule, silent=(), everywhere=False):
        self.schedule = schedule
        self.silent = frozenset(silent)
        self.walks = [visits_of(schedule, w, SAMPLES) for w in range(schedule.workers)]
        self.visits = {
            (c, row): visit_of(schedule, c, row, SAMPLES, Cost(SAMPLES, 1.0, 0.0))
            for c, cell in enumerate(schedule.cells)
            for row in range(cell.code.rows)
        }
        held = [{i for v in walk for a, b in v.ranges for i in range(a, b)} for walk in self.walks]
        needed = {key: {i for a, b in v.ranges for i in range(a, b)} for key, v in self.visits.items()}
        self._able = {
            (w, *key): everywhere or needed[key] <= held[w]
            for w in range(schedule.workers)
            for key in self.visits
        }

    def can_visit(self, worker, cell, row):
        return self._able[worker, cell, row]

    def payload(self, cell, row, iteration):
        """Sample i contributes i + 1, times the number of the iteration."""
        visit = self.visits[cell, row]
        total = 0.0
        for (low, high), coefficient in zip(visit.ranges.tolist(), visit.coefficients, strict=True):
            total += coefficient * sum(range(low + 1, high + 1))
        return iteration * total

    def truth(self, cell, iteration):
        tile = self.schedule.cells[cell]
        low, high = round(tile.low * SAMPLES), round(tile.high * SAMPLES)
        return iteration * float(sum(range(low + 1, high + 1)))


@dataclass
class World:
    """One state of everything; `after` makes the next."""

    facts: Facts
    budgets: Budgets
    decoder: Decoder
    supervisor: Supervisor
    processes: list[Process]
    flight: tuple[Message, ...] = ()
    now_s: float = 0.0
    decoded: frozenset = frozenset()
    blocks: frozenset = frozenset()
    over: bool = False
    _machines_key: tuple = field(default=())

    @classmethod
    def begin(cls, facts, budgets):
        decoder = Decoder(facts.schedule)
        world = cls(facts, budgets, decoder, Supervisor(decoder, facts.can_visit), [])
        world._lay_out()
        world._begin_iteration()
        return world

    def _lay_out(self):
        self.processes = [self._process(w) for w in range(len(self.facts.walks))]

    def _process(self, worker):
        return Process(Worker(self.facts.walks[worker]))

    @property
    def iteration(self):
        return self.decoder.iteration

    def key(self):
        return (
            self._machines_key,
            tuple(process.key() for process in self.processes),
            self.flight,
            self.budgets,
            self.over,
        )

    # --- what can happen ------------------------------------------------------------------------------

    def events(self):
        """(kind, worker or message, whether it happens by itself)."""
        budgets, found = self.budgets, []
        for w, process in enumerate(self.processes):
            record = self.supervisor.records[w]
            silent = w in self.facts.silent and self.iteration == 1
            if process.status == "up":
                if not process.hung and not silent and self._has_work(w):
                    found.append(("step", w, True))
                    if budgets.nans:
                        found.append(("nan", w, False))
                if budgets.deaths:
                    found.append(("die", w, False))
                if budgets.hangs and not process.hung:
                    found.append(("hang", w, False))
                if record.state == "suspected" and not record.killed and not process.hung:
                    found.append(("wake", w, True))
            elif process.status == "dead" and not any(m.worker == w for m in self.flight):
                found.append(("lost", w, True))
            elif process.status == "starting":
                found.append(("up", w, True))
                if budgets.deaths:
                    found.append(("die starting", w, False))
            if record.state == "ready" and not silent and self.decoder.is_expecting(w):
                if process.hung:
                    found.append(("suspect", w, True))
                elif budgets.suspicions:
                    found.append(("suspect", w, False))
        found += [("arrive", message, True) for message in sorted(set(self.flight))]
        if any(r.state == "suspected" and not r.killed for r in self.supervisor.records):
            found.append(("kill", None, True))
        return found

    def _has_work(self, worker):
        process = self.processes[worker]
        if process.inbox or process.last < self.iteration:
            return True
        return not isinstance(twin(process.machine).next(), Idle)

    def after(self, kind, what):
        """The state after an event."""
        world = altered(self, processes=list(self.processes))
        getattr(world, "_" + kind.replace(" ", "_"))(what)
        return world

    def next_iteration(self):
        """What `Master.finish` and `Master.begin` do."""
        world = replace(
            self,
            processes=list(self.processes),
            over=False,
            budgets=replace(self.budgets, iterations=self.budgets.iterations - 1),
        )
        world._own_machines()
        world.decoder.cancel()
        for w, process in enumerate(world.processes):
            if process.machine is not None:
                machine = twin(process.machine)
                machine.abandon()
                world.processes[w] = altered(process, machine=machine)
        world._begin_iteration()
        return world

    def _spend(self, name):
        self.budgets = replace(self.budgets, **{name: getattr(self.budgets, name) - 1})

    # --- of a process ---------------------------------------------------------------------------------

    def _step(self, worker, finite=True):
        """Look for iterations and orders, as the loop of a worker does, and make one visit."""
        process = altered(self.processes[worker], machine=twin(self.processes[worker].machine))
        self.processes[worker] = process
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
        while not isinstance(instruction := machine.next(), Idle):
            machine.completed(0.0)
            visit = instruction.visit
            if not isinstance(instruction, Deliver):
                self._check_nobody_reads(worker, visit, machine.iteration)
                continue
            if not finite:
                machine.rejected(visit)
            self._send(Message(machine.iteration, worker, visit.cell, visit.row, finite))
            return

    def _nan(self, worker):
        self._spend("nans")
        self._step(worker, finite=False)

    def _send(self, message):
        self.flight = tuple(sorted((*self.flight, message)))

    def _check_nobody_reads(self, worker, visit, iteration):
        if iteration == self.iteration and self.decoder.open_cells[visit.cell]:
            assert self.decoder._arrived.get(visit.cell, {}).get(visit.row) != worker
            assert Message(iteration, worker, visit.cell, visit.row, True) not in self.flight

    def _die(self, worker):
        self._spend("deaths")
        self.processes[worker] = self._ended(worker, "dead")

    def _ended(self, worker, status):
        return Process(None, status)

    def _hang(self, worker):
        self._spend("hangs")
        self.processes[worker] = altered(self.processes[worker], hung=True)

    def _up(self, worker):
        """The successor is there: it has looked at the iteration under way, and walks from the next on."""
        self.processes[worker] = replace(self._process(worker), last=self.iteration)
        self._send(Message(0, worker, -1, -1, True))

    # --- of the master --------------------------------------------------------------------------------

    def _own_machines(self):
        self.decoder = twin(self.decoder)
        self.supervisor = twin(self.supervisor)
        self.supervisor._decoder = self.decoder

    def _signs(self, alive):
        return [
            SignOfLife(
                self.now_s if w in alive else 0.0,
                LONGEST_S,
                process.machine.iteration if process.machine is not None else 0,
            )
            for w, process in enumerate(self.processes)
        ]

    def _begin_iteration(self):
        self.decoded = self.blocks = frozenset()
        self.now_s += 0.01
        alive = {w for w, p in enumerate(self.processes) if p.status == "up" and not p.hung}
        silent = self.facts.silent if self.iteration == 0 else ()
        self.supervisor.begin(self.iteration + 1, self.now_s, silent, self._signs(alive))
        self._act()

    def _act(self):
        if not self.decoder.done:
            for action in self.supervisor.decide():
                process = self.processes[action.worker]
                if isinstance(action, Order):
                    assert len(set(action.rows)) == len(action.rows)
                    for cell, row in action.rows:
                        assert self.facts.can_visit(action.worker, cell, row)
                    if process.status == "up":  # else it is on its way to nobody
                        visits = [self.facts.visits[key] for key in action.rows]
                        inbox = (*process.inbox, (self.iteration, visits))
                        self.processes[action.worker] = altered(process, inbox=inbox)
                elif isinstance(action, Replace):
                    assert process.status == "gone"
                    self.processes[action.worker] = self._ended(action.worker, "starting")
                else:
                    assert isinstance(action, Kill)
                    if process.status == "up":
                        self.processes[action.worker] = self._ended(action.worker, "dead")
        self._machines_key = machines_key(self.decoder, self.supervisor)

    def _arrive(self, message):
        flight = list(self.flight)
        flight.remove(message)
        self.flight = tuple(flight)
        self._own_machines()
        if message.cell < 0:
            self.supervisor.ready(message.worker, self.now_s)
        else:
            instructions = self._deliver(message)
            self._execute(instructions)
            self.supervisor.delivered(message.worker, finite=message.finite)
        self._act()

    def _deliver(self, message):
        return self.decoder.deliver(
            message.iteration, message.worker, message.cell, message.row, finite=message.finite
        )

    def _lost(self, worker):
        self._own_machines()
        self.processes[worker] = self._ended(worker, "gone")
        self.supervisor.lost(worker)
        self._act()

    def _die_starting(self, worker):
        self._spend("deaths")
        self._lost(worker)

    def _check(self, after_s, silent):
        self._own_machines()
        self.now_s += after_s
        self.supervisor.check(self.now_s, self._signs(set(range(len(self.processes))) - silent))
        self._act()

    def _suspected(self):
        return {w for w, record in enumerate(self.supervisor.records) if record.state == "suspected"}

    def _suspect(self, worker):
        if not self.processes[worker].hung:
            self._spend("suspicions")
        self._check(SUSPECT_AFTER_S, self._suspected() | {worker})
        assert self.supervisor.records[worker].state == "suspected"

    def _wake(self, worker):
        self._check(0.01, self._suspected() - {worker})
        assert self.supervisor.records[worker].state == "ready"

    def _kill(self, _):
        suspected = self._suspected()
        self._check(KILL_AFTER_S, suspected)
        for worker in suspected:
            assert self.supervisor.records[worker].killed

    # --- what must hold -------------------------------------------------------------------------------

    def _execute(self, instructions):
        decoder, facts = self.decoder, self.facts
        for instruction in instructions:
            if isinstance(instruction, DecodeCell):
                cell = instruction.cell
                assert cell not in self.decoded
                assert len(set(instruction.rows)) == len(instruction.rows)
                value = 0.0
                for row, w, a in zip(instruction.rows, instruction.workers, instruction.vector, strict=True):
                    # `_arrived` holds what was delivered in this iteration; `_arrive` put it there.
                    assert decoder._arrived[cell][row] == w
                    value += a * facts.payload(cell, row, self.iteration)
                assert value == facts.truth(cell, self.iteration)
                self.decoded |= {cell}
            else:
                over = {c for c in range(len(facts.schedule.cells)) if self._covers(c, instruction.block)}
                assert over <= self.decoded
                assert instruction.block not in self.blocks
                self.blocks |= {instruction.block}
        assert set(np.flatnonzero(~decoder.open_cells)) == self.decoded

    def _covers(self, cell, block):
        return block in self.facts.schedule.cell_blocks(cell)

    def check_account(self):
        """Compare the decoder's counts with a count from scratch."""
        decoder = self.decoder
        offsets = self.facts.schedule.row_offsets
        expecting = np.zeros(int(offsets[-1]), dtype=int)
        for slots in decoder._expected:
            expecting[sorted(slots)] += 1
        assert (expecting == decoder._expecting).all()
        short = {}
        for c, cell in enumerate(self.facts.schedule.cells):
            arrived = decoder._arrived.get(c, {})
            first = int(offsets[c])
            coming = {row for row in range(cell.code.rows) if expecting[first + row]}
            reachable = len(coming | set(arrived))
            if not decoder.open_cells[c]:
                continue
            assert decoder.reachable(c) == reachable
            enough = cell.code.required_rows
            if len(arrived) >= enough:  # and still open: refused
                assert decoder.refusal(c) is not None
                enough = len(arrived) + 1
            if reachable < enough:
                short[c] = enough - reachable
        if not decoder.done:
            assert dict(decoder.short_cells()) == short

    def check_failure(self, failure):
        """Nobody could make up for what is missing."""
        decoder, cell = self.decoder, failure.cell
        code = self.facts.schedule.cells[cell].code
        silent = self.facts.silent if self.iteration == 1 else frozenset()
        visitors = [
            {w for w, walk in enumerate(self.facts.walks) if any((v.cell, v.row) == (cell, r) for v in walk)}
            for r in range(code.rows)
        ]
        first = int(self.facts.schedule.row_offsets[cell])
        possible = [
            row
            for row in range(code.rows)
            if row in decoder._arrived.get(cell, {})
            or (
                decoder._rejections.get(first + row, 0) < MOST_REJECTIONS
                and not (visitors[row] and visitors[row] <= silent)
                and any(
                    self.facts.can_visit(w, cell, row)
                    for w, record in enumerate(self.supervisor.records)
                    if record.state != "given up" and w not in silent
                )
            )
        ]
        with pytest.raises((DecodeError, NumericalError)):
            code.decoding_vector(tuple(possible))
        assert failure.lost or failure.silent or failure.rejected or failure.refused

    def check_harmless(self):
        """Duplicates, and arrivals of an iteration before, change nothing."""
        decoder = self.decoder
        before = decoder_key(decoder)
        for c in range(len(self.facts.schedule.cells)):
            for row, w in decoder._arrived.get(c, {}).items():
                for finite in (True, False):
                    other = twin(decoder)
                    assert other.deliver(self.iteration, w, c, row, finite=finite) == []
                    assert decoder_key(other) == before
            for row in range(self.facts.schedule.cells[c].code.rows):
                assert decoder.deliver(self.iteration - 1, 0, c, row) == []
        assert decoder_key(decoder) == before


def decoder_key(decoder):
    return (
        decoder.iteration,
        decoder.open_cells.tobytes(),
        tuple(map(frozenset, decoder._expected)),
        tuple(map(frozenset, decoder._set_aside)),
        tuple((c, frozenset(rows.items())) for c, rows in sorted(decoder._arrived.items()) if rows),
        frozenset(decoder._rejections.items()),
        frozenset((slot, frozenset(workers)) for slot, workers in decoder._rejected_by.items()),
        frozenset(decoder._refused),
    )


def machines_key(decoder, supervisor):
    """What decides about all that follows; times do not, as events are given the times that make them so."""
    records = tuple((r.state, r.killed, r.deaths_in_a_row, r.given_up_in) for r in supervisor.records)
    return decoder_key(decoder), records, len(supervisor._actions)


# --- the exploration ----------------------------------------------------------------------------------


@dataclass
class Counts:
    states: int = 0
    events: int = 0
    completed: int = 0
    failed: int = 0
    causes: set = field(default_factory=set)


def explore(schedule, budgets, *, silent=(), everywhere=False, kind=World):
    """Visit every state that can be reached; the trace of the first violation is in the error's notes.

    `silent`: workers that never answer in the first iteration; `everywhere`: all hold all samples; `kind`:
    the model.
    """
    counts = Counts()
    on_path, finished = set(), set()
    checked = set()
    trace = []

    def visit(world):
        key = world.key()
        assert key not in on_path, "a cycle: this may go on for ever"
        if key in finished:
            return
        on_path.add(key)
        counts.states += 1
        if world._machines_key not in checked:
            checked.add(world._machines_key)
            world.check_account()
            world.check_harmless()
        successors = []
        failure = None if world.decoder.done else world.supervisor.failure
        if failure is not None:
            counts.failed += 1
            counts.causes |= {name for name in ("lost", "silent", "rejected") if getattr(failure, name)}
            counts.causes |= {"refused"} if failure.refused is not None else set()
            world.check_failure(failure)
        elif world.decoder.done:
            counts.completed += 1
            assert world.decoded == set(range(len(schedule.cells)))
            assert world.blocks == set(range(len(schedule.blocks)))
            for message in set(world.flight):  # nothing happens after the last cell
                if message.cell >= 0:
                    assert (
                        twin(world.decoder).deliver(
                            message.iteration,
                            message.worker,
                            message.cell,
                            message.row,
                            finite=message.finite,
                        )
                        == []
                    )
        else:
            successors = world.events()
            assert any(by_itself for *_, by_itself in successors), "a deadlock"
        for kind, what, _ in successors:
            trace.append((kind, what))
            counts.events += 1
            visit(world.after(kind, what))
            trace.pop()
        ended = failure is not None or world.decoder.done
        if world.budgets.iterations > 1 and (ended or world.budgets.early):
            trace.append(("next iteration", None))
            counts.events += 1
            visit(world.next_iteration())
            trace.pop()
        # The model's own promise: what came after touched nothing of this state.
        assert machines_key(world.decoder, world.supervisor) == world._machines_key
        assert world.key() == key
        on_path.remove(key)
        finished.add(key)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        visit(kind.begin(Facts(schedule, silent, everywhere), budgets))
    except AssertionError as error:
        error.add_note("trace: " + "\n  ".join(f"{kind} {what}" for kind, what in trace))
        raise
    finally:
        sys.setrecursionlimit(limit)
    return counts


def never():
    """A guard that refuses whatever comes."""
    return one_level([(0, 1), (0, 2), (1, 2), (0, 1, 2)])


UNCODED = uncoded_schedule(2, 2)
GROUPS = fractional_repetition_schedule(4, 2, np.array([0, 2, 0, 0]))
NESTED = fractional_repetition_schedule(2, 3, np.array([1, 2]))
EVERYWHERE, SILENT = {"everywhere": True}, {"silent": [2]}
REJECTED, LOST = {"rejected"}, {"lost"}

# Schedule, faults, who holds what and is silent, and all causes for which an iteration may be given up.
SCENARIOS = {
    # Nobody holds the samples of another: what is missing waits for the successor.
    "uncoded, deaths": (UNCODED, Budgets(deaths=3), {}, LOST),
    "uncoded, NaN": (UNCODED, Budgets(nans=2, deaths=1), {}, REJECTED),
    "uncoded, silence": (UNCODED, Budgets(hangs=1, suspicions=1, deaths=1), {}, LOST),
    "uncoded, given up and tried again": (UNCODED, Budgets(deaths=3, iterations=2, early=True), {}, LOST),
    "uncoded, slow and the next iteration": (
        UNCODED,
        Budgets(deaths=1, suspicions=1, iterations=2, early=True),
        {},
        set(),
    ),
    # Everybody may rescue everybody.
    "rescue, deaths": (UNCODED, Budgets(deaths=6), EVERYWHERE, LOST),
    "rescue, NaN": (UNCODED, Budgets(nans=2, deaths=1), EVERYWHERE, REJECTED),
    "rescue, slow and dead": (UNCODED, Budgets(deaths=2, suspicions=1), EVERYWHERE, set()),
    "rescue, three workers": (uncoded_schedule(3, 3), Budgets(deaths=2), EVERYWHERE, set()),
    "rescue, hang and the next iteration": (
        UNCODED,
        Budgets(hangs=1, iterations=2, early=True),
        EVERYWHERE,
        set(),
    ),
    "rescue, NaN and the next iteration": (
        UNCODED,
        Budgets(deaths=1, nans=1, iterations=2, early=True),
        EVERYWHERE,
        set(),
    ),
    # Codes.
    "cyclic": (one_level(), Budgets(deaths=1, nans=1), {}, set()),
    "cyclic, two deaths": (one_level(), Budgets(deaths=2), {}, set()),
    "cyclic, slow": (one_level(), Budgets(deaths=1, suspicions=1), {}, set()),
    "cyclic, silent": (one_level(), Budgets(deaths=1, nans=1), SILENT, set()),
    "cyclic, silent and twice NaN": (one_level(), Budgets(nans=2), SILENT, REJECTED | {"silent"}),
    "guard": (one_level([(0, 1)]), Budgets(deaths=1, nans=1), EVERYWHERE, set()),
    "guard, twice NaN": (one_level([(0, 1)]), Budgets(nans=2), {}, REJECTED | {"refused"}),
    "guard that never accepts": (never(), Budgets(deaths=1), {}, {"refused"}),
    "two levels, death": (two_levels(), Budgets(deaths=1), {}, set()),
    "two levels, NaN": (two_levels(), Budgets(nans=1), {}, set()),
    "groups": (GROUPS, Budgets(deaths=1), {}, set()),
    "groups, NaN": (GROUPS, Budgets(nans=2), {}, set()),
    "nested groups": (NESTED, Budgets(deaths=1, nans=1), {}, set()),
    "a row shared with a silent worker": (
        shared_row(),
        Budgets(deaths=1, nans=1, suspicions=1),
        {"silent": [1]},
        set(),
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_path_ends_well(name):
    schedule, budgets, options, causes = SCENARIOS[name]
    counts = explore(schedule, budgets, **options)
    print(counts)
    assert counts.causes == causes
    assert (counts.failed > 0) == bool(causes)
    assert (counts.completed > 0) == (name != "guard that never accepts")
