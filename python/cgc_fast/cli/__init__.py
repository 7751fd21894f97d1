"""The command line: one file a command."""

from __future__ import annotations

import typer

from cgc_fast.cli.compare_command import compare
from cgc_fast.cli.plan_command import plan
from cgc_fast.cli.reproduce_command import reproduce
from cgc_fast.cli.simulate_command import simulate
from cgc_fast.cli.train_command import train

__all__ = ["app"]

app = typer.Typer(
    name="cgc-fast",
    help="Block coordinate gradient coding: exact distributed gradients that do not wait for slow workers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(compare)
app.command()(plan)
app.command()(reproduce)
app.command()(simulate)
app.command()(train)
