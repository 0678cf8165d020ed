"""`v2v bench`: measures the book's tables; an hour that can be stopped at any time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
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
        from ..bench import align, results
        from ..spaces import DataError

        if self.jobs < 1:
            raise DataError(f"jobs = {self.jobs}, but at least 1 is needed")
        plan = align.QUICK if self.quick else align.Plan()
        work = self.work / "quick" if self.quick else self.work
        parts = align.PARTS if self.only == "all" else (self.only,)
        table, missing = align.run(plan, work, parts, self.jobs)
        whole = not (missing or self.quick)
        folder = results.results_folder() if whole else work / "result"
        path = results.write("align", plain(table), folder)
        if missing:
            say(f"still missing: {', '.join(missing)}; `v2v bench align` goes on")
        self.give({"out": path, "missing": missing, "table": table}, _lines(table))
        say(f"{path} is written")


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
class BenchStep(Command):
    """Measure a training step beside its own matrix products."""

    preset: str = "released"
    """printed, released or sound."""
    seeds: int = 1
    """Trained as one program."""
    width: int = 768
    """Of both spaces."""
    batch: int = 256
    """Rows of each space."""
    repeats: int = 9
    """Of the step and of its products, in turn; medians are told."""
    device: str = "auto"
    """cpu, cuda or auto. A GPU trains in bf16, also sixteen seeds and compiled."""
    write: bool = False
    """Keep the result in book/results/step.json."""

    def run(self) -> None:
        from ..bench import results, step

        cases = step.cases(self.seeds, self.device)
        measured = [
            step.measure(self.preset, self.width, batch=self.batch,
                         repeats=self.repeats, **case)
            for case in cases
        ]  # fmt: skip
        table = measured[0] | {"more": measured[1:]}
        if self.write:
            say(f"{results.write('step', plain(table))} is written")
        lines = [f"{p['times']:4} x {p['what']}" for p in measured[0]["products"]]
        self.give(table, lines + [step.line(one) for one in measured])


@dataclass(frozen=True)
class BenchAblations(Command):
    """Measure what each loss is worth, into book/results/ablations.json; goes on where
    it was."""

    quick: bool = False
    """A smoke test on few rows; its numbers stay in the working folder."""
    work: Path = Path("runs/bench")
    """Folder of the rows measured so far."""

    def run(self) -> None:
        from ..bench import ablations, results

        world = ablations.QUICK if self.quick else ablations.World()
        work = self.work / "quick" if self.quick else self.work
        table = ablations.run(world, work)
        folder = work / "result" if self.quick else results.results_folder()
        path = results.write("ablations", plain(table), folder)
        lines = [
            f"{row['name']:<18} {row['successes']:>2} of {row['seeds']}, "
            f"95 % {row['interval'][0]:.2f} to {row['interval'][1]:.2f}, "
            f"median top-1 {row['curve'][-1]['top1']:.3f}"
            for row in table["rows"]
        ]
        self.give({"out": path, "table": table}, lines)
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
