"""`v2v bench`: measures the book's tables; an hour that can be stopped at any time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from .base import Command, plain, say


@dataclass(frozen=True)
class BenchAlign(Command):
    """Measure unpaired alignment into book/results/align.json; goes on where it was."""

    quick: bool = False
    """A smoke test on few rows; its numbers stay in the working folder."""
    only: Literal["all", "main", "pairs", "small", "time", "diagnosis"] = "all"
    """One part alone."""
    jobs: int = 2
    """Processes that share the cores; timing is done alone before they start."""
    work: Path = Path("runs/bench")
    """Folder of the rows measured so far and their translators."""

    def run(self) -> None:
        from ..bench import align

        _measure(self, "align", align, _lines)


@dataclass(frozen=True)
class BenchGeometry(Command):
    """Measure where translation breaks into book/results/geometry.json; resumes."""

    quick: bool = False
    """A smoke test on few rows; its numbers stay in the working folder."""
    only: Literal["all", "assumptions", "alignability", "consensus", "transport"] = (
        "all"
    )
    """One part alone."""
    jobs: int = 1
    """Processes that share the cores."""
    work: Path = Path("runs/bench")
    """Folder of the rows measured so far and their translators."""

    def run(self) -> None:
        from ..bench import geometry

        _measure(self, "geometry", geometry, geometry.lines)


@dataclass(frozen=True)
class BenchImport(Command):
    """Measure what importing the library costs beside importing torch."""

    repeats: int = 5
    """Of each import, in turn."""
    write: bool = False
    """Keep the result in book/results/import.json."""

    def run(self) -> None:
        from ..bench import imports, results
        from ..spaces import DataError

        if self.repeats < 1:
            raise DataError(f"repeats = {self.repeats}, but at least 1 is needed")
        table = imports.measure(self.repeats)
        if self.write:
            say(f"{results.write('import', table)} is written")
        s = table["seconds"]
        line = f"torch {s['torch']:.2f} s, v2v_lite {s['v2v_lite']:.2f} s"
        self.give(table, [f"{line}, ratio {table['ratio']:.2f}"])


def _measure(
    command: BenchAlign | BenchGeometry,
    name: str,
    bench: ModuleType,
    lines: Callable[[dict], list[str]],
) -> None:
    from ..bench import results
    from ..spaces import DataError

    if command.jobs < 1:
        raise DataError(f"jobs = {command.jobs}, but at least 1 is needed")
    plan = bench.QUICK if command.quick else bench.Plan()
    work = command.work / "quick" if command.quick else command.work
    parts = bench.PARTS if command.only == "all" else (command.only,)
    table, missing = bench.run(plan, work, parts, command.jobs)
    whole = not (missing or command.quick)
    folder = results.results_folder() if whole else work / "result"
    path = results.write(name, plain(table), folder)
    if missing:
        say(f"still missing: {', '.join(missing)}; `v2v bench {name}` goes on")
    command.give({"out": path, "missing": missing, "table": table}, lines(table))
    say(f"{path} is written")


def _lines(table: dict) -> list[str]:
    from ..bench.table import OURS, PEER
    from ..bench.table import lines as table_lines

    text = []
    for part in ("main", "small"):
        if part in table:
            found = table[part]
            text.append(f"{part}: {found['source']} to {found['target']}")
            text += table_lines({OURS: found[OURS]})
    for entry in table.get("pairs", ()):
        ours, peer = entry[OURS]["top1"], entry[PEER]["top1"]
        text.append(
            f"{entry['source']} to {entry['target']}: top-1 {ours['median']:.3f} "
            f"(peer {peer['median']:.3f}, "
            f"paired Procrustes {entry['procrustes']['top1']['median']:.3f})"
        )
    if "time" in table:
        s = table["time"]["seconds"]
        text.append(f"time: ours {s[OURS]:.1f} s, peer {s[PEER]:.1f} s")
    if "diagnosis" in table:
        d = table["diagnosis"]
        low, rho = d["auc_min"], d["spearman"]
        text.append(f"diagnosis: least AUC {low}, Spearman {rho:.3f}")
    return text
