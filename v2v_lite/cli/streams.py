"""Standard streams that may be closed, missing, narrow, or no terminal.

The result alone goes to stdout, whatever becomes of stderr.
"""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

__all__ = ["Result", "echo", "emit", "interactive", "safe_streams", "to_jsonable"]


@dataclass(frozen=True)
class Result:
    """A command's outcome: `data` for machines, `lines` for people, the exit code."""

    data: dict[str, Any]
    lines: Sequence[str]
    code: int = 0


def echo(text: str) -> None:
    """Write a remark to stderr."""
    print(text, file=sys.stderr, flush=True)


def emit(result: Result, stream: TextIO, as_json: bool) -> None:
    """Write a result to `stream`: as JSON, or its lines."""
    text = "\n".join(result.lines)
    if as_json:
        narrow = not (stream.encoding or "").lower().startswith("utf")
        text = json.dumps(to_jsonable(result.data), indent=1, ensure_ascii=narrow)
    print(text, file=stream, flush=True)


def to_jsonable(value: Any) -> Any:
    """`value` in JSON's terms: NaN and infinities become null, floats have 6 digits."""
    if isinstance(value, dict):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_jsonable(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def interactive() -> bool:
    """Whether stderr is a terminal; elsewhere progress bars would fill a log."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # missing or closed
        return False


@contextmanager
def safe_streams() -> Iterator[TextIO]:
    """Yield stdout; inside, writing to stderr never fails, and `print` goes there."""
    given = sys.stderr
    out, err = sys.stdout or _nowhere(), given or _nowhere()
    before = getattr(out, "errors", None), warnings.formatwarning
    _reconfigure(out, "backslashreplace")
    warnings.formatwarning = lambda message, *_, **__: f"v2v: warning: {message}\n"
    sys.stderr = cast(TextIO, _Tolerant(err))
    try:
        with redirect_stdout(sys.stderr):
            yield out
    finally:
        sys.stderr, warnings.formatwarning = given, before[1]
        _reconfigure(out, before[0])
        _settle(out)


def _settle(stream: TextIO) -> None:
    # Python flushes stdout once more at its end; let that succeed whatever happened.
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Tolerant:
    # A text stream whose reader may have left.
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _nowhere() -> TextIO:
    # It takes the lowest free descriptor, so that no file of ours becomes stderr.
    return open(os.devnull, "w", encoding="utf-8")


def _reconfigure(stream: TextIO, errors: str | None) -> None:
    if errors is not None and hasattr(stream, "reconfigure"):
        with suppress(OSError, ValueError):
            stream.reconfigure(errors=errors)
