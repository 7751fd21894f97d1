"""Engines: how workers are run. They know no mathematics and no schedule beyond the visits they are given."""

from __future__ import annotations

from cgc_fast.engines.base import CellOutline, Collecting, Delivered, Engine, Event, Job, Lost, Ready

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
    "make_engine",
]

ENGINES = ("processes", "serial")


def make_engine(name: str, job: Job) -> Engine:
    """Start the engine of this name; one of `ENGINES`."""
    if name == "serial":
        from cgc_fast.engines.serial import SerialEngine

        return SerialEngine(job)
    from cgc_fast.engines.processes import ProcessEngine

    return ProcessEngine(job)
