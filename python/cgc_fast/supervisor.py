"""What to do about workers that die, hang or send NaN, as a pure state machine.

It watches over the account that the `Decoder` keeps of expected rows, and answers with actions: visit these
rows elsewhere, start a successor, kill. No process, clock or I/O is touched; time arrives in events.

Slow is not dead. A worker is *suspected* only when it gives no sign of life for far longer than its own
history says while a cell needs it. Its rows are then visited elsewhere, which costs some work and nothing
else: if it was merely slow, what it delivers still counts. Only after a far longer silence is it killed and
replaced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from cgc_fast.decoder import Decoder
from cgc_fast.errors import DecodeError, NumericalError

__all__ = [
    "FORGET",
    "SUSPECT_S",
    "Action",
    "Failure",
    "Kill",
    "Order",
    "Replace",
    "SignOfLife",
    "State",
    "Supervisor",
    "WorkerRecord",
]

State = Literal["ready", "suspected", "starting", "given up"]

# Suspected after so many times the longest silence in its history, and not before `SUSPECT_S`.
PATIENCE = 8.0
SUSPECT_S = 0.5
# Killed after so many times that, and not before `KILL_S`.
KILL_FACTOR = 20.0
KILL_S = 10.0
# A successor is killed if its start takes so many times the slowest first start, and not before `START_S`.
START_S = 60.0
# The longest silence is forgotten by this factor an iteration, so that one hiccup does not blind for ever.
FORGET = 0.95
# Deaths without a delivery in between after which a worker is not started again, but in a later iteration
# that cannot do without it.
MOST_DEATHS = 3


@dataclass(frozen=True)
class SignOfLife:
    """When a worker was last seen at work (or until when it said that it sleeps).

    `longest_s` is the longest time between two such signs since the iteration before; `iteration` the last
    one that it took up.
    """

    seen_s: float
    longest_s: float
    iteration: int


@dataclass(frozen=True)
class Order:
    """Action: let this worker visit these rows, (cell, row), in the place of others."""

    worker: int
    rows: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Replace:
    """Action: start a successor of this worker."""

    worker: int


@dataclass(frozen=True)
class Kill:
    """Action: end this worker, which has been silent for `silent_s`."""

    worker: int
    silent_s: float


Action = Order | Replace | Kill


@dataclass(frozen=True)
class Failure:
    """Why the iteration can never complete.

    `lost`, `silent`, `rejected`: workers that would have delivered a missing row of the cell but are given
    up, never answer in this iteration, or sent non-finite values. `refused`: why the rows at hand, though
    enough in number, were not accepted (the numerical guard, as a rule).
    """

    cell: int
    required_rows: int
    available_rows: int
    lost: tuple[int, ...]
    silent: tuple[int, ...]
    rejected: tuple[int, ...]
    refused: DecodeError | NumericalError | None


@dataclass
class WorkerRecord:
    """What is known of a worker. Times in seconds.

    `killed`: its end was asked for and is yet to be noticed. `given_up_in`: the iteration.
    """

    state: State = "ready"
    killed: bool = False
    deaths: int = 0
    deaths_in_a_row: int = 0
    given_up_in: int = 0
    suspicions: int = 0
    waiting_since_s: float = 0.0
    longest_silence_s: float = 0.0
    starting_since_s: float | None = None


class Supervisor:
    """Decide about workers that do not deliver.

    Parameters
    ----------
    decoder : Decoder
        Its account is read and kept up to date.
    can_visit : callable
        (worker, cell, row) -> whether the worker holds the samples of that row.
    start_s : float
        How long the slowest worker took to start.
    relative_times : callable, optional
        () -> time per unit of work of each worker, in any unit; NaN where it is not known.
    """

    def __init__(
        self,
        decoder: Decoder,
        can_visit: Callable[[int, int, int], bool],
        start_s: float = 0.0,
        relative_times: Callable[[], Sequence[float]] | None = None,
    ) -> None:
        self._relative_times = relative_times
        self._start_within_s = max(START_S, KILL_FACTOR * start_s)
        self._decoder = decoder
        self._can_visit = can_visit
        self.records = [WorkerRecord() for _ in decoder.schedule.walks]
        self._silent: frozenset[int] = frozenset()
        self._actions: list[Action] = []

    def go_on_from(self, other: Supervisor) -> None:
        """Take over the workers, and what was not done yet, from the supervisor of another schedule."""
        self.records = other.records
        self._actions = [action for action in other._actions if not isinstance(action, Order)]

    def remember(self, signs: Sequence[SignOfLife]) -> None:
        """Add to the histories what was seen since the last signs, between two iterations."""
        for record, sign in zip(self.records, signs, strict=True):
            record.longest_silence_s = max(record.longest_silence_s, sign.longest_s)

    def kill_after_s(self, worker: int) -> float:
        """Silence after which a worker is killed; `KILL_S` as long as nobody has a history."""
        patience_s = self._kill_after_s(worker)
        return patience_s if math.isfinite(patience_s) else KILL_S

    def begin(
        self,
        iteration: int,
        now_s: float,
        silent: Iterable[int] = (),
        signs: Sequence[SignOfLife] | None = None,
        skipped: int = 0,
        well_s: float = 0.0,
    ) -> None:
        """Start the decoder's iteration; nothing is expected of the workers that are not there.

        Parameters
        ----------
        iteration : int
            Larger than that of any earlier iteration.
        now_s : float
            On any clock that never goes back.
        silent : iterable of int
            Workers that are known never to answer in this iteration.
        signs : sequence of SignOfLife, optional
            Of each worker, on that clock; None where no worker can hang.
        skipped : int
            So many iterations since the last call went by without the supervisor, because all was well.
        well_s : float
            When the last of these began, on that clock: until then nobody had been silent.
        """
        forget = FORGET ** (1 + skipped)
        self._silent = frozenset(silent)
        # Orders that the end of the iteration before overtook are not for this one.
        self._actions = [action for action in self._actions if not isinstance(action, Order)]
        if signs is not None:
            for record, sign in zip(self.records, signs, strict=True):
                record.longest_silence_s = max(forget * record.longest_silence_s, sign.longest_s)
                alive = record.state == "ready" or sign.seen_s > record.waiting_since_s
                # An announced sleep ended with the iteration.
                record.waiting_since_s = min(now_s, max(record.waiting_since_s, sign.seen_s, well_s))
                if alive and sign.iteration >= self._decoder.iteration:  # it has answered the last call
                    record.waiting_since_s = now_s
            for worker in range(len(self.records)):
                self._judge(worker, now_s, needed=True)
        absent = {w for w, record in enumerate(self.records) if record.state in ("starting", "given up")}
        doubted = {w for w, record in enumerate(self.records) if record.state == "suspected"}
        self._decoder.start(iteration, absent | self._silent, doubted)
        self._try_again()

    def delivered(self, worker: int, *, finite: bool = True) -> None:
        """Take note of a sign of life. Call it after `Decoder.deliver`."""
        record = self.records[worker]
        if finite:
            record.deaths_in_a_row = 0
        if record.state == "suspected" and not record.killed:
            self._clear(worker)

    def lost(self, worker: int) -> None:
        """Take note that a worker is gone."""
        record = self.records[worker]
        record.deaths += 1
        record.deaths_in_a_row += 1
        record.killed = False
        record.starting_since_s = None
        self._decoder.give_up(worker)
        if record.deaths_in_a_row >= MOST_DEATHS:
            record.state = "given up"
            record.given_up_in = self._decoder.iteration
        else:
            record.state = "starting"
            self._actions.append(Replace(worker))

    def ready(self, worker: int, now_s: float) -> None:
        """Take note that a successor is there: it goes on with the walk where cells are open.

        The history stays: if all others were new, nobody could tell who hangs.
        """
        record = self.records[worker]
        record.state = "ready"
        record.waiting_since_s = now_s
        rows = self._unvisited(worker)
        if rows:
            self._give(worker, rows)

    def decide(self) -> list[Action]:
        """What is to be done now: everything that was not answered before."""
        for cell, lacking in self._decoder.short_cells():
            self._rescue(cell, lacking)
        self._try_again()
        actions, self._actions = self._merged(self._actions), []
        return actions

    def next_check_s(self, now_s: float) -> float | None:
        """When `check` should be called next, if nothing happens before; None: never."""
        moments = [
            record.waiting_since_s + self._patience_s(worker)
            for worker, record in enumerate(self.records)
            if record.state == "ready" and self._decoder.is_expecting(worker)
        ]
        moments += [
            record.waiting_since_s + self._kill_after_s(worker)
            for worker, record in enumerate(self.records)
            if record.state == "suspected" and not record.killed
        ]
        moments += [
            (now_s if record.starting_since_s is None else record.starting_since_s) + self._start_within_s
            for record in self.records
            if record.state == "starting"
        ]
        finite = [moment for moment in moments if moment != float("inf")]
        # Without any history of anybody look again soon: the others may get one.
        if len(finite) < len(moments):
            finite.append(now_s + SUSPECT_S)
        return max(min(finite), now_s + 0.2 * SUSPECT_S) if finite else None

    def check(self, now_s: float, signs: Sequence[SignOfLife], asleep_s: float = 0.0) -> None:
        """Look for workers that hang.

        Parameters
        ----------
        now_s : float
            As in `begin`.
        signs : sequence of SignOfLife
            As in `begin`.
        asleep_s : float
            How much longer than asked for the master itself was not running (stopped, or the machine
            suspended): time that is no worker's fault.
        """
        for worker, (record, sign) in enumerate(zip(self.records, signs, strict=True)):
            record.longest_silence_s = max(record.longest_silence_s, sign.longest_s)
            # A sleep announced in an earlier iteration should have ended with that.
            if sign.seen_s <= now_s or sign.iteration == self._decoder.iteration:
                record.waiting_since_s = max(record.waiting_since_s, sign.seen_s)
            record.waiting_since_s += asleep_s
            self._judge(worker, now_s, needed=self._decoder.is_expecting(worker))
            self._judge_start(worker, now_s, asleep_s)

    @property
    def all_well(self) -> bool:
        """Whether every worker is there, and nothing is held against it."""
        return all(r.state == "ready" and not r.killed and r.deaths_in_a_row == 0 for r in self.records)

    @property
    def failure(self) -> Failure | None:
        """Why the iteration can never complete; None as long as it may."""
        hopeless = self._hopeless_cells()
        return self._failure(hopeless[0]) if hopeless else None

    @property
    def nothing_can_come(self) -> bool:
        """Whether no open cell can ever be decoded."""
        return len(self._hopeless_cells()) == int(self._decoder.open_cells.sum())

    def _hopeless_cells(self) -> list[int]:
        return [cell for cell, lacking in self._decoder.short_cells() if self._may_still_come(cell) < lacking]

    def _may_still_come(self, cell: int) -> int:
        """Rows of a short cell that nobody is expected to deliver now, but somebody may later."""
        later = [
            worker
            for worker, record in enumerate(self.records)
            if record.state != "given up" and worker not in self._silent
        ]
        return sum(
            any(self._can_visit(worker, cell, row) for worker in later)
            for row in self._decoder.unexpected(cell)
            if not self._belongs_to_silent(cell, row)
        )

    def _try_again(self) -> None:
        """If nothing goes without them, workers given up in an earlier iteration get one more chance."""
        if self.failure is None:
            return
        for worker, record in enumerate(self.records):
            if (
                record.state == "given up"
                and record.given_up_in < self._decoder.iteration
                and worker not in self._silent
            ):
                record.state = "starting"
                record.deaths_in_a_row = MOST_DEATHS - 1
                self._actions.append(Replace(worker))

    def _judge(self, worker: int, now_s: float, *, needed: bool) -> None:
        """Suspect, clear or kill a worker by how long it has been silent."""
        record = self.records[worker]
        silent_s = now_s - record.waiting_since_s
        if worker in self._silent or record.killed:
            return
        if record.state == "suspected":
            if silent_s < self._patience_s(worker):
                self._clear(worker)
            elif silent_s >= self._kill_after_s(worker):
                record.killed = True
                self._actions.append(Kill(worker, silent_s))
        elif record.state == "ready" and needed and silent_s >= self._patience_s(worker):
            record.state = "suspected"
            record.suspicions += 1
            self._decoder.set_aside(worker)

    def _judge_start(self, worker: int, now_s: float, asleep_s: float) -> None:
        """Kill a successor whose start hangs."""
        record = self.records[worker]
        if record.state != "starting":
            return
        if record.starting_since_s is None:  # first look
            record.starting_since_s = now_s
            return
        record.starting_since_s += asleep_s
        silent_s = now_s - record.starting_since_s
        if silent_s >= self._start_within_s:
            record.starting_since_s = now_s  # once
            self._actions.append(Kill(worker, silent_s))

    def _clear(self, worker: int) -> None:
        """A suspected worker is alive after all, and goes on with what it was to do by itself."""
        self.records[worker].state = "ready"
        self._decoder.resume(worker)

    def _patience_s(self, worker: int) -> float:
        """Silence after which a worker is suspected; infinite as long as nobody has a history."""
        longest_s = self.records[worker].longest_silence_s
        if longest_s == 0.0:
            longest_s = max(record.longest_silence_s for record in self.records)
            if longest_s == 0.0:
                return float("inf")
        return max(SUSPECT_S, PATIENCE * longest_s)

    def _kill_after_s(self, worker: int) -> float:
        return max(KILL_S, KILL_FACTOR * self._patience_s(worker))

    def _rescue(self, cell: int, lacking: int) -> None:
        """Have rows of a short cell visited by workers that hold their samples.

        The one that is likely to be done first: by what it has to do already, and by how fast it was.
        """
        able = [
            worker
            for worker, record in enumerate(self.records)
            if record.state == "ready" and worker not in self._silent
        ]
        load = {worker: len(self._decoder.expected_of(worker)) for worker in able}
        times = [math.nan] * len(self.records) if self._relative_times is None else self._relative_times()
        known = [time for time in times if time > 0]
        typical = sorted(known)[len(known) // 2] if known else 1.0
        times = [time if time > 0 else typical for time in times]
        for row in list(self._decoder.unexpected(cell)):
            if lacking == 0:
                return
            if self._belongs_to_silent(cell, row):
                continue
            rejected_by = self._decoder.rejected_by(cell, row)
            holders = [worker for worker in able if self._can_visit(worker, cell, row)]
            if not holders:
                continue
            # Whoever sent NaN for it is asked again only if nobody else can.
            worker = min(holders, key=lambda w: (w in rejected_by, (load[w] + 1) * times[w], w))
            self._give(worker, [(cell, row)])
            load[worker] += 1
            lacking -= 1

    def _belongs_to_silent(self, cell: int, row: int) -> bool:
        """Whether only workers that never answer, by intent, would visit it: so nobody makes up for it."""
        visitors = {w for w in range(len(self.records)) if self._visits(w, cell, row)} if self._silent else ()
        return bool(visitors) and self._silent.issuperset(visitors)

    def _visits(self, worker: int, cell: int, row: int) -> bool:
        walk = self._decoder.schedule.walks[worker]
        return bool(((walk.cells == cell) & (walk.rows == row)).any())

    def _unvisited(self, worker: int) -> list[tuple[int, int]]:
        """Rows of its walk that are still of use, not here, and not expected of anybody, in their order."""
        if worker in self._silent:
            return []
        walk = self._decoder.schedule.walks[worker]
        return [
            (int(cell), int(row))
            for cell, row in zip(walk.cells, walk.rows, strict=True)
            if self._decoder.is_unexpected(int(cell), int(row))
            and worker not in self._decoder.rejected_by(int(cell), int(row))
        ]

    def _give(self, worker: int, rows: Sequence[tuple[int, int]]) -> None:
        for cell, row in rows:
            self._decoder.expect(worker, cell, row)
        self._actions.append(Order(worker, tuple(rows)))

    @staticmethod
    def _merged(actions: list[Action]) -> list[Action]:
        """One order a worker."""
        rows: dict[int, list[tuple[int, int]]] = {}
        others: list[Action] = []
        for action in actions:
            if isinstance(action, Order):
                rows.setdefault(action.worker, []).extend(action.rows)
            else:
                others.append(action)
        return [*others, *(Order(worker, tuple(mine)) for worker, mine in rows.items())]

    def _failure(self, cell: int) -> Failure:
        decoder = self._decoder
        missing = {
            worker
            for worker in range(len(self.records))
            for row in range(decoder.schedule.cells[cell].code.rows)
            if self._visits(worker, cell, row)
        }
        rejected = {
            worker
            for row in range(decoder.schedule.cells[cell].code.rows)
            for worker in decoder.rejected_by(cell, row)
        }
        given_up = {w for w in missing if self.records[w].state == "given up"}
        return Failure(
            cell=cell,
            required_rows=decoder.schedule.cells[cell].code.required_rows,
            available_rows=decoder.reachable(cell),
            lost=tuple(sorted(given_up)),
            silent=tuple(sorted((missing & self._silent) - given_up)),
            rejected=tuple(sorted(rejected)),
            refused=decoder.refusal(cell),
        )
