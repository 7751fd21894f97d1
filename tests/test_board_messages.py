"""The board over messages: what a worker learns by asking is what the table says."""

from __future__ import annotations

import numpy as np
import pytest

from cgc_fast.engines.board_messages import MOST_CELLS, AskingBoard, Question, answer, make_table

CELLS = 2 * MOST_CELLS + 10


class Asked:
    """A table, the boards of two workers, and the questions that they ask."""

    def __init__(self):
        self.table = make_table(2, CELLS)
        self.kinds = []
        self.over = False
        self.boards = [AskingBoard(lambda question, w=w: self.ask(w, question)) for w in range(2)]

    def ask(self, worker, question):
        self.kinds.append(int(question[0]))
        return None if self.over else answer(self.table, worker, question)


@pytest.fixture
def asked():
    return Asked()


def test_a_commitment_claims_the_next_cell_in_the_same_breath(asked):
    board, other = asked.boards
    cells = np.arange(CELLS)
    assert board.claim_free(1, cells, 0) == 0
    assert other.claim_free(1, cells, 0) == 1
    assert board.commit(1, board.generation(), 0)
    assert asked.kinds == [Question.CLAIM, Question.CLAIM, Question.COMMIT]
    assert board.claim_free(1, cells, 1) == 2
    assert len(asked.kinds) == 3
    assert [asked.table.claimants(1, cell) for cell in range(4)] == [1, 1, 1, 0]
    # Claimed ahead for another list of cells, or another iteration, it is no use.
    assert board.commit(1, board.generation(), 2)
    assert board.claim_free(1, cells[::-1].copy(), 0) == 0
    assert board.claim_free(2, cells, 0) == 0


def test_cells_are_looked_through_in_pieces(asked):
    board, other = asked.boards
    cells = np.arange(CELLS)
    for cell in range(CELLS - 1):
        assert asked.table.claim_free(1, cells, cell) == cell
    assert board.claim_free(1, cells, 0) == CELLS - 1
    assert other.claim_free(1, cells, 0) == CELLS
    assert asked.kinds == [Question.CLAIM] * 6


def test_a_cell_is_committed_once_and_by_a_generation_that_holds(asked):
    board, other = asked.boards
    cells = np.arange(2)
    assert board.claim_free(1, cells, 0) == 0
    assert other.claim_free(1, cells, 0) == 1
    assert other.claim_again(1, cells[:1]) == 0
    assert other.claimants(1, 0) == 2
    assert board.commit(1, 0, 0)
    assert not other.commit(1, 0, 0)
    assert other.claim_again(1, cells[:1]) == -1
    asked.table.withdraw(0)
    assert not board.commit(1, 0, 1)
    assert board.generation() == 1
    assert board.commit(1, 1, 1)
    assert other.commit(1, 0, 0)  # what was withdrawn is anybody's


def test_what_is_known_of_the_cell_under_way_is_not_asked_at_every_look(asked):
    board, other = asked.boards
    cells = np.arange(3)
    board.claim_free(1, cells, 0)
    asked.kinds.clear()
    assert not board.is_taken(1, 0)
    assert asked.kinds == []
    assert other.claim_free(1, cells, 0) == 1
    assert other.commit(1, 0, 1)
    asked.kinds.clear()
    assert board.is_taken(1, 1)  # another cell is asked for at once
    assert board.is_taken(1, 1)  # and what is taken stays so
    assert asked.kinds == [Question.LOOK]


def test_nothing_is_free_once_the_iteration_is_over(asked):
    board = asked.boards[0]
    cells = np.arange(3)
    asked.over = True
    assert board.claim_free(1, cells, 0) == 3
    assert board.claim_again(1, cells) == -1
    assert board.is_taken(1, 0)
    assert not board.commit(1, 0, 0)
