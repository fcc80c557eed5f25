"""The core against the oracle: any configuration, any log, any batching, with restarts in between."""

import itertools
import tomllib

from hypothesis import given
from hypothesis import strategies as st

from tests.support import oracle
from tests.support.driver import Core
from tests.support.strategies import configs, logs, to_toml


@st.composite
def batched(draw: st.DrawFn, log: list[oracle.Message]) -> list[list[oracle.Message]]:
    """The log cut into batches."""
    cuts = sorted(draw(st.sets(st.integers(0, len(log)), max_size=8)) | {0, len(log)})
    return [log[a:b] for a, b in itertools.pairwise(cuts)]


@given(st.data())
def test_core_equals_oracle(data: st.DataObject) -> None:
    """Totals, accepted, rejected and noted are the oracle's, however the log is cut and wherever the job restarts."""
    config = tomllib.loads(to_toml(data.draw(configs())))
    log = data.draw(logs(config))
    wanted = oracle.answer(config, log)
    core = Core(config, sorted({str(m.partition) for m in log}))
    for batch in data.draw(batched(log)):
        core.feed(batch)
        if data.draw(st.booleans()):
            core.restart()
    assert core.answer() == wanted.totals
    assert +core.accepted == +wanted.accepted
    assert {(t, str(r)): n for (t, r), n in (+core.rejected).items()} == dict(wanted.rejected)
    assert {(t, str(r)): n for (t, r), n in (+core.warnings).items()} == dict(wanted.warnings)
