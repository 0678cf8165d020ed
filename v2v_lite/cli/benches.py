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

        measured(self, "align", align, _lines)


@dataclass(frozen=True)
class BenchPrivacy(Command):
    """Measure what stolen documents give away, and what defends them."""

    quick: bool = False
    """Few rows and short phases."""
    only: Literal["all", "attributes", "defences"] = "all"
    """One part alone."""
    tweets: Path | None = None
    """TweetTopic's texts.jsonl.gz, with labels.csv beside it; not bundled."""
    jobs: int = 2
    """Processes that share the cores; 0 measures in this one."""
    work: Path = Path("runs/bench")
    """Folder of the rows measured so far and their translators."""
    write: bool = False
    """With --quick: keep the result in book/results all the same."""

    def run(self) -> None:
        from dataclasses import replace

        from ..bench import privacy, results
        from ..spaces import DataError

        if self.jobs < 0:
            raise DataError(f"jobs = {self.jobs}, but at least 0 is needed")
        if self.tweets is not None and not self.tweets.is_file():
            raise DataError(f"{self.tweets}: there is no such file")
        plan = privacy.QUICK if self.quick else privacy.Plan()
        plan = replace(plan, tweets=str(self.tweets or ""))
        work = self.work / "quick" if self.quick else self.work
        parts = privacy.PARTS if self.only == "all" else (self.only,)
        table, missing = privacy.run(plan, work, self.jobs, parts)
        whole = not missing and (self.write or not self.quick)
        folder = results.results_folder() if whole else work / "result"
        path = results.write("privacy", plain(table), folder)
        if missing:
            say(f"still missing: {', '.join(missing)}; `v2v bench privacy` goes on")
        result = {"out": path, "missing": missing, "table": table}
        self.give(result, privacy.lines(table))
        say(f"{path} is written")


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

        measured(self, "geometry", geometry, geometry.lines)


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


@dataclass(frozen=True)
class BenchPlatonic(Command):
    """Measure chapter 3's ladder of networks into book/results/platonic.json."""

    quick: bool = False
    """A smoke test; its numbers stay in the working folder."""
    jobs: int = 2
    """Processes that share the cores."""
    work: Path = Path("runs/platonic")
    """Folder of the rows measured so far."""

    def run(self) -> None:
        from ..bench import platonic, results
        from ..spaces import DataError

        if self.jobs < 1:
            raise DataError(f"jobs = {self.jobs}, but at least 1 is needed")
        plan = platonic.QUICK if self.quick else platonic.Plan()
        work = self.work / "quick" if self.quick else self.work
        table = platonic.measure_ladder(plan, work, self.jobs)
        folder = work / "result" if self.quick else results.results_folder()
        path = results.write("platonic", table, folder)
        text = f"{len(table['rungs'])} rungs, {table['seeds']} seeds, n {table['n']}"
        self.give({"out": path, "table": table}, [text])
        say(f"{path} is written")


@dataclass(frozen=True)
class BenchSimilarity(Command):
    """Measure what similarities cost beside the matrix products that they need."""

    rows: int = 0
    """Rows of each side; 0 takes all."""
    write: bool = False
    """Keep the result in book/results/similarity.json."""

    def run(self) -> None:
        from ..bench import results, similarity
        from ..spaces import DataError

        if self.rows and self.rows < 20:
            raise DataError(f"rows = {self.rows}, but at least 20 are needed")
        table = similarity.measure(n=self.rows)
        if self.write:
            say(f"{results.write('similarity', table)} is written")
        lines = [
            f"{name}: {row['seconds']} s, the products alone {row['products']} s "
            f"(ratio {row['ratio']}), peak {row['peak_mb']} MB"
            for name, row in table.items()
            if isinstance(row, dict)
        ]
        self.give(table, lines)


def measured(
    command: Command,
    name: str,
    bench: ModuleType,
    lines: Callable[[dict], list[str]],
) -> None:
    """Run a bench that has a Plan, QUICK and PARTS, and write what is whole."""
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
