"""The command line: `monitor COMMAND`.

Each command is a module of this package, imported only when it is called, so that `monitor --help` and `monitor check`
need not wait for the dataflow engine, the web framework and the database that other commands load. What is shown
without that is in `COMMANDS`. An error is one message on stderr and exit status 2, for every command, from one place.
"""

from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from monitor import __version__
from monitor.runtime.console import errors_reported

WATCH = "Watch and check"
PROVE = "Prove and explain"
TRY = "Try it out"


class Command(NamedTuple):
    """A command: the module and function that run it, its line in the list of commands, and its place there.

    The function's docstring is the rest of the command's help, below this line.
    """

    name: str
    summary: str
    panel: str


COMMANDS = (
    Command("check", "Check a configuration and show what it measures.", WATCH),
    Command("serve", "Serve the page and the HTTP API.", WATCH),
    Command("watch", "Judge all experiments at every final minute, and record what changes.", WATCH),
    Command("top", "Show verdicts, the job and the busiest experiments in the terminal.", WATCH),
    Command("state", "Show what a recovery store holds.", WATCH),
    Command("alert-test", "Send an example alert to every target, and show what each answers.", WATCH),
    Command("grafana", "Write a data source and dashboards for Grafana.", WATCH),
    Command("verify", "Prove the stored numbers by computing them again from the messages.", PROVE),
    Command("explain", "Explain a visit: its events, its assignments and what it counts for.", PROVE),
    Command("audit", "Print the changes of verdicts and their deliveries as JSON lines.", PROVE),
    Command("replay-verdict", "Compute a change of a verdict again, from its evidence and from the store.", PROVE),
    Command("rehearse", "Show what the checks would have said when, over history.", PROVE),
    Command("rejects", "Name what is wrong with rejected messages: fields, names, examples.", PROVE),
    Command("record", "Write a Kafka topic to a recorded log.", PROVE),
    Command("run", "Run everything on simulated traffic: store, job, page and watcher.", TRY),
    Command("incident", "Turn an incident on or off in a running `monitor run`.", TRY),
    Command("simulate", "Generate seeded traffic of a shop, and what it must add up to.", TRY),
    Command("replay", "Write a recorded log to a Kafka topic.", TRY),
    Command("store", "Run the embedded store, which speaks KairosDB's REST API.", TRY),
)
"""All commands, in the order of `monitor --help`."""


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and summary, and imports one when its arguments are to be parsed."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for command in COMMANDS:
            entry = TyperCommand(command.name, help=command.summary, rich_help_panel=command.panel)
            self.add_command(entry)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The called command, imported; typer calls this to run a command and to complete its options.

        An unknown name is refused by typer, which suggests the closest ones. Its context and command classes are
        private to typer, hence `Any`.
        """
        name, entry, rest = super().resolve_command(ctx, args)
        return name, entry and loaded(name or ""), rest

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was called."""
        with errors_reported():
            return super().invoke(ctx)


def loaded(name: str) -> TyperCommand:
    """The whole command: its module is imported, and its options and help are known."""
    command = next(command for command in COMMANDS if command.name == name)
    module = name.replace("-", "_")
    function = getattr(import_module(f"monitor.commands.{module}"), module)
    details = " ".join((function.__doc__ or "").split())
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name, help=f"{command.summary}\n\n{details}")(function)
    built = typer.main.get_command(single)
    assert isinstance(built, TyperCommand), "a typer with one command and no callback makes that command"
    return built


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"ab-monitor {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Real-time monitor of A/B experiments.",
)


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Takes the options that stand before a command."""
