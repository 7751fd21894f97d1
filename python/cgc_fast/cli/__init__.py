"""The command line: one file a command. A refusal is one line on standard error and exit code 2."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from cgc_fast.cli.compare_command import compare
from cgc_fast.cli.plan_command import plan
from cgc_fast.cli.reproduce_command import reproduce
from cgc_fast.cli.simulate_command import simulate
from cgc_fast.cli.timeline_command import timeline
from cgc_fast.cli.train_command import train
from cgc_fast.errors import CgcError

__all__ = ["app"]


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (CgcError, OSError, ImportError) as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=_Commands,
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
app.command()(timeline)
app.command()(train)
