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
    NOTICE end                       ---->   the communicator is released, if everybody is there and said bye

Nobody posts a receive before a message is there: whoever looks asks for any message, learns its tag and
length, and says where it goes. All calls return at once; whoever has nothing to do asks MPI for a moment
(Open MPI yields the processor where it was told that ranks are more than cores), and then sleeps longer and
longer, up to a millisecond, instead of keeping a core busy.
"""

from __future__ import annotations

import pickle
import struct
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, compress
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from cgc_fast._core import HEADER_VALUES
from cgc_fast.engines.mpi_memory import Place
from cgc_fast.engines.remote_worker import Assignment
from cgc_fast.worker import Visit

__all__ = [
    "HEADER_VALUES",
    "PREFIX",
    "TEXT_BYTES",
    "WORD_VALUES",
    "Backoff",
    "Layout",
    "Notice",
    "Pending",
    "RankAssignment",
    "Room",
    "Tag",
    "Task",
    "Word",
    "let_mpi_work",
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
# Before each theta, in as much room as a cache line has: iteration, with_value, which of the shared ones.
PREFIX = 8
read_prefix, write_prefix = struct.Struct("=3d").unpack_from, struct.Struct("=3d").pack_into
WORD_VALUES = 3  # kind, iteration, and one more; then the text of a traceback
TEXT_BYTES = 32_000

_SPIN_S = 1e-3
_SHORTEST_SLEEP_S, _LONGEST_SLEEP_S = 2e-5, 1e-3


class Tag:
    """Of all messages; see `RankAssignment` for those of payloads."""

    THETA, NOTICE, WORD, BOARD, SUM, PAYLOAD = range(6)


class Notice:
    """Kinds of notices: (kind, iteration), and what there is to say about it.

    PACE: the cycle time to emulate in the iteration that follows. END: whether all said bye, and how many
    ranks are gone.
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
    """Pickle for a message of at most 16 GiB: MPI counts in 32 bits, so let it count 8 bytes at a time."""
    content = pickle.dumps(what, protocol=pickle.HIGHEST_PROTOCOL)
    return np.frombuffer(content + bytes(-len(content) % 8), dtype=np.int64)


def unpack(content: NDArray[np.int64]) -> Any:
    """What was packed."""
    return pickle.loads(content.tobytes())


class Pending:
    """Messages that are on their way, each kept until it has been sent, or received."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm
        self._requests: list[MPI.Request] = []
        self._messages: list[NDArray[Any]] = []
        self._look_at = 16

    def send(self, message: NDArray[Any], rank: int, tag: int) -> None:
        """Begin to send; nothing if the rank is known to be gone, which the next look for messages tells."""
        try:
            request = self._comm.Isend(message, rank, tag)
        except MPI.Exception:
            return
        self.keep(request, message)

    def keep(self, request: MPI.Request, message: NDArray[Any]) -> None:
        """Keep a message until the request is done with it."""
        self._requests.append(request)
        self._messages.append(message)
        if len(self._requests) > self._look_at:
            self.is_empty()
            self._look_at = 2 * len(self._requests) + 16

    def take_over(self, other: Pending) -> None:
        """Keep what the other one has kept."""
        self._requests += other._requests
        self._messages += other._messages

    def is_empty(self) -> bool:
        """Whether nothing is on its way."""
        if not self._requests:
            return True
        if _are_done(self._requests):
            self._requests, self._messages = [], []
            return True
        left = [not _is_done(request) for request in self._requests]
        self._requests = list(compress(self._requests, left))
        self._messages = list(compress(self._messages, left))
        return not self._requests


def _are_done(requests: list[MPI.Request]) -> bool:
    try:
        return bool(MPI.Request.Testall(requests))
    except MPI.Exception:  # a rank is gone
        return False


def _is_done(request: MPI.Request) -> bool:
    """Whether a message has been sent, or received, or never will be."""
    try:
        return bool(request.Test())
    except MPI.Exception:  # its rank is gone
        return True


def let_mpi_work() -> None:
    """Have MPI look what has come: asked for a message it answers from what it knows, and only then looks."""
    MPI.COMM_SELF.Iprobe()


class Backoff:
    """Wait between two looks: for a moment not at all, then sleep longer and longer."""

    def __init__(self, longest_s: float = _LONGEST_SLEEP_S) -> None:
        self._longest_s = longest_s
        self.reset()

    def reset(self) -> None:
        """Something came: what follows may come soon."""
        self._since_s = time.monotonic()
        self._sleep_s = _SHORTEST_SLEEP_S

    def pause(self, at_most_s: float = _LONGEST_SLEEP_S) -> None:
        """Let others run, unless the last time that something came is a moment ago."""
        if time.monotonic() - self._since_s < _SPIN_S:
            return
        time.sleep(max(0.0, min(self._sleep_s, at_most_s)))
        self._sleep_s = min(2 * self._sleep_s, self._longest_s)
        let_mpi_work()
