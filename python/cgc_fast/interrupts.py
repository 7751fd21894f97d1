"""Ctrl-C at a moment when half a step would leave something behind."""

from __future__ import annotations

import contextlib
import importlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["interrupts_blocked", "interrupts_postponed"]

# The functions of `signal` are these, and look for the handler among its enumerations first, which takes ten
# times as long as all the rest.
_core_of_signal: Any = importlib.import_module("_signal")


class interrupts_postponed:
    """Let Ctrl-C take effect after the block, not within it; the block may look whether something is there.

    A signal mask would not do: the system may hand the signal to another thread, of a linear algebra library
    say, and Python runs the handler in the main thread all the same. In other threads no handler ever runs.
    Written out, not with `contextlib`: it is entered in every iteration, and half of its time went there.
    """

    __slots__ = ("_came", "_handler")

    def __enter__(self) -> list[Any]:
        came: list[tuple[int, FrameType | None]] = []
        self._came = came
        self._handler = None
        handler = _core_of_signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(handler):
            self._handler = handler
            _core_of_signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
        return came

    def __exit__(self, *_: object) -> None:
        if self._handler is None:
            return
        _core_of_signal.signal(signal.SIGINT, self._handler)
        if self._came:
            self._handler(*self._came[-1])


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Let processes that are started within inherit a mask that holds Ctrl-C back until they lift it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
