"""Ranks that are processes joined by sockets: what is sent over MPI, without MPI.

It is what another transport takes. Tests use it to lose ranks where MPI would end the job. (Handlers of
signals other than Ctrl-C must not come in the midst of its calls.)
Run as a script this file is a rank: ``python ranks_over_sockets.py DESCRIPTOR RANK SIZE``.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field

import jobs
from cgc_fast import engines
from cgc_fast.engines.messages.feedback import make_message_engine
from cgc_fast.engines.messages.session import Session
from cgc_fast.engines.messages.transport import Message, RanksGone, Transport
from cgc_fast.engines.messages.worker import serve

HEADER = struct.Struct("=2q")  # tag, and bytes that follow


class Piece:
    """Bytes that are to be sent or received; also the request that does it."""

    def __init__(self, link, content):
        self.link, self.is_lost = link, False
        self.left = memoryview(content).cast("B") if len(content) else memoryview(b"")

    def go_on(self, how):
        while self.left:
            count = how(self.left)
            if count == 0:
                raise ConnectionResetError
            self.left = self.left[count:]


@dataclass
class Link:
    """The way to another rank and back."""

    rank: int
    socket: socket.socket
    outgoing: deque[Piece] = field(default_factory=deque)
    is_cut: bool = False

    def __post_init__(self):
        self.socket.setblocking(False)
        self.expect_header()

    def expect_header(self):
        self.header = bytearray(HEADER.size)
        self.incoming = Piece(self, self.header)

    def receive(self, buffer):
        self.incoming = Piece(self, buffer)
        return self.incoming

    def work(self):
        """Read and write what can be at this moment."""
        try:
            if self.incoming is not None:
                self.incoming.go_on(self.socket.recv_into)
        except BlockingIOError:
            pass
        except OSError:
            self.is_cut = self.incoming.is_lost = True
        self._write()

    def _write(self):
        try:
            while self.outgoing:
                self.outgoing[0].go_on(self.socket.send)
                self.outgoing.popleft()
        except BlockingIOError:
            pass
        except OSError:  # that it is cut whoever reads will see, after what the rank had sent
            for piece in self.outgoing:
                piece.is_lost = True
            self.outgoing.clear()

    def close(self):
        """Have what was sent go out, if the other one still reads."""
        self.socket.settimeout(1.0)
        self._write()
        self.socket.close()
        self.is_cut = True
        self.work()  # nothing comes or goes any more

    def find(self):
        """The message whose header has come; the next is behind what it says."""
        if self.incoming is None:
            return None
        if self.header is None and not self.incoming.left:
            self.expect_header()
        self.work()
        if self.header is None or self.incoming.left:
            return None
        tag, size = HEADER.unpack(self.header)
        self.header = self.incoming = None
        return Message(self.rank, tag, size // 8, self)


class SocketTransport(Transport):
    """Messages over a stream socket to each rank."""

    most_tag = 2**31 - 1

    def __init__(self, rank, size, sockets):
        self.rank, self.size, self.gone = rank, size, set()
        self.links = {other: Link(other, end) for other, end in sockets.items()}
        self._turn = deque(self.links.values())
        self.has_left = False

    def send(self, message, rank, tag):
        link = self.links[rank]
        content = Piece(link, message)
        link.outgoing += [Piece(link, HEADER.pack(tag, message.nbytes)), content]
        link.work()
        return None if content.is_lost else content

    def find(self):
        for _ in range(len(self._turn)):
            self._turn.rotate(-1)
            link = self._turn[0]
            message = link.find()
            if message is not None:
                return message
            if link.is_cut and link.rank not in self.gone:
                self.gone.add(link.rank)
                raise RanksGone({link.rank})
        return None

    def receive(self, message, buffer):
        request = message.found.receive(buffer)
        message.found.work()
        return request

    def is_done(self, request):
        if request.left:
            request.link.work()
        if request.left and request.is_lost:
            raise RanksGone
        return not request.left

    def work(self):
        for link in self.links.values():
            link.work()

    def leave(self, *, all_left, any_gone, exit_code=0):
        for link in self.links.values():
            link.close()
        self.has_left = True


@contextlib.contextmanager
def ranks(workers):
    """Start worker ranks, for clusters with ``engine="sockets"``; their session and their processes.

    In the end they are dismissed, unless they have been, and every one that was not killed has to have ended
    by itself.
    """
    sockets, processes = {}, []
    for rank in range(1, workers + 1):
        sockets[rank], there = socket.socketpair()
        command = [sys.executable, __file__, *map(str, (there.fileno(), rank, workers + 1))]
        processes.append(subprocess.Popen(command, pass_fds=[there.fileno()], env=jobs.environment()))
        there.close()
    session = Session(SocketTransport(0, workers + 1, sockets))
    engines.register("sockets", lambda job, **options: make_message_engine(job, session, **options))
    try:
        yield session, processes
    finally:
        engines.unregister("sockets")
        if not session.transport.has_left:
            session.dismiss(0)
        exit_codes = [end(process) for process in processes]
    assert set(exit_codes) <= {0, -signal.SIGKILL}


def end(process):
    """Wait for a process to end by itself; its exit code, or that it did not."""
    try:
        return process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return "did not end"


if __name__ == "__main__":
    descriptor, own_rank, all_ranks = map(int, sys.argv[1:])
    with contextlib.suppress(RanksGone):  # of rank 0
        serve(SocketTransport(own_rank, all_ranks, {0: socket.socket(fileno=descriptor)}))
