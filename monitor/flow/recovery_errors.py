"""The engine's errors about its recovery store as messages of ours.

The store is checked before the engine opens it (`recovery_store`), so that they come only where the files change
between the two, or where the engine sees less of them than this process.
"""

from pathlib import Path

from bytewax.recovery import InconsistentPartitionsError, MissingPartitionsError, NoPartitionsError

REMEDY = "bring back a whole copy, or start with a new recovery directory that all processes share"


def explained(error: BaseException, directory: Path | None) -> str | None:
    """What an error of the engine means and what to do; None if it is no error about its recovery store."""
    match error:
        case NoPartitionsError():
            what = "holds no recovery store that the engine can see"
        case MissingPartitionsError():
            what = f"is incomplete ({error})"
        case InconsistentPartitionsError():
            what = f"has files of different moments ({error})"
        case _:
            return None
    return f"the recovery directory {directory} {what}: {REMEDY}"
