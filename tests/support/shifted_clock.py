"""A wall clock for processes of the job that can be set while they run: for engine and clients too."""

import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).parent / "clock_shift/clock_shift.c"
COMPILE_S = 60.0


class ShiftedClock:
    """A clock for the processes that are started with its `environment`; needs a C compiler and glibc 2.34 or newer."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock_shift"
        library = folder / "clock_shift.so"
        folder.mkdir(parents=True, exist_ok=True)
        self.set(0)
        if not library.exists():
            command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE)]
            subprocess.run(command, check=True, timeout=COMPILE_S)
        self.environment: Mapping[str, str] = {"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(self._file)}

    def set(self, shift_ms: int) -> None:
        """Makes the clock so many milliseconds fast; slow, if negative. In place: a file made anew is not seen."""
        mode = "r+b" if self._file.exists() else "w+b"
        with self._file.open(mode) as file:
            file.write(struct.pack("q", shift_ms * 1_000_000))


def unavailable() -> str | None:
    """Why clocks cannot be shifted on this machine; None if they can."""
    return None if shutil.which("cc") else "shifting the clock of a process needs a C compiler: cc not found"
