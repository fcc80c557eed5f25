"""The batch answer: what a log of messages comes to, computed once more by other means than the job's.

Written from the specification, it shares no code with the job but the configuration as it is read (settings.py): so
that an error in one is not an error in both. Values are decoded here (rows.py); everything after that is SQL in DuckDB
(workspace.py, judging.py, queries.py), but for the few runs of events whose order of arrival decides.

    with workspace() as work:
        batch = Batch(work, settings)
        batch.read(recorded.read(path))
        batch.judge()
        batch.compute()
        batch.totals()
"""

from monitor.batch.answer import END_MS, Batch, Cell, VisitBehind, minute_of
from monitor.batch.workspace import Workspace, workspace

__all__ = ["END_MS", "Batch", "Cell", "VisitBehind", "Workspace", "minute_of", "workspace"]
