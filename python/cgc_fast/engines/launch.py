"""Starting one worker process, and what the master holds of it."""

from __future__ import annotations

import contextlib
import multiprocessing.spawn
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cgc_fast._core import build_info
from cgc_fast.engines.base import Job
from cgc_fast.engines.worker_process import WorkerConfiguration
from cgc_fast.errors import ArgumentValueError
from cgc_fast.interrupts import interrupts_blocked
from cgc_fast.memory import Segment

__all__ = ["WorkerHandle", "launch", "pickled_for_worker", "wake_descriptors"]

_BOOTSTRAP = (
    "import os, pickle, sys; file = os.fdopen(int(sys.argv[1]), 'rb'); sys.path[:] = pickle.load(file); "
    "from cgc_fast.engines.worker_process import main; main(file)"
)
# One thread a worker: N workers with a thread pool each would fight over the same cores.
_ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    ),
    "1",
)
_SEND_BUFFER = 1 << 22  # orders that a worker has not read yet


def wake_descriptors() -> tuple[int, int]:
    """Read end and write end of a wake-up descriptor: the same eventfd twice, or a pipe."""
    if hasattr(os, "eventfd"):
        descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return descriptor, os.dup(descriptor)
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write


def pickled_for_worker(job: Job, worker: int) -> bytes:
    """Pickle the shard, or the factory call, of one worker; refuse what it could not unpickle."""
    ranges = job.sample_ranges[worker]
    source: object = job.factory if job.factory is not None else job.problem
    home = getattr(source, "__module__", None) if job.factory is not None else type(source).__module__
    what = "factory" if job.factory is not None else f"problem of type {type(source).__name__}"
    if home == "__main__":
        raise ArgumentValueError(
            f"{what}: expected something that a worker process can import, got a definition in __main__ "
            "(the script itself, or a notebook). Move it into a module of its own, say my_problem.py, and "
            "import it from there; or use engine='serial'."
        )
    content = (job.factory, ranges) if job.factory is not None else job.problem.shard(ranges)
    fused = build_info()["fuses_multiply_add"]
    try:
        return pickle.dumps((fused, content), protocol=pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ArgumentValueError(
            f"{what}: expected something that can be pickled and sent to a worker process, got: {error}. "
            "Define it at the top level of an importable module, or pass factory=."
        ) from error


@dataclass
class WorkerHandle:
    """A worker process as its master holds it; all descriptors are the handle's.

    Attributes
    ----------
    process : Popen
    socket : socket
        Orders go down, a traceback may come up, and its end tells each side that the other is gone.
    wake_descriptor : int
        Written to wake the worker.
    sentinel : int
        Readable when the process is gone.
    """

    process: subprocess.Popen[bytes]
    socket: socket.socket
    wake_descriptor: int
    sentinel: int

    def send(self, message: bytes) -> bool:
        """Send without ever blocking; False if the worker has not read for too long."""
        try:
            return self.socket.send(message) == len(message)
        except BlockingIOError:
            return False
        except OSError:  # it is gone, which its sentinel says better
            return True

    def send_with(self, message: bytes, descriptors: Sequence[int]) -> bool:
        """The same, with descriptors, of which the worker gets its own."""
        try:
            return socket.send_fds(self.socket, [message], list(descriptors)) == len(message)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def bury(self) -> tuple[int | None, str]:
        """Reap a process that is gone; its exit code and its last words."""
        exit_code = self.process.wait()
        pieces = []
        with contextlib.suppress(OSError):
            while piece := self.socket.recv(65536):
                pieces.append(piece)
        self._close()
        return exit_code, b"".join(pieces).decode(errors="replace")

    def leave(self, within_s: float) -> None:
        """Wait for a process that was asked to leave, then kill it."""
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._close()

    def disown(self) -> None:
        """Forget a process that another one, of which this is a fork, is responsible for."""
        self.process.returncode = 0  # or its destructor would complain
        self._close()

    def _close(self) -> None:
        self.socket.close()
        for descriptor in {self.wake_descriptor, self.sentinel}:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def launch(configuration: WorkerConfiguration) -> WorkerHandle:
    """Start a worker; it says through the signal that it is ready."""
    wake_read, wake_write = wake_descriptors()
    ours, theirs = socket.socketpair()
    file: Segment | None = None
    try:
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        configuration = replace(configuration, wake_descriptor=wake_read, socket_descriptor=theirs.fileno())
        content = pickle.dumps(sys.path) + pickle.dumps(configuration)
        file = Segment(len(content), label="configuration")
        file.memory.write(content)
        with interrupts_blocked():  # until the worker can ignore them
            process = subprocess.Popen(
                [multiprocessing.spawn.get_executable(), "-c", _BOOTSTRAP, str(file.descriptor)],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **_ONE_THREAD},
                pass_fds=(file.descriptor, *configuration.descriptors),
            )
    except BaseException:
        ours.close()
        os.close(wake_write)
        raise
    finally:
        theirs.close()
        os.close(wake_read)
        if file is not None:
            file.close()
    if hasattr(os, "pidfd_open"):
        sentinel = os.pidfd_open(process.pid)
    else:
        sentinel = os.dup(ours.fileno())  # its other end closes with the process
    return WorkerHandle(process, ours, wake_write, sentinel)
