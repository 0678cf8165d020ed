"""`v2v bench` for vec2vec: a step's cost, what each loss does, and ablations."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .base import Command, keep_pages, plain, say
from .benches import measured


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

        keep_pages()  # as `v2v train` does
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


@dataclass(frozen=True)
class BenchLosses(Command):
    """Measure what each loss does for the game into book/results/losses.json."""

    quick: bool = False
    """A smoke test of a few steps; its numbers stay in the working folder."""
    jobs: int = 2
    """Processes that share the cores."""
    work: Path = Path("runs/bench")
    """Folder of the cases measured so far."""

    def run(self) -> None:
        from ..bench import losses, results
        from ..spaces import DataError

        if self.jobs < 0:
            raise DataError(f"jobs = {self.jobs}, but 0 or more are needed")
        sizes = {"steps": 4, "every": 2, "seeds": 2} if self.quick else {}
        work = self.work / "quick" if self.quick else self.work
        table = losses.run(losses.cases(**sizes), work, self.jobs)
        folder = work / "result" if self.quick else results.results_folder()
        path = results.write("losses", plain(table), folder)
        lines = []
        for name, row in table["cases"].items():
            low, *_, high = sorted(row["rank"][-1])
            middle = statistics.median(row["rank"][-1])
            lines.append(f"{name:20} rank {middle:.1f}, from {low:.1f} to {high:.1f}")
        self.give({"out": path, "table": table}, lines)
        say(f"{path} is written")


@dataclass(frozen=True)
class BenchVec2Vec(Command):
    """Measure what training SOUND adds to its start into book/results/vec2vec.json."""

    quick: bool = False
    """A smoke test of a few steps; its numbers stay in the working folder."""
    only: Literal["all", "coarse", "full"] = "all"
    """One part alone."""
    jobs: int = 1
    """Trainings side by side; alone each has all threads."""
    work: Path = Path("runs/bench")
    """Folder of the trials measured so far."""

    def run(self) -> None:
        from ..bench import vec2vec

        measured(self, "vec2vec", vec2vec, vec2vec.lines)
