"""Engines: how workers are run. They know no mathematics and no schedule beyond the visits they are given."""

from __future__ import annotations

from cgc_fast.engines.base import Delivered, Engine, Event, Job, Lost, Ready, Summed, Visited

__all__ = [
    "ENGINES",
    "Delivered",
    "Engine",
    "Event",
    "Job",
    "Lost",
    "Ready",
    "Summed",
    "Visited",
    "make_engine",
]

ENGINES = ("processes", "serial")


def make_engine(name: str, job: Job) -> Engine:
    """Start the engine of this name; one of `ENGINES`."""
    if name == "serial":
        if job.feedback != "none":
            from cgc_fast.engines.serial_feedback import SerialFeedbackEngine

            return SerialFeedbackEngine(job)
        from cgc_fast.engines.serial import SerialEngine

        return SerialEngine(job)
    if job.feedback != "none":
        from cgc_fast.engines.process_feedback import ProcessFeedbackEngine

        return ProcessFeedbackEngine(job)
    from cgc_fast.engines.processes import ProcessEngine

    return ProcessEngine(job)
