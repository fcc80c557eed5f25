"""The batch answer: the totals of a log of messages, computed independently of the job.

It is written from the specification and shares no code with the job except the reading of the configuration
(config/settings.py), so that an error in one is not an error in both. Python decodes the messages (decoding.py); the
rest is SQL in DuckDB (workspace.py, acceptance.py, queries.py), except for the few runs of events whose order of
arrival decides. `Batch` (pipeline.py) runs the steps:

    with workspace() as work:
        batch = Batch(work, settings)
        batch.read(recorded.read(path))
        batch.judge()
        batch.compute()
        batch.totals()
"""

from monitor.batch.pipeline import END_MS, Batch, Cell, VisitBehind, minute_of
from monitor.batch.workspace import Workspace, workspace

__all__ = ["END_MS", "Batch", "Cell", "VisitBehind", "Workspace", "minute_of", "workspace"]
