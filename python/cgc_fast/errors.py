"""What can go wrong, and whose fault it is.

A caller's mistake is also a `ValueError` or a `TypeError`. A straggler is a normal event and never an
exception; only what cannot be made good is raised.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "ArgumentTypeError",
    "ArgumentValueError",
    "CgcError",
    "ClusterBusy",
    "ClusterClosed",
    "DecodeError",
    "NonFiniteGradient",
    "NotCertified",
    "NumericalError",
    "PoorFitWarning",
    "WorkerDied",
    "unknown_name",
]


class CgcError(Exception):
    """Base of every error that the package raises on purpose."""


class ArgumentValueError(CgcError, ValueError):
    """An argument has an impossible value; the message says what was expected and what came."""


class ArgumentTypeError(CgcError, TypeError):
    """An argument has the wrong type; the message says what was expected and what came."""


class DecodeError(CgcError):
    """The rows at hand do not determine the gradient."""


class NumericalError(CgcError):
    """The rows at hand determine the gradient, but not to the promised accuracy."""


class NonFiniteGradient(CgcError):
    """A gradient cannot be completed because payloads that it needs hold NaN or infinity."""


class PoorFitWarning(UserWarning):
    """No family of laws describes the measured times; plan with the trace itself."""


class WorkerDied(CgcError):
    """A worker is gone and the rest cannot decode without it.

    Attributes
    ----------
    worker : int
        Index of the worker, which is also its row in every cyclic code.
    exit_code : int or None
        As reported by the operating system; negative is the number of the signal that killed it.
    worker_traceback : str
        The traceback that the worker sent before it ended; empty if it could not.
    """

    def __init__(self, message: str, worker: int, exit_code: int | None, worker_traceback: str = "") -> None:
        super().__init__(message)
        self.worker = worker
        self.exit_code = exit_code
        self.worker_traceback = worker_traceback


class ClusterBusy(CgcError):
    """An iteration is under way; a cluster runs one at a time."""


class ClusterClosed(CgcError):
    """The cluster was closed and can run nothing any more."""


class NotCertified(UserWarning):
    """A planner method did not reach the gap that it promises; the message has the gap that it reached."""


def unknown_name(what: str, got: object, known: Iterable[str]) -> ArgumentValueError:
    """Make the error for a name that is not among the known ones."""
    return ArgumentValueError(f"{what}: expected one of {', '.join(sorted(known))}; got {got!r}")
