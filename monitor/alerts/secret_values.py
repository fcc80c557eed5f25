"""Secrets: read at start from environment variables and files, and kept out of every text."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from monitor.runtime.errors import MonitorError

CHARACTERS_SHOWN_MAX = 200
"""How much of an answer or an error is kept; the rest is cut off."""
_HIDDEN = "***"


class SecretError(MonitorError):
    """A secret cannot be read; the message names the setting and the place that it names, and nothing of the secret."""


def read_secret(place: str, variable: str | None, file: str | None, environment: Mapping[str, str]) -> str | None:
    """The secret of a setting `place` that has the endings `_env` and `_file`; None if neither is set.

    White space around it is left out: editors end a file with a new line. Raises SecretError.
    """
    if variable is not None:
        place, source, text = f"{place}_env", f"the environment variable {variable}", environment.get(variable, "")
    elif file is not None:
        place, source, text = f"{place}_file", f"the file {file}", _content(f"{place}_file", file)
    else:
        return None
    if not text.strip():
        message = f"{place}: {source} must hold the secret; it is empty or not there"
        raise SecretError(message)
    return text.strip()


def shown(text: str, secrets: Iterable[str]) -> str:
    """A text of others as it may be kept and logged: on one line, without secrets, shortened."""
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    line = " ".join(text.split())
    return line if len(line) <= CHARACTERS_SHOWN_MAX else f"{line[: CHARACTERS_SHOWN_MAX - 3]}..."


def _content(place: str, file: str) -> str:
    try:
        return Path(file).read_text()
    except OSError as error:
        message = f"{place}: the file {file} cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        message = f"{place}: the file {file} must be UTF-8"
    raise SecretError(message)
