"""`monitor replay-verdict`: a change of a verdict, computed again from its evidence bundle and from the store.

Exit status 0: the same. 1: the store has other counts now. 2: the same counts give another verdict, which is a bug; or
it could not be computed, and then the message says so.
"""

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from monitor.commands.options import EXAMPLE, ConfigFile, KairosDbUrl
from monitor.config.reader import config_hash, load
from monitor.runtime.console import OUT, print_line, printable
from monitor.serve.service import open_service
from monitor.watch.audit import Audit
from monitor.watch.bundles import Bundle, BundleError, read_bundle
from monitor.watch.replaying import DIFFERENCES_MAX, Difference, Outcome, Replay, replayed

STATUS = {Outcome.SAME: 0, Outcome.OTHER_COUNTS: 1, Outcome.BUG: 2}


def replay_verdict(
    bundle: Annotated[
        str, typer.Argument(help="A file with an evidence bundle, - for standard input, or with --audit a change's id.")
    ],
    audit: Annotated[Path | None, typer.Option(help="Take the change with this id from this audit trail.")] = None,
    config: ConfigFile = EXAMPLE,
    url: KairosDbUrl = None,
    dc: Annotated[str | None, typer.Option(help="Read the counts of this data center only.")] = None,
    own: Annotated[bool, typer.Option("--own", help="Use the bundle's own counts only, and read no store.")] = False,
) -> None:
    """It computes the verdict from the bundle's own counts, then compares these with the store's. The exit status is 0
    if all is the same, 1 if the store has other counts now, 2 if the same counts give another verdict, which is a bug,
    or if it could not be computed.
    """
    found = read_bundle(_text(bundle, audit))
    if own:
        replay = replayed(found, None)
    else:
        settings = load(config)
        with open_service(settings, url or settings.kairosdb.url) as service:
            if config_hash(settings) != found.config_hash:
                print_line(f"note: the configuration is another one than then ({found.config_hash})")
            replay = replayed(found, service, dc)
    if found.differing:
        print_line(f"note: another version recorded it, which differs in {', '.join(found.differing)}")
    _print(found, replay)
    raise typer.Exit(STATUS[replay.outcome])


def _text(bundle: str, audit: Path | None) -> str:
    if audit is not None:
        with closing(Audit(audit, must_exist=True)) as trail:
            change = trail.change(bundle)
        if change is None:
            message = f"the audit trail {audit} has no change with the id {printable(bundle)}"
            raise BundleError(message)
        return change.bundle
    try:
        return sys.stdin.read() if bundle == "-" else Path(bundle).read_text()
    except UnicodeDecodeError as error:
        message = f"{bundle} is no evidence bundle: it is not UTF-8"
        raise BundleError(message) from error


def _print(bundle: Bundle, replay: Replay) -> None:
    check, phase = bundle.check, bundle.phase
    print_line(f"{bundle.tenant} {bundle.experiment}, {check.check}, final until {phase.sealed_until:%Y-%m-%dT%H:%MZ}")
    print_line(f"recorded: {check.state}, ln E {check.ln_e:.6g}; computed: {replay.state}, ln E {replay.ln_e:.6g}")
    if replay.now_state is not None:
        print_line(f"by the store's counts: {replay.now_state}, ln E {replay.now_ln_e:.6g}")
    if replay.differences:
        OUT.print(_table(replay.differences, bundle.question.variations), markup=False, highlight=False)
    by_own = f" by its own counts; the store: {replay.unread}" if replay.unread else ""
    print_line(f"{replay.outcome}{by_own}")


def _table(differences: tuple[Difference, ...], variations: tuple[str, ...]) -> Table:
    title = f"Counts that differ (at most {DIFFERENCES_MAX}; of {', '.join(variations)})"
    table = Table(title=title, title_justify="left")
    for column in ("counts", "slice", "before"):
        table.add_column(column, overflow="fold")
    for column in ("bundle", "store"):
        table.add_column(column, justify="right")
    for row in _rows(differences):
        table.add_row(*row)
    return table


def _rows(differences: tuple[Difference, ...]) -> Iterator[tuple[str, ...]]:
    for of in differences:
        counts = (" ".join(f"{count:,g}" for count in counts) for counts in (of.bundle, of.store))
        yield of.what, printable(of.place) or "all", of.before or "the end", *counts
