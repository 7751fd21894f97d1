"""Engines: how workers are run. They know no mathematics and no schedule beyond the visits they are given."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from cgc_fast.engines.base import Delivered, Engine, Event, Job, Lost, Ready
from cgc_fast.errors import ArgumentValueError

__all__ = ["ENGINES", "Delivered", "Engine", "Event", "Job", "Lost", "Ready", "lead", "make_engine"]

# Where each is found, what has to be installed for it, and its options.
_HOMES = {
    "processes": ("cgc_fast.engines.processes", "ProcessEngine", (), ()),
    "serial": ("cgc_fast.engines.serial", "SerialEngine", (), ()),
    "mpi": ("cgc_fast.engines.mpi", "MpiEngine", ("mpi4py",), ()),
}
ENGINES = tuple(_HOMES)


def make_engine(name: str, job: Job, options: Mapping[str, Any] | None = None) -> Engine:
    """Start the engine of this name; one of `ENGINES`.

    Raises
    ------
    ImportError
        What it needs is not installed; the message says how to get it.
    ArgumentValueError
        An option that this engine does not have.
    """
    _, class_name, _, known = _HOMES[name]
    for option in options or {}:
        if option not in known:
            raise ArgumentValueError(
                f"engine_options: expected {'one of ' + ', '.join(known) if known else 'none'} for engine "
                f"{name!r}; got {option!r}"
            )
    engine: Engine = getattr(_module_of(name), class_name)(job, **(options or {}))
    return engine


def lead(name: str, main: Callable[[], None]) -> None:
    """Run `main` where the master of this engine is: here, or on rank 0 of MPI, with the others at work."""
    if name == "mpi":
        _module_of(name).run(main)
    else:
        main()


def _module_of(name: str) -> ModuleType:
    module, _, needed, _ = _HOMES[name]
    for package in needed:
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"engine {name!r} needs {package}: pip install 'cgc_fast[{name}]'")
    return importlib.import_module(module)
