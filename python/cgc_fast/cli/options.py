"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["LAW_HELP", "CycleTime", "CyclesPerDerivative", "ForwardCycles", "Samples", "TraceFile", "Workers"]

LAW_HELP = (
    "Law of the cycle times, in seconds per cycle: 'expon(loc=50, scale=1000)' or another continuous law of "
    "scipy.stats; 'Mixture(0.9*expon(loc=1), 0.1*expon(loc=10))'; 'Never(expon(loc=50, scale=1000), 0.05)', "
    "which does not answer with probability 0.05; 'atoms({1: 0.75, 3: 0.25})'."
)
CycleTime = Annotated[str | None, typer.Option(help=LAW_HELP)]
Workers = Annotated[
    int | None, typer.Option(help="Number of workers N; by default the columns of the trace.")
]
TraceFile = Annotated[
    Path | None,
    typer.Option(help="CSV of measured cycle times instead: a row an iteration, a column a worker."),
]
Samples = Annotated[float, typer.Option(help="Number of samples M, a scale of time.")]
CyclesPerDerivative = Annotated[float, typer.Option(help="Cycles b per sample and partial derivative.")]
ForwardCycles = Annotated[float, typer.Option(help="Cycles c of the forward pass of a sample.")]
