"""`python -m cgc_fast` is the command line."""

from cgc_fast.cli import app

app(prog_name="cgc-fast")
