"""The messages between rank 0 and the worker ranks.

    rank 0                                   worker w, rank w + 1
    ------                                   --------------------
    NOTICE load, its samples         ---->   <---- WORD ready, or failed with a traceback
    THETA of an iteration            ---->   <---- payloads of rows; WORD alive, if there is nothing else
    ... and where the worker has found the memory of rank 0, theta and payloads lie there: rank 0 only says
    that an iteration begins, and the worker enters what it has delivered into a `Signal`
    NOTICE finish, orders            ---->
    NOTICE announce, cells           ---->   under announce
    BOARD, a reply                   ---->   <---- BOARD, a question, under claim; SUM instead of payloads
    NOTICE replan, a plan            ---->   <---- WORD replanned
    NOTICE stop                      ---->   <---- WORD bye, when all before it has arrived
    ... and the next cluster, of which nothing is taken before that
    NOTICE end                       ---->   all part

Nobody expects a message before it is there: whoever looks asks for any, learns its tag and length, and says
where it goes. Whoever has nothing to do looks again for a moment, and then sleeps longer and longer, up to a
millisecond, instead of keeping a core busy.
"""

from __future__ import annotations

import pickle
import struct
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgc_fast._core import HEADER_VALUES
from cgc_fast.engines.messages.shared_memory import Place
from cgc_fast.engines.remote_worker import Assignment
from cgc_fast.worker import Visit

__all__ = [
    "CACHE_LINE",
    "HEADER_VALUES",
    "PREFIX",
    "TEXT_BYTES",
    "WORD_VALUES",
    "Layout",
    "Notice",
    "RankAssignment",
    "Room",
    "Tag",
    "Task",
    "Word",
    "pack",
    "read_header",
    "read_prefix",
    "size_of",
    "unpack",
    "write_header",
    "write_prefix",
]

# Before each payload: iteration, whether it is finite, began and ended in seconds.
write_header = struct.Struct(f"={HEADER_VALUES}d").pack_into
read_header = struct.Struct(f"={HEADER_VALUES}d").unpack_from
CACHE_LINE = 8  # as many values
# Before each theta: iteration, with_value, which of the shared ones.
PREFIX = CACHE_LINE
read_prefix, write_prefix = struct.Struct("=3d").unpack_from, struct.Struct("=3d").pack_into
WORD_VALUES = 3  # kind, iteration, and one more; then the text of a traceback
TEXT_BYTES = 32_000


class Tag:
    """Of all messages; see `RankAssignment` for those of payloads."""

    THETA, NOTICE, WORD, BOARD, SUM, PAYLOAD = range(6)


class Notice:
    """Kinds of notices: (kind, iteration), and what there is to say about it.

    PACE: the cycle time to emulate in the iteration that follows. END: what `Transport.leave` is told.
    """

    LOAD, PACE, ORDER, FINISH, ANNOUNCE, REPLAN, STOP, END = range(8)


class Word:
    """Kinds of a worker's words: (kind, iteration, process id, exit code or slot)."""

    ALIVE, SHARES, READY, FAILED, NOT_FINITE, REPLANNED, BYE = range(7)


class Layout:
    """Where the payloads of a walk lie: in its order, each behind its header, so that any run is one piece.

    Attributes
    ----------
    slots : ndarray of int64 (V,)
        Of the visits.
    bounds : list of int
        Where each header begins, in values of 8 bytes, and the end (V + 1,).
    headers : ndarray of int64 (V,)
        The same, without the end.
    position : dict
        Slot -> which visit.
    """

    def __init__(self, walk: Sequence[Visit], slot_widths: NDArray[np.int64], payload: np.dtype[Any]) -> None:
        self.slots = np.array([visit.slot for visit in walk], dtype=np.int64)
        self._widths = slot_widths[self.slots].tolist()
        self._payload = payload
        self.bounds = [0, *accumulate(size_of(width, payload) for width in self._widths)]
        self.headers = np.array(self.bounds[:-1], dtype=np.int64)
        self.position = {slot: position for position, slot in enumerate(self.slots.tolist())}

    def run(self, slot: int, size: int) -> slice:
        """Which visits a run of so many values has that begins with this slot."""
        first = self.position[slot]
        return slice(first, bisect_left(self.bounds, self.bounds[first] + size, lo=first))

    def payload(self, memory: NDArray[np.float64], position: int) -> NDArray[Any]:
        """View of the payload of a visit."""
        first = self.bounds[position] + HEADER_VALUES
        values = memory[first : self.bounds[position + 1]]
        return values.view(self._payload)[: self._widths[position]]


def size_of(width: int, payload: np.dtype[Any]) -> int:
    """Size of a payload of so many values with its header, in 8 bytes."""
    return HEADER_VALUES - (-width * payload.itemsize // 8)


@dataclass(frozen=True)
class Room:
    """Memory of rank 0 for what is delivered by one plan, first a `Signal`, which a worker may write to.

    `first`: where its payloads begin, which lie as its `Layout` says, in values of 8 bytes.
    """

    workers: int
    capacity: int
    first: int
    place: Place | None


@dataclass(frozen=True)
class RankAssignment(Assignment):
    """What a rank does by one plan, whose rows have tags of their own from `first_tag` on, by slot.

    Every plan of a cluster has other tags, so that no late payload is taken for one of another plan: S of
    them for runs of the walk, by the first row, and S for payloads that are not of it, or once more.
    """

    first_tag: int
    room: Room


@dataclass(frozen=True)
class Task:
    """Everything a worker is told at its start.

    `iteration`: the one under way, whose walk is not its. `generation`: under claim, see `claims`.
    """

    coordinates: int
    assignment: RankAssignment
    problem: bytes  # for `load_problem`
    iteration: int
    generation: int
    thetas: Place | None  # where messages with theta lie


def pack(what: object) -> NDArray[np.int64]:
    """Pickle for a message: sizes count 8 bytes at a time, as MPI counts in 32 bits."""
    content = pickle.dumps(what, protocol=pickle.HIGHEST_PROTOCOL)
    return np.frombuffer(content + bytes(-len(content) % 8), dtype=np.int64)


def unpack(content: NDArray[np.int64]) -> Any:
    """What was packed."""
    return pickle.loads(content.tobytes())
