"""Tasks and the rows that they gave, so that a stopped experiment can go on.

A row is on disk as soon as it is measured, and is measured again only when the code or
the data that made it have changed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from v2v_lite.spaces.files import read_json, write_json
from v2v_lite.teaching import results

from .sources import code_of


@dataclass(frozen=True)
class Task:
    """What can be measured; its fields are all that a row depends on, but for code."""

    #: The bundled sets that go in.
    DATASETS: ClassVar[tuple[str, ...]] = ()

    @property
    def key(self) -> str:
        """The kind of task and all its fields."""
        values = [getattr(self, field.name) for field in fields(self)]
        return "-".join([type(self).__name__.lower(), *map(_word, values)])

    @property
    def code(self) -> str:
        """A hash of the task's own module, of all that it imports, and of the data."""
        code = json.dumps(code_of(type(self).__module__))
        data = results.data_hash(self.DATASETS)
        return hashlib.sha256(f"{code}{data}".encode()).hexdigest()[:16]

    def run(self, work: Path) -> dict[str, Any]:
        """Measure; `work` is the folder that tasks may leave their fits in."""
        raise NotImplementedError


def _word(value: object) -> str:
    if isinstance(value, Task):
        return value.key
    if isinstance(value, tuple):
        return "+".join(map(_word, value))
    return str(value).replace(" ", "_")


class Store:
    """Rows by key in one JSON file, rewritten atomically with every row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict] = read_json(path) if path.is_file() else {}

    def get(self, task: Task) -> dict | None:
        """The task's row, None when it is not measured or its code has changed."""
        kept = self.rows.get(task.key)
        return kept["row"] if kept and kept["code"] == task.code else None

    def put(self, task: Task, row: dict) -> None:
        """Keep a row."""
        self.rows[task.key] = {"code": task.code, "row": row}
        write_json(self.path, self.rows)
