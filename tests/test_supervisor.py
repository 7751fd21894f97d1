"""The supervisor's rules, one by one, in virtual time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cgc_fast.codes import RepetitionCode
from cgc_fast.decoder import Decoder
from cgc_fast.errors import NumericalError
from cgc_fast.schedule import Cell, Schedule, Walk
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.schemes.fractional_repetition import fractional_repetition_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule
from cgc_fast.supervisor import (
    KILL_FACTOR,
    KILL_S,
    MOST_DEATHS,
    PATIENCE,
    SUSPECT_S,
    Kill,
    Order,
    Replace,
    SignOfLife,
    Supervisor,
)

HISTORY_S = 0.5  # the longest silence of workers that have a history
PATIENCE_S = PATIENCE * HISTORY_S
NO_HISTORY = 0.0


class Host:
    """A decoder, its supervisor, and a clock. `holders`: worker -> workers whose rows it may visit too."""

    def __init__(self, schedule, holders=None, history_s=HISTORY_S):
        count = schedule.workers
        self.schedule = schedule
        self.now_s = 1000.0
        self.seen_s = [self.now_s] * count
        self.longest_s = [history_s] * count
        self.taken_up = [0] * count
        visits = {
            (w, c, r)
            for w, walk in enumerate(schedule.walks)
            for c, r in zip(walk.cells.tolist(), walk.rows.tolist(), strict=True)
        }
        holders = holders or {}
        self.decoder = Decoder(schedule)
        self.supervisor = Supervisor(
            self.decoder,
            lambda w, c, r: (w, c, r) in visits or any((o, c, r) in visits for o in holders.get(w, ())),
        )
        self.records = self.supervisor.records

    @property
    def iteration(self):
        return self.decoder.iteration

    @property
    def failure(self):
        return self.supervisor.failure

    @property
    def states(self):
        return [record.state for record in self.records]

    def signs(self):
        return [SignOfLife(*sign) for sign in zip(self.seen_s, self.longest_s, self.taken_up, strict=True)]

    def begin(self, silent=(), taken_up=True):
        self.decoder.cancel()
        self.supervisor.begin(self.iteration + 1, self.now_s, silent, self.signs())
        if taken_up:
            self.taken_up = [self.iteration] * self.schedule.workers
        return self.supervisor.decide()

    def deliver(self, worker, cell, row=0, *, finite=True, iteration=None):
        iteration = self.iteration if iteration is None else iteration
        self.decoder.deliver(iteration, worker, cell, row, finite=finite)
        self.supervisor.delivered(worker, finite=finite)
        return self.supervisor.decide()

    def lose(self, worker):
        self.supervisor.lost(worker)
        return self.supervisor.decide()

    def ready(self, worker):
        self.supervisor.ready(worker, self.now_s)
        return self.supervisor.decide()

    def wait(self, elapsed_s, seen=(), asleep_s=0.0):
        """Time passes, in which some workers are seen at work."""
        self.now_s += elapsed_s
        for worker in seen:
            self.seen_s[worker] = self.now_s
        self.supervisor.check(self.now_s, self.signs(), asleep_s)
        return self.supervisor.decide()


def uncoded(workers=3, *, everywhere=False, **options):
    """Cell w is visited by worker w."""
    holders = {w: range(workers) for w in range(workers)} if everywhere else None
    return Host(uncoded_schedule(workers, 2 * workers), holders, **options)


def test_iterations_that_went_by_without_it_are_nobodys_silence():
    # A worker that has taken up none of them, because the others were faster.
    host = uncoded()
    host.decoder.skip(5)
    host.seen_s = [0.0] * 3
    host.supervisor.begin(6, host.now_s, (), host.signs(), 5, host.now_s - 0.1)
    assert host.supervisor.decide() == []
    assert host.states == ["ready"] * 3


# --- deaths -------------------------------------------------------------------------------------------


def test_nothing_to_do_as_long_as_all_is_well():
    host = uncoded()
    assert host.begin() == []
    for worker in range(3):
        assert host.failure is None
        assert host.deliver(worker, worker) == []
    assert host.decoder.done
    assert host.states == ["ready"] * 3


def test_a_dead_worker_is_replaced_and_its_rows_visited_by_one_that_holds_the_samples():
    host = Host(uncoded_schedule(3, 6), holders={2: [0]})
    host.begin()
    assert host.lose(0) == [Replace(0), Order(2, ((0, 0),))]
    assert host.states == ["starting", "ready", "ready"]
    assert host.records[0].deaths == 1
    assert host.decoder.expected_of(2) == [(0, 0), (2, 0)]
    assert host.ready(0) == []  # nothing is left for the successor to do
    assert host.states[0] == "ready"
    for cell in range(3):
        host.deliver(2 if cell == 0 else cell, cell)
    assert host.decoder.done


def test_the_least_busy_rescues():
    # Each worker visits its own cell uncoded, then the block that all share.
    schedule = fractional_repetition_schedule(4, 8, np.array([4, 0, 0, 4]))
    host = Host(schedule, {w: range(4) for w in range(4)})
    host.begin()
    host.deliver(1, 1)
    host.deliver(3, 3)
    assert host.lose(0) == [Replace(0), Order(1, ((0, 0),))]
    host.deliver(2, 2)
    # All of 1, 2 and 3 still owe the shared block, 1 the rescue too.
    host.decoder.expect(2, 0, 0)
    assert host.lose(1) == [Replace(1)]  # worker 2 is at it
    assert host.lose(2) == [Replace(2), Order(3, ((0, 0),))]


def test_a_fast_worker_rescues_before_a_slow_one_that_has_as_much_to_do():
    schedule = fractional_repetition_schedule(4, 8, np.array([4, 0, 0, 4]))
    host = Host(schedule, {w: range(4) for w in range(4)})
    # Worker 1 is the slowest, of worker 3 nothing is known: it counts as typical.
    host.supervisor._relative_times = lambda: [1.0, 5.0, 0.5, math.nan]
    host.begin()
    assert host.lose(0) == [Replace(0), Order(2, ((0, 0),))]


def test_many_rows_are_shared_out():
    host = Host(cyclic_schedule(4, 8, np.array([4, 4, 0, 0])), {w: range(4) for w in range(4)})
    host.begin()
    host.decoder.deliver(1, 0, 4, 0)
    host.supervisor.lost(3)
    host.supervisor.lost(2)
    actions = host.supervisor.decide()
    assert actions[:2] == [Replace(3), Replace(2)]
    orders = {action.worker: action.rows for action in actions[2:]}
    # Missing: cells 2 and 3, and one row of the coded cell 4, which needs three. Worker 1 owes two rows,
    # worker 0 one.
    assert orders == {0: ((2, 0), (3, 0)), 1: ((4, 2),)}


def test_orders_to_one_worker_are_one():
    host = Host(uncoded_schedule(3, 6), {2: [0, 1]})
    host.begin()
    host.supervisor.lost(0)
    host.supervisor.lost(1)
    assert host.supervisor.decide() == [Replace(0), Replace(1), Order(2, ((0, 0), (1, 0)))]
    assert host.supervisor.decide() == []


def test_what_nobody_else_holds_waits_for_the_successor():
    host = uncoded()
    host.begin()
    assert host.lose(1) == [Replace(1)]
    assert host.failure is None
    assert host.ready(1) == [Order(1, ((1, 0),))]
    for worker in range(3):
        host.deliver(worker, worker)
    assert host.decoder.done


def test_a_successor_goes_on_where_its_predecessor_was():
    schedule = fractional_repetition_schedule(2, 4, np.array([2, 2]))
    host = Host(schedule)
    host.begin()
    host.deliver(0, 0)
    assert host.lose(0) == [Replace(0)]  # what is left of its walk another delivers too
    assert host.ready(0) == [Order(0, ((2, 0),))]


def test_no_rescue_if_the_rest_decodes():
    host = Host(cyclic_schedule(3, 3, np.array([0, 0, 3])), {w: range(3) for w in range(3)})
    host.begin()
    assert host.lose(0) == [Replace(0)]
    assert host.lose(1) == [Replace(1)]
    assert host.failure is None


def test_a_rescuer_that_dies_is_rescued():
    host = uncoded(everywhere=True)
    host.begin()
    assert host.lose(0) == [Replace(0), Order(1, ((0, 0),))]
    assert host.lose(1) == [Replace(1), Order(2, ((0, 0), (1, 0)))]
    assert host.lose(2) == [Replace(2)]
    assert host.failure is None
    assert host.ready(1) == [Order(1, ((1, 0), (0, 0), (2, 0)))]  # its own first


def test_given_up_after_so_many_deaths_without_a_delivery():
    host = uncoded()
    host.begin()
    for _ in range(MOST_DEATHS - 1):
        assert host.lose(1) == [Replace(1)]
        assert host.failure is None
    assert host.lose(1) == []
    assert host.states[1] == "given up"
    failure = host.failure
    assert failure.cell == 1
    assert (failure.required_rows, failure.available_rows) == (1, 0)
    assert failure.lost == (1,)
    assert failure.silent == failure.rejected == ()
    assert failure.refused is None


def test_nothing_can_come_once_every_open_cell_is_hopeless():
    host = uncoded()
    host.begin()
    for _ in range(MOST_DEATHS):
        host.lose(1)
    assert host.failure is not None
    assert not host.supervisor.nothing_can_come  # of the other cells something does
    host.deliver(0, 0)
    assert not host.supervisor.nothing_can_come
    host.deliver(2, 2)
    assert host.supervisor.nothing_can_come


def test_given_up_is_no_failure_if_others_hold_its_samples():
    host = uncoded(everywhere=True)
    host.begin()
    for _ in range(MOST_DEATHS):
        host.lose(1)
    assert host.states[1] == "given up"
    assert host.failure is None
    # Nor in the next iteration: it is not even tried again.
    assert host.begin() == [Order(0, ((1, 0),))]
    assert host.states[1] == "given up"


def test_a_delivery_in_between_forgives_deaths():
    host = uncoded()
    for _ in range(2 * MOST_DEATHS):
        host.begin()
        assert host.lose(1) == [Replace(1)]
        host.ready(1)
        host.deliver(1, 1)
        assert host.records[1].deaths_in_a_row == 0
    host.begin()
    host.lose(1)
    host.ready(1)
    host.deliver(1, 1, finite=False)  # such a delivery forgives nothing
    assert host.records[1].deaths_in_a_row == 1


def test_the_next_iteration_tries_once_more():
    host = uncoded()
    host.begin()
    for _ in range(MOST_DEATHS):
        host.lose(1)
    assert host.failure is not None
    assert host.begin() == [Replace(1)]
    assert host.failure is None
    assert host.lose(1) == []  # once
    assert host.failure.lost == (1,)
    assert host.begin() == [Replace(1)]
    assert host.ready(1) == [Order(1, ((1, 0),))]
    host.deliver(1, 1)
    assert host.lose(1) == [Replace(1)]  # forgiven


def test_an_earlier_given_up_worker_is_tried_when_it_turns_out_to_be_needed():
    host = Host(uncoded_schedule(2, 4), {0: [1]})
    host.begin()
    for _ in range(MOST_DEATHS):
        host.lose(1)
    host.deliver(0, 1)
    host.deliver(0, 0)
    assert host.begin() == [Order(0, ((1, 0),))]
    assert host.lose(0) == [Replace(0)]
    assert host.lose(0) == [Replace(0)]
    assert host.lose(0) == [Replace(1)]  # in the middle of the second iteration
    assert host.states == ["given up", "starting"]
    # Worker 0 was given up in this very iteration, and worker 1 cannot visit its row.
    assert host.failure.lost == (0,)


def test_deaths_between_iterations():
    host = uncoded()
    host.begin()
    for worker in range(3):
        host.deliver(worker, worker)
    host.supervisor.lost(1)
    assert host.begin() == [Replace(1)]
    assert host.failure is None
    host.decoder.cancel()
    assert host.ready(1) == []
    assert host.begin() == []
    assert host.decoder.expected_of(1) == [(1, 0)]


def test_orders_that_the_end_of_the_iteration_overtook_are_dropped():
    host = uncoded()
    host.begin()
    host.lose(1)
    host.lose(0)
    host.supervisor.ready(1, host.now_s)  # in one go with what follows
    host.decoder.cancel()
    host.supervisor.lost(2)
    assert host.begin() == [Replace(2)]


# --- NaN ----------------------------------------------------------------------------------------------


def test_nan_is_asked_for_elsewhere_first():
    host = Host(uncoded_schedule(3, 6), {0: [1], 2: [1]})
    host.begin()
    host.deliver(0, 0)
    assert host.deliver(1, 1, finite=False) == [Order(0, ((1, 0),))]
    host.deliver(0, 1)
    assert host.failure is None
    host.deliver(2, 2)
    assert host.decoder.done


def test_nan_is_asked_for_again_if_nobody_else_holds_it():
    host = uncoded()
    host.begin()
    assert host.deliver(1, 1, finite=False) == [Order(1, ((1, 0),))]
    assert host.failure is None
    assert host.deliver(1, 1, finite=False) == []
    assert host.failure.rejected == (1,)
    assert host.failure.lost == ()


def test_twice_nan_is_a_failure_whoever_sent_it():
    host = uncoded(everywhere=True)
    host.begin()
    assert host.deliver(1, 1, finite=False) == [Order(0, ((1, 0),))]
    assert host.deliver(0, 1, finite=False) == []
    failure = host.failure
    assert failure.cell == 1
    assert failure.rejected == (0, 1)
    host.begin()  # and forgotten in the next iteration
    assert host.failure is None


def test_nan_costs_nothing_if_the_rest_decodes():
    host = Host(cyclic_schedule(3, 3, np.array([0, 3, 0])))
    host.begin()
    assert host.deliver(1, 0, 1, finite=False) == []
    assert host.deliver(2, 0, 2, finite=False) != []
    assert host.failure is None


def test_a_successor_is_not_told_to_repeat_nan_before_others():
    host = uncoded()
    host.begin()
    host.supervisor.lost(2)
    host.deliver(1, 1, finite=False)
    assert host.lose(1) == [Replace(1)]
    # Nobody else can: it is the second and last try.
    assert host.ready(1) == [Order(1, ((1, 0),))]


def test_the_refusal_of_the_guard_asks_for_one_more_row():
    class Guarded(RepetitionCode):
        def decoding_vector(self, rows, dtype=np.float64):
            if len(rows) < 2:
                raise NumericalError("scripted: one more row is needed")
            return np.array([1.0, *[0.0] * (len(rows) - 1)])

    schedule = Schedule(3, 1, [Cell(0, 1, 0.0, 1.0, Guarded(3))], [Walk([0], [r]) for r in range(3)])
    host = Host(schedule)
    host.begin()
    host.supervisor.lost(0)
    host.supervisor.lost(2)
    assert host.supervisor.decide() == [Replace(0), Replace(2)]
    assert host.deliver(1, 0, 1) == []
    assert host.failure is None  # a successor may deliver one more
    for worker in (0, 2):
        for _ in range(MOST_DEATHS - 1):
            host.lose(worker)
    assert isinstance(host.failure.refused, NumericalError)
    assert host.failure.lost == (0, 2)


# --- silence ------------------------------------------------------------------------------------------


def test_suspected_by_its_own_history():
    host = uncoded(everywhere=True)
    host.longest_s[0] = 0.25
    host.begin()
    assert host.wait(PATIENCE * 0.25 - 0.01, seen=[]) == []
    assert host.wait(0.02) == [Order(1, ((0, 0),))]
    assert host.states == ["suspected", "ready", "ready"]
    assert host.records[0].suspicions == 1
    host.wait(PATIENCE_S - PATIENCE * 0.25 - 0.02, seen=[1])
    assert host.states == ["suspected", "ready", "ready"]
    host.wait(0.02)  # since the beginning; worker 1 was seen meanwhile
    assert host.states == ["suspected", "ready", "suspected"]


def test_nobody_is_suspected_within_the_shortest_time():
    host = uncoded(history_s=1e-6)
    host.begin()
    host.wait(0.99 * SUSPECT_S)
    assert host.states == ["ready"] * 3
    host.wait(0.02 * SUSPECT_S)
    assert host.states == ["suspected"] * 3
    assert host.failure is None


def test_without_a_history_by_that_of_the_others():
    host = uncoded(history_s=NO_HISTORY)
    host.begin()
    host.longest_s[2] = HISTORY_S
    host.wait(PATIENCE_S - 0.01, seen=[1, 2])
    assert host.states == ["ready"] * 3
    host.wait(0.02, seen=[1, 2])
    assert host.states == ["suspected", "ready", "ready"]


def test_without_any_history_never_but_looked_at_again():
    host = uncoded(history_s=NO_HISTORY)
    host.begin()
    host.wait(1e6)
    assert host.states == ["ready"] * 3
    assert host.supervisor.next_check_s(host.now_s) == pytest.approx(host.now_s + SUSPECT_S)


def test_a_longer_silence_that_was_survived_makes_patient():
    host = uncoded()
    host.begin()
    host.longest_s[0] = 10 * HISTORY_S
    host.wait(5 * PATIENCE_S)
    assert host.states == ["ready", "suspected", "suspected"]
    host.longest_s[0] = HISTORY_S  # the longest since the iteration before
    host.seen_s = [host.now_s] * 3
    host.begin()
    assert host.records[0].longest_silence_s < 10 * HISTORY_S  # it fades
    for _ in range(100):
        host.begin()
    assert host.records[0].longest_silence_s == HISTORY_S


def test_not_suspected_if_nothing_is_needed_of_it():
    host = uncoded()
    host.begin()
    host.deliver(1, 1)
    host.wait(100 * PATIENCE_S, seen=[0, 2])
    assert host.states == ["ready"] * 3
    # Nor if only cells are left that others have decoded.
    host = Host(fractional_repetition_schedule(2, 4, np.array([2, 2])))
    host.begin()
    for visit in [(0, 0), (1, 1), (0, 2)]:
        host.deliver(*visit)
    assert host.decoder.done
    host.wait(100 * PATIENCE_S)
    assert host.states == ["ready"] * 2


def test_announced_sleeps_are_no_silence():
    host = uncoded()
    host.begin()
    host.seen_s[0] = host.now_s + 50.0  # until then it sleeps
    host.wait(50.0 + PATIENCE_S - 0.01, seen=[1, 2])
    assert host.states == ["ready"] * 3
    host.wait(0.02, seen=[1, 2])
    assert host.states == ["suspected", "ready", "ready"]


def test_a_sleep_announced_in_an_earlier_iteration_has_ended():
    host = uncoded()
    host.begin()
    host.seen_s[0] = host.now_s + 1e6
    host.wait(1.0, seen=[1, 2])
    host.begin(taken_up=False)
    host.taken_up[1:] = [2, 2]
    host.wait(PATIENCE_S - 0.01, seen=[1, 2])
    assert host.states == ["ready"] * 3
    host.wait(0.02, seen=[1, 2])
    assert host.states == ["suspected", "ready", "ready"]


def test_time_in_which_the_master_slept_is_nobodys_fault():
    host = uncoded()
    host.begin()
    assert host.wait(1e6, asleep_s=1e6) == []
    assert host.states == ["ready"] * 3
    host.wait(PATIENCE_S + 0.01)
    assert host.states == ["suspected"] * 3
    # A suspected one is not killed for it either.
    host.wait(1e6, asleep_s=1e6)
    assert host.states == ["suspected"] * 3
    assert not any(record.killed for record in host.records)


def test_a_suspected_worker_that_shows_life_goes_on_with_what_it_was_doing():
    host = uncoded(everywhere=True)
    host.begin()
    host.lose(1)
    assert host.decoder.expected_of(0) == [(0, 0), (1, 0)]
    host.wait(PATIENCE_S + 0.01, seen=[2])
    assert host.states == ["suspected", "starting", "ready"]
    assert host.decoder.expected_of(0) == []
    assert host.decoder.expected_of(2) == [(0, 0), (1, 0), (2, 0)]
    assert host.wait(0.1, seen=[0]) == []
    assert host.states == ["ready", "starting", "ready"]
    assert host.decoder.expected_of(0) == [(0, 0), (1, 0)]  # not only what nobody else does


def test_a_successor_is_expected_to_do_only_what_it_was_told():
    host = uncoded(workers=2, everywhere=True)
    host.begin()
    assert host.lose(0) == [Replace(0), Order(1, ((0, 0),))]
    assert host.ready(0) == []  # it will not walk in this iteration
    assert host.deliver(1, 1, finite=False) == [Order(0, ((1, 0),))]
    assert host.wait(PATIENCE_S + 0.01, seen=[1]) == [Order(1, ((1, 0),))]
    assert host.states == ["suspected", "ready"]
    host.lose(1)
    host.wait(0.1, seen=[0])
    assert host.states == ["ready", "starting"]
    # It has (1, 0) to do by itself; (0, 0), though of its walk, it must be told.
    assert host.decoder.expected_of(0) == [(0, 0), (1, 0)]
    assert host.supervisor.decide() == []


def test_a_late_delivery_of_a_suspected_worker_counts():
    host = uncoded(everywhere=True)
    host.begin()
    host.wait(PATIENCE_S + 0.01, seen=[1, 2])
    assert host.states[0] == "suspected"
    host.deliver(0, 0)
    assert host.states[0] == "ready"
    assert not host.decoder.open_cells[0]


def test_killed_after_a_far_longer_silence_and_replaced():
    host = uncoded()
    host.begin()
    kill_after_s = max(KILL_S, KILL_FACTOR * PATIENCE_S)
    host.wait(kill_after_s - 0.01, seen=[1, 2])
    assert host.wait(0.0, seen=[1, 2]) == []
    (kill,) = host.wait(0.02, seen=[1, 2])
    assert isinstance(kill, Kill)
    assert kill.worker == 0
    assert kill.silent_s == pytest.approx(kill_after_s + 0.01)
    assert host.states[0] == "suspected"
    # Once, and until its end is noticed nothing is expected of it.
    assert host.wait(0.1, seen=[1, 2]) == []
    assert host.wait(1e6, seen=[1, 2]) == []
    assert host.states[0] == "suspected"
    assert host.failure is None
    assert host.lose(0) == [Replace(0)]
    assert host.ready(0) == [Order(0, ((0, 0),))]
    # Its successor is watched like any other.
    host.wait(PATIENCE_S + 0.01, seen=[1, 2])
    assert host.states[0] == "suspected"
    assert not host.records[0].killed


def test_what_a_killed_worker_delivered_before_counts():
    host = uncoded(workers=2)
    host.begin()
    host.wait(1e6, seen=[1])
    assert host.states[0] == "suspected"
    assert host.wait(1e6, seen=[1]) == [Kill(0, 2e6)]
    host.deliver(0, 0)
    assert not host.decoder.open_cells[0]
    assert host.states[0] == "suspected"  # its end is on the way


def test_killed_no_sooner_than_the_shortest_time():
    host = uncoded(history_s=1e-6)
    host.begin()
    host.wait(KILL_S - 0.01, seen=[1, 2])
    assert host.states[0] == "suspected"
    assert host.wait(0.0, seen=[1, 2]) == []
    assert [a.worker for a in host.wait(0.02, seen=[1, 2])] == [0]


def test_a_history_outlives_its_worker():
    # Else nobody would have one if all but the hanging worker were new, and it would hang for ever.
    host = uncoded(workers=2)
    host.longest_s = [NO_HISTORY, HISTORY_S]
    host.begin()
    host.lose(1)
    host.longest_s[1] = NO_HISTORY
    host.ready(1)
    host.deliver(1, 1)
    host.wait(PATIENCE_S + 0.01)
    assert host.states == ["suspected", "ready"]


def test_a_worker_that_hangs_is_not_waited_for_in_the_next_iteration():
    host = uncoded(everywhere=True)
    host.begin()
    host.wait(PATIENCE_S + 0.01, seen=[1, 2])
    for cell in range(3):
        host.deliver(1 if cell == 0 else cell, cell)
    assert host.decoder.done
    host.now_s += 1.0
    assert host.begin() == [Order(1, ((0, 0),))]
    assert host.states[0] == "suspected"
    # As soon as it wakes it walks by itself.
    host.wait(0.1, seen=[0, 1, 2])
    assert host.decoder.expected_of(0) == [(0, 0)]


def test_a_suspected_worker_that_showed_life_before_a_long_pause_is_not_killed_for_the_pause():
    host = uncoded()
    host.begin()
    host.wait(PATIENCE_S + 0.01, seen=[1, 2])
    assert host.states[0] == "suspected"
    host.seen_s[0] = host.now_s + 0.1  # nobody looked; the user left the iteration, and thought for an hour
    host.now_s += 3600.0
    assert host.begin() == []
    assert host.states == ["ready"] * 3


def test_idle_time_between_iterations_is_no_silence():
    host = uncoded()
    host.begin()
    for worker in range(3):
        host.deliver(worker, worker)
    host.now_s += 1e6
    assert host.begin() == []
    assert host.states == ["ready"] * 3


def test_a_straggler_that_is_iterations_behind_but_at_work_is_not_suspected():
    host = uncoded()
    host.begin()
    for _ in range(3):
        host.now_s += 0.9 * PATIENCE_S
        host.seen_s = [host.now_s] * 3
        host.begin(taken_up=False)
        host.taken_up[1:] = [host.iteration] * 2
        assert host.states == ["ready"] * 3
    host.now_s += PATIENCE_S + 0.01
    host.begin(taken_up=False)
    assert host.states == ["suspected", "ready", "ready"]


def test_next_check():
    host = uncoded()
    host.begin()
    assert host.supervisor.next_check_s(host.now_s) == pytest.approx(host.now_s + PATIENCE_S)
    host.deliver(1, 1)
    host.deliver(2, 2)
    host.wait(PATIENCE_S + 0.01)
    kill_s = 1000.0 + max(KILL_S, KILL_FACTOR * PATIENCE_S)
    assert host.supervisor.next_check_s(host.now_s) == pytest.approx(kill_s)
    # Never at once again: a worker may be overdue for lack of anything to do about it.
    assert host.supervisor.next_check_s(2 * kill_s) > 2 * kill_s
    host.wait(kill_s)
    assert host.records[0].killed
    assert host.supervisor.next_check_s(host.now_s) is None


def test_where_no_worker_can_hang_nobody_is_suspected():
    host = uncoded()
    host.supervisor.begin(1, 0.0)
    host.decoder.cancel()
    host.supervisor.begin(2, 1e9)
    assert host.states == ["ready"] * 3


# --- workers that never answer, by intent -------------------------------------------------------------


def test_silent_workers_are_never_made_up_for():
    host = uncoded(everywhere=True)
    assert host.begin(silent=[1]) == []
    failure = host.failure
    assert failure.cell == 1
    assert failure.silent == (1,)
    assert failure.lost == failure.rejected == ()


def test_silent_workers_are_neither_suspected_nor_asked():
    host = Host(cyclic_schedule(3, 3, np.array([0, 3, 0])), {w: range(3) for w in range(3)})
    assert host.begin(silent=[1]) == []
    assert host.failure is None
    host.wait(1e6, seen=[0, 2])
    assert host.states == ["ready"] * 3
    # Two of three rows are needed: worker 2 dies, its row is visited by 0, never by 1.
    assert host.lose(2) == [Replace(2), Order(0, ((0, 2),))]
    # The next iteration expects all again.
    host.begin()
    assert host.decoder.expected_of(1) == [(0, 1)]


def test_a_silent_worker_that_dies_is_replaced_but_not_told_to_work():
    host = Host(cyclic_schedule(3, 3, np.array([0, 3, 0])))
    host.begin(silent=[1])
    assert host.lose(1) == [Replace(1)]
    assert host.ready(1) == []


def test_a_row_that_a_living_worker_visits_too_is_made_up_for():
    cell = Cell(0, 1, 0.0, 1.0, RepetitionCode(1))
    host = Host(Schedule(3, 1, [cell], [Walk([0], [0]), Walk([0], [0]), Walk([], [])]), {2: [0]})
    assert host.begin(silent=[1]) == []
    assert host.lose(0) == [Replace(0), Order(2, ((0, 0),))]
    assert host.failure is None


def test_a_silent_worker_that_was_given_up_is_not_tried_again():
    host = uncoded()
    host.begin()
    for _ in range(MOST_DEATHS):
        host.lose(1)
    assert host.begin(silent=[1]) == []
    assert host.failure is not None
    assert host.states[1] == "given up"
