"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["CyclesPerDerivative", "ForwardCycles", "Samples", "TraceFile", "Workers"]

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
