"""Engines: how workers are run. They know no mathematics and no schedule beyond the visits they are given."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from cgc_fast.engines.base import (
    CellOutline,
    Collecting,
    Delivered,
    Engine,
    Event,
    Job,
    Lost,
    Ready,
    Replanning,
    Summed,
    Visited,
)
from cgc_fast.errors import ArgumentValueError

__all__ = [
    "ENGINES",
    "CellOutline",
    "Collecting",
    "Delivered",
    "Engine",
    "Event",
    "Job",
    "Lost",
    "Ready",
    "Replanning",
    "Summed",
    "Visited",
    "engine_names",
    "lead",
    "make_engine",
    "register",
    "unregister",
]


class _Home(NamedTuple):
    """Where an engine is made, "module.name", also for schedules with feedback; what it needs and takes."""

    plain: str
    feedback: str
    packages: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


_HOMES = {
    "processes": _Home("processes.ProcessEngine", "process_feedback.ProcessFeedbackEngine"),
    "serial": _Home("serial.SerialEngine", "serial_feedback.SerialFeedbackEngine"),
    "mpi": _Home("mpi.make_mpi_engine", "mpi.make_mpi_engine", ("mpi4py",), ("share_memory",)),
    "ray": _Home(
        "ray.RayEngine",
        "ray_feedback.RayFeedbackEngine",
        ("ray",),
        ("num_cpus", "num_gpus", "resources", "runtime_env"),
    ),
}
ENGINES = tuple(_HOMES)
_registered: dict[str, Callable[..., Engine]] = {}


def register(name: str, make: Callable[..., Engine]) -> None:
    """Add an engine of your own, for ``Cluster(..., engine=name)``; see docs/engines.md.

    Parameters
    ----------
    name : str
        None of `engine_names()`.
    make : callable
        ``make(job, **engine_options)`` starts it for a `Job` and returns the `Engine`.
    """
    if name in engine_names():
        raise ArgumentValueError(f"name: expected one that no engine has, got {name!r}")
    _registered[name] = make


def unregister(name: str) -> None:
    """Take an engine of your own away again; clusters that it runs go on."""
    if _registered.pop(name, None) is None:
        raise ArgumentValueError(f"name: expected one that was registered, got {name!r}")


def engine_names() -> tuple[str, ...]:
    """Names of all engines, registered ones included."""
    return (*ENGINES, *_registered)


def make_engine(name: str, job: Job, options: Mapping[str, Any] | None = None) -> Engine:
    """Start the engine of this name; one of `engine_names()`.

    Raises
    ------
    ImportError
        What it needs is not installed; the message says how to get it.
    ArgumentValueError
        An option that this engine does not have; what is registered says so itself.
    """
    if name in _registered:
        return _registered[name](job, **(options or {}))
    home = _HOMES[name]
    for option in options or {}:
        if option not in home.options:
            known = f"one of {', '.join(home.options)}" if home.options else "none"
            raise ArgumentValueError(f"engine_options: expected {known} for engine {name!r}; got {option!r}")
    where = home.plain if job.feedback == "none" else home.feedback
    module, make = where.split(".")
    engine: Engine = getattr(_module(name, module), make)(job, **(options or {}))
    return engine


def lead(name: str, main: Callable[[], None]) -> None:
    """Run `main` with the runtime of an engine at work; under MPI on rank 0, while the other ranks serve."""
    if name in ("mpi", "ray"):
        _module(name, name).run(main)
    else:
        main()


def _module(name: str, module: str) -> ModuleType:
    for package in _HOMES[name].packages:
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"engine {name!r} needs {package}: pip install 'cgc_fast[{name}]'")
    return importlib.import_module(f"cgc_fast.engines.{module}")
