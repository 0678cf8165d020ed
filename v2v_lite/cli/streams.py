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
    given, before = sys.stderr, warnings.formatwarning
    # What is opened here takes a closed stream's descriptor; else files of ours would.
    out = sys.stdout or open(os.devnull, "w", encoding="utf-8")
    err = given or open(os.devnull, "w", encoding="utf-8")
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="backslashreplace")
    warnings.formatwarning = lambda message, *_, **__: f"v2v: warning: {message}\n"
    sys.stderr = cast(TextIO, _Tolerant(err))
    try:
        with redirect_stdout(sys.stderr):
            yield out
    finally:
        sys.stderr, warnings.formatwarning = given, before
        try:
            out.flush()
        except (OSError, ValueError):  # let Python's own flush at the end succeed
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


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
