"""Anonymous shared memory.

Who owns what: the master creates a `Segment` and keeps it until the cluster closes; a worker attaches to it
by the file descriptor that it inherited. Nothing ever has a name, so nothing can be left behind, not even
when every process is killed: the kernel frees the memory with the last descriptor and mapping.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Segment"]


def _anonymous_file(label: str, size: int) -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(f"cgc_fast-{label}", os.MFD_CLOEXEC)
    else:  # elsewhere a file that is unlinked as soon as it is open
        with tempfile.TemporaryFile(prefix=f"cgc_fast-{label}") as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


class Segment:
    """A stretch of zero-initialised memory that other processes can map by file descriptor.

    Parameters
    ----------
    size : int
        Bytes.
    descriptor : int, optional
        Attach to this inherited descriptor instead of making new memory. The segment owns it from then on.
    writable : bool
        A mapping that is not writable gives read-only arrays.
    label : str
        Shown by the operating system's tools; not a name that anybody could open.
    """

    def __init__(
        self, size: int, *, descriptor: int | None = None, writable: bool = True, label: str = "memory"
    ) -> None:
        self.size = max(size, 1)
        self.descriptor = _anonymous_file(label, self.size) if descriptor is None else descriptor
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self.memory = mmap.mmap(self.descriptor, self.size, access=access)

    def array(self, count: int, offset: int = 0, dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """View `count` values that start `offset` bytes into the segment; keeps the mapping alive."""
        return np.frombuffer(self.memory, dtype=dtype, count=count, offset=offset)

    def view(self, *, writable: bool) -> Segment:
        """Map the same memory once more, with other rights."""
        return Segment(self.size, descriptor=os.dup(self.descriptor), writable=writable)

    def close(self) -> None:
        """Give up the descriptor; the mapping goes when the last array over it goes."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
