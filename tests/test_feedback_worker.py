"""Boards and the machines of workers that learn of each other, driven by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgc_fast._core import Board
from cgc_fast.claims import ClaimTable, WorkerBoard
from cgc_fast.feedback_worker import AnnounceWorker, ClaimWorker, Touched
from cgc_fast.worker import Deliver, Derive, Forward, Idle, SendSum, Visit

# --- samples touched ----------------------------------------------------------------------------------

bounds = st.integers(0, 40)
spans = st.lists(st.tuples(bounds, bounds).map(sorted).map(tuple), max_size=3)


@given(st.lists(st.tuples(spans, st.one_of(st.just(math.inf), st.integers(0, 30)))))
def test_touched_samples_are_counted_once(steps):
    touched, found = Touched(), set()
    for wanted, most in steps:
        new = []
        for low, high in wanted:
            new += [i for i in range(low, high) if i not in found and i not in new]
        assert touched.untouched([(float(a), float(b)) for a, b in disjoint(wanted)]) == len(new)
        new = new[: len(new) if most == math.inf else most]
        assert touched.touch([(float(a), float(b)) for a, b in wanted], float(most)) == len(new)
        found |= set(new)
    assert touched.untouched([(0.0, 40.0)]) == 40 - len(found)
    assert touched._lows == sorted(touched._lows)
    assert all(a < b for a, b in zip(touched._lows, touched._highs, strict=True))
    assert all(b < a for b, a in zip(touched._highs, touched._lows[1:], strict=False))


def disjoint(wanted):
    """The same samples in intervals of one."""
    return [(i, i + 1) for i in sorted({i for low, high in wanted for i in range(low, high)})]


# --- boards -------------------------------------------------------------------------------------------

WORKERS, CELLS = 3, 4
cells = st.integers(0, CELLS - 1)
workers = st.integers(0, WORKERS - 1)
some_cells = st.lists(cells, max_size=CELLS, unique=True)
steps = st.one_of(
    st.tuples(st.just("announce"), cells),
    st.tuples(st.just("withdraw"), workers),
    st.tuples(st.just("claim_free"), some_cells, st.integers(0, 2)),
    st.tuples(st.just("claim_again"), some_cells),
    st.tuples(st.just("commit"), workers, st.integers(0, 1), cells),
    st.tuples(st.just("next iteration")),
)


@given(st.lists(steps, max_size=60), st.booleans())
def test_the_board_in_shared_memory_is_the_plain_one(script, late):
    memory = bytearray(Board.bytes(WORKERS, CELLS))
    boards = Board(memory, WORKERS, CELLS), ClaimTable(WORKERS, CELLS)
    iteration = 1
    for step, *arguments in script:
        # A worker that is late by an iteration now and then.
        now = max(1, iteration - (late and step != "announce"))
        answers = []
        for board in boards:
            if step == "next iteration":
                break
            if step == "withdraw":
                answers.append(board.withdraw(*arguments))
            elif step == "commit":
                worker, behind, cell = arguments
                generation = max(0, board.generation(worker) - behind)
                answers.append(board.commit(now, worker, generation, cell))
            elif step in ("claim_free", "claim_again"):
                array = np.array(arguments[0], dtype=np.int64)
                answers.append(getattr(board, step)(now, array, *arguments[1:]))
            else:
                answers.append(board.announce(now, *arguments))
        iteration += step == "next iteration"
        assert len(set(answers)) <= 1, (step, arguments)
        seen = [
            [
                (
                    board.is_taken(i, c),
                    board.is_announced(i, c),
                    board.committed_by(i, c),
                    board.claimants(i, c),
                )
                for i in (max(1, iteration - 1), iteration, iteration + 1)
                for c in range(CELLS)
            ]
            + [board.all_taken(iteration, np.arange(c, dtype=np.int64)) for c in range(CELLS + 1)]
            + [board.generation(w) for w in range(WORKERS)]
            for board in boards
        ]
        assert seen[0] == seen[1]


def test_bad_boards_are_refused():
    with pytest.raises(ValueError, match="at least"):
        Board(bytearray(8), 2, 3)
    with pytest.raises(ValueError, match="cells >= 1"):
        Board.bytes(2, 0)
    board = Board(bytearray(Board.bytes(2, 3)), 2, 3)
    with pytest.raises(ValueError, match="cell: expected 0 to 2, got 3"):
        board.announce(1, 3)
    with pytest.raises(ValueError, match="worker: expected 0 to 1, got -1"):
        board.withdraw(-1)
    with pytest.raises(ValueError, match="cell: expected 0 to 2, got 7"):
        board.claim_free(1, np.array([7]), 0)


# --- workers ------------------------------------------------------------------------------------------


def visit(cell, start=0, stop=2, low=0, high=1, forward_cycles=0.0):
    """A cell of one row that takes a cycle for each of its derivatives."""
    ranges = np.array([[low, high]], dtype=np.int64)
    width = (high - low) * (stop - start)
    spans = ((float(low), float(high)),)
    return Visit(cell, 0, cell, start, stop, ranges, np.ones(1), width, forward_cycles, 0.0, spans)


def until_deliver(worker):
    """Go on until a payload is complete, or there is nothing more: that instruction."""
    while isinstance(instruction := worker.next(), (Forward, Derive)):
        worker.completed(0.0)
    return instruction


def announced(table, count=3, **options):
    walk = [visit(c, 2 * c, 2 * c + 2, 0, 4, **options) for c in range(count)]
    return AnnounceWorker(walk, WorkerBoard(table, 0), forward=True)


def test_announced_cells_are_passed_over():
    table = ClaimTable(1, 3)
    worker = announced(table)
    worker.begin(1)
    table.announce(1, 1)
    visited = []
    while isinstance(instruction := until_deliver(worker), Deliver):
        assert worker.next() == instruction  # until it is told that it was handed over
        assert worker.look(0.0)
        visited.append(instruction.visit.cell)
        worker.delivered()
    assert visited == [0, 2]
    assert isinstance(worker.next(), Idle)
    worker.begin(2)  # of the last iteration nothing holds
    assert until_deliver(worker).visit.cell == 0
    worker.order([visit(1)])
    table.announce(2, 1)
    worker.delivered()
    assert until_deliver(worker).visit.cell == 2


def test_a_visit_is_left_when_its_cell_is_announced_and_the_forward_pass_counts_as_far_as_it_went():
    table = ClaimTable(1, 3)
    worker = announced(table, forward_cycles=12.0)  # 3 cycles a sample, 8 of derivatives a visit
    worker.begin(1, 0.5)
    assert until_deliver(worker).due_s == 0.5 * 20
    assert worker.look(4.5)
    table.announce(1, 0)
    assert not worker.look(4.5)  # nine cycles: three of four samples
    assert until_deliver(worker).due_s == 4.5 + 0.5 * (3 + 8)
    worker.delivered()
    assert until_deliver(worker).due_s == 10.0 + 0.5 * 8
    worker.abandon()
    assert worker.look(11.0)
    assert isinstance(worker.next(), Idle)


def test_a_forward_pass_that_was_left_is_made_when_it_is_needed():
    table = ClaimTable(1, 2)
    walk = [visit(0, 0, 2, 0, 100_000), visit(1, 2, 4, 0, 100_000)]
    worker = AnnounceWorker(walk, WorkerBoard(table, 0), forward=True)
    worker.begin(1)
    assert isinstance(worker.next(), Forward)
    worker.completed(0.0)
    table.announce(1, 0)
    assert not worker.look(0.0)
    first = worker.next()
    assert isinstance(first, Forward)
    assert first.ranges[0, 0] == 0


def claimants(count=2, cells=3):
    table = ClaimTable(count, cells)
    walks = [[visit((c + w) % cells) for c in range(cells)] for w in range(count)]
    made = [ClaimWorker(walk, WorkerBoard(table, w)) for w, walk in enumerate(walks)]
    for worker in made:
        worker.begin(1)
    return table, made


def test_cells_are_claimed_once_then_again_and_summed_once():
    _, (one, two) = claimants()
    assert until_deliver(one).visit.cell == 0
    assert until_deliver(two).visit.cell == 1
    assert two.committed()
    assert until_deliver(two).visit.cell == 2
    assert two.committed()
    assert until_deliver(two).visit.cell == 0  # claimed by the other, who is slow
    assert one.look(0.0)
    assert two.committed()
    assert two.sum_size == 3
    assert not one.look(0.0)
    assert one.next() == SendSum((), 0)
    answer = two.next()
    assert [v.cell for v in answer.visits] == [1, 2, 0]
    assert isinstance(one.next(), Idle)
    assert isinstance(two.next(), Idle)


def test_a_sum_that_the_host_has_sent_is_over():
    table, (one, two) = claimants(cells=2)
    assert until_deliver(one).visit.cell == 0
    assert one.committed()
    assert until_deliver(two).visit.cell == 1
    assert until_deliver(one).visit.cell == 1  # claimed by the other, who is slow
    assert two.committed()
    assert table.all_taken(1, one.cells)
    answer = one.answered(0.0)
    assert [v.cell for v in answer.visits] == [0]
    assert answer.generation == 0
    # Even if the cell of the visit under way is open again: whoever is to make it is told.
    table.withdraw(1)
    assert isinstance(one.next(), Idle)
    one.order([visit(1)])
    assert until_deliver(one).visit.cell == 1
    assert one.committed()
    assert [v.cell for v in one.next().visits] == [1]


def test_whoever_comes_second_drops_it():
    _, (one, two) = claimants(cells=1)
    assert until_deliver(one).visit.cell == until_deliver(two).visit.cell == 0
    assert two.committed()
    assert not one.committed()
    assert one.next().visits == ()


def test_what_was_withdrawn_is_done_again():
    table, (one, two) = claimants(cells=2)
    until_deliver(one)
    assert one.committed()
    table.withdraw(0)
    # The withdrawn worker finds out, and begins another sum, in which the cell may be once more.
    assert until_deliver(two).visit.cell == 1
    assert two.committed()
    assert until_deliver(one).visit.cell == 0
    assert one.sum_size == 1
    one.look(0.0)
    assert one.sum_size == 0
    assert one.committed()
    assert [v.cell for v in one.next().visits] == [0]
    assert [v.cell for v in two.next().visits] == [1]
    # The other one is withdrawn after it has sent: whoever is told looks again, with orders from elsewhere.
    table.withdraw(1)
    assert isinstance(one.next(), Idle)
    one.order([visit(1)])
    assert until_deliver(one).visit.cell == 1
    assert one.committed()
    answer = one.next()
    assert [v.cell for v in answer.visits] == [1]
    assert answer.generation == 1


def test_a_commitment_made_while_it_is_withdrawn_is_forgotten():
    table, (one, _) = claimants(cells=2)
    until_deliver(one)
    table.withdraw(0)
    assert one.committed()  # in the new generation, as it looks first
    assert one.sum_size == 1
    table.withdraw(0)
    assert until_deliver(one).visit.cell == 1
    one.look(0.0)
    assert one.sum_size == 0


def test_what_is_not_finite_is_left_to_others_and_made_again_if_ordered():
    _, (one, two) = claimants(cells=1)
    first = until_deliver(one).visit
    one.rejected(first)
    assert one.next() == SendSum((), 0)
    one.order([first])
    assert until_deliver(one).visit.cell == 0
    one.rejected(first)
    assert until_deliver(two).visit.cell == 0
    assert two.committed()
    one.order([first])
    assert one.next() == SendSum((), 0)  # every order is answered


def test_due_times_follow_from_what_was_visited():
    _, (one, two) = claimants(cells=2)
    one.begin(2, 1.0)
    two.begin(2, 3.0)
    assert until_deliver(one).due_s == 2.0
    assert until_deliver(two).due_s == 6.0
    assert one.committed()
    assert until_deliver(one).due_s == 4.0  # the cell that the other is at
    assert one.committed()
    assert not two.look(4.0)
    assert two.next() == SendSum((), 0)
    two.order([visit(0)], 9.0)
    assert two.next() == SendSum((), 0)


def test_a_worker_that_never_answers_sends_no_sum():
    _, (one, two) = claimants(cells=1)
    one.begin(2, math.inf)
    two.begin(2, 1.0)
    assert until_deliver(one).due_s == math.inf
    assert until_deliver(two).due_s == 2.0
    assert two.committed()
    assert not one.look(2.0)
    assert isinstance(one.next(), Idle)
