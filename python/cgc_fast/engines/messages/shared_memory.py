"""Memory of rank 0 that ranks on its host map, so that theta and payloads need not be sent there.

Rank 0 makes a piece and tells where it is; whoever finds it there, and in it what it was told to look for, is
on the same host. Everybody else is sent messages. Like any `Segment` it has no name, and leaves nothing
behind.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cgc_fast.memory import Segment

__all__ = ["Offer", "Place", "find"]

_TOKEN_BYTES = 64  # of chance, in front: another file at the same place has others


@dataclass(frozen=True)
class Place:
    """Where a piece is: a file descriptor of a process, if that is on this host."""

    process_id: int
    descriptor: int
    size: int
    token: bytes


class Offer:
    """A piece that this process makes.

    Parameters
    ----------
    count : int
        How many float64.
    to_be_found : bool
        Else it is this process's alone.

    Attributes
    ----------
    values : ndarray of float64 (count,)
        Zeros; they begin a cache line.
    place : Place or None
        What to tell those that are to find it.
    """

    def __init__(self, count: int, *, to_be_found: bool = True) -> None:
        self.place: Place | None = None
        self._segment: Segment | None = None
        size = _TOKEN_BYTES + 8 * count
        if to_be_found:
            token = secrets.token_bytes(_TOKEN_BYTES)
            self._segment = segment = Segment(size, label="ranks")
            segment.memory[:_TOKEN_BYTES] = token
            self.values: NDArray[np.float64] = segment.array(count, _TOKEN_BYTES)
            self.place = Place(os.getpid(), segment.descriptor, size, token)
        else:
            self.values = np.frombuffer(mmap.mmap(-1, size), count=count, offset=_TOKEN_BYTES)

    def close(self) -> None:
        """Nobody finds it any more; whoever has, keeps it."""
        if self._segment is not None:
            self._segment.close()


def find(place: Place) -> NDArray[np.float64] | None:
    """The values of a piece that another process offers; None if it is not to be found here."""
    with contextlib.suppress(OSError, ValueError):  # no such process or file, or not ours, or too small
        descriptor = os.open(f"/proc/{place.process_id}/fd/{place.descriptor}", os.O_RDWR | os.O_CLOEXEC)
        try:
            found = Segment(place.size, descriptor=descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        found.close()  # the mapping stays
        if found.memory[:_TOKEN_BYTES] == place.token:
            return found.array((place.size - _TOKEN_BYTES) // 8, _TOKEN_BYTES)
    return None
