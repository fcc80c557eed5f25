"""`python -m monitor`: the command line."""

from monitor.commands.main import app

app(prog_name="monitor")
