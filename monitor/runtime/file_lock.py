"""A lock that one process at a time can hold, in a file beside the one that it protects."""

import fcntl
import os
from pathlib import Path

from monitor.runtime.errors import MonitorError


def locked_for_one_process(path: Path, what: str, error_class: type[MonitorError], mode: int) -> int:
    """The descriptor of the lock file `PATH.lock`, which holds the lock until it is closed; makes the folder.

    `what` names the thing in a message, such as `the store`; `mode`: the rights of a new lock file. Raises an error of
    this class where the file cannot be opened, or another process has the lock.
    """
    lock_path = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
    except OSError as error:
        message = f"cannot open {what} {path}: {error}"
        raise error_class(message) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        message = f"cannot open {what} {path}: another process has it open ({lock_path} is locked)"
        raise error_class(message) from error
    return descriptor
