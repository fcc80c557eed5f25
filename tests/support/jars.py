"""The jars of the real servers that the tests start, and what a machine needs to have for them.

Maven fetches them once per machine, into `ab-monitor/` of the user's cache folder, from the poms in `server_files/`.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KAFKA = "kafka-4.3.1"
KAIROSDB = "kairosdb-1.3.0-1"

JAVA_MAJOR_MIN = 17
FETCH_TIMEOUT_S = 900
VERSION_TIMEOUT_S = 30
TAIL_LINES = 40

FILES = Path(__file__).parent / "server_files"


class ServerError(RuntimeError):
    """A server that could not be fetched, or did not become ready; the message ends with what it said."""


def fetch(name: str) -> Path:
    """The folder with the jars of KAFKA or KAIROSDB, fetched by Maven unless it is there.

    It appears whole or not at all; of two processes one fetches, the other waits. Raises ServerError if Maven fails.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ab-monitor"
    folder = cache / name
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / "fetch.lock"):
            if not folder.exists():
                _fetch_into(folder)
    return folder


def _fetch_into(folder: Path) -> None:
    pom = FILES / folder.name.split("-")[0] / "pom.xml"
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():  # an earlier fetch was interrupted
        shutil.rmtree(partial)
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    run_tool(["mvn", "-q", "-B", "-f", str(pom), *goal], FETCH_TIMEOUT_S, f"Maven could not fetch {folder.name}")
    for path in partial.glob("*.tar.gz"):
        with tarfile.open(path) as archive:
            archive.extractall(partial, filter="data")
        path.unlink()
    partial.rename(folder)


def unavailable() -> str | None:
    """Why the servers cannot be fetched or started on this machine; None if they can."""
    needs = f"needs Java {JAVA_MAJOR_MIN} and Maven"
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            return f"{needs}: {tool} not found"
    version = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S).stderr
    found = re.search(r'version "(\d+)', version)
    if found is None or int(found[1]) < JAVA_MAJOR_MIN:
        return f"{needs}: java says {version.strip()!r}"
    return None


def run_tool(command: list[str], timeout_s: float, complaint: str, cwd: Path | None = None) -> None:
    """Runs a command to its end; what it printed is shown, after the complaint, in the ServerError if it fails."""
    try:
        subprocess.run(
            command, cwd=cwd, check=True, timeout=timeout_s, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        tail = "\n".join((error.stdout or b"").decode(errors="replace").splitlines()[-TAIL_LINES:])
        msg = f"{complaint}: {error}; it said:\n{tail}"
        raise ServerError(msg) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the file's lock. The wait is bounded by FETCH_TIMEOUT_S per server: a holder that dies frees it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
