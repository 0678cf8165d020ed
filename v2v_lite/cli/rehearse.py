"""`v2v rehearse`: the positive control, a known encoder in the place of the unknown."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import v2v_lite as v2v

from . import base
from .methods import made


@dataclass(frozen=True)
class Rehearse(base.Command):
    """Align a known encoder with the target as if it were unknown, and see how it went.

    Before you believe a diagnosis: what does it say, at your numbers of rows, of
    encoders whose true vectors are there to score against?
    """

    # Bundled name, or a file of rows: the known space that you translate into.
    target: base.Target
    # What stands in for the unknown: bundled names (default: all others), or files with
    # the rows of TARGET's texts, row by row, under another encoder (`v2v encode`).
    known: tuple[str, ...] = ()
    # Rows of the unknown encoder that you have.
    rows: base.Int = None
    # Rows of the target to fit on (default: as many).
    target_rows: base.Int = None
    # A method, as for `v2v align`.
    method: str = "selflearn"
    # Of the split and of the fit.
    seed: int = 0
    # Where to compute; auto is the GPU when there is one.
    device: base.Device = "auto"

    def run(self) -> base.Result:
        base.at_least_one(rows=self.rows, target_rows=self.target_rows)
        made(self.method)  # which names the wrong one
        names, bundled = self.known, v2v.spaces.NAMES
        if not names and self.target not in bundled:
            mend = "encode the texts of its rows with another encoder (`v2v encode`)"
            raise base.UsageError(f"{self.target}: nothing to rehearse with; {mend}, "
                                  "and give that file as --known")  # fmt: skip
        names = names or tuple(name for name in bundled if name != self.target)
        found = [self._rehearsed(name) for name in names]
        told = [row for row in found if row["diagnosis"]["verdict"] == "aligned"]
        top1 = [row["top1"]["mean"] for row in told]
        last = f"{len(told)} of {len(found)} were called aligned"
        if told:
            last += f", with top-1 from {min(top1):.3f} to {max(top1):.3f}"
        lines = [row.pop("line") for row in found] + [last]
        return base.Result({"target": self.target, "rehearsals": found}, lines)

    def _rehearsed(self, name: str) -> dict:
        source, target = map(v2v.spaces.resolve, (name, self.target))
        n_eval = min(v2v.spaces.EVAL_ROWS, min(target.n, source.n) // 4)
        sizes = self.rows, self.target_rows or self.rows
        n_train = max((k for k in sizes if k), default=None)
        split = v2v.spaces.unpaired(source, target, n_eval, self.seed, n_train)
        both = zip((split.source, split.target), sizes, strict=True)
        sides = [side.take(slice(k)).with_mean() for side, k in both]
        base.echo(f"rehearsing {name} as the unknown: {sides[0].n:,} and "
                  f"{sides[1].n:,} rows of other texts")  # fmt: skip
        bar = base.interactive()

        def fitted(device: str) -> v2v.align.Translator:
            source, target = (side.to(device) for side in sides)
            model = made(self.method)
            return model.fit(source, target, seed=self.seed, progress=bar)

        model = base.on_device(self.device, fitted)
        fresh = zip(split.unseen(), sides, strict=True)
        unseen = (space.with_mean(side.mean) for space, side in fresh)
        diagnosis = v2v.align.diagnose(model, *unseen, progress=bar)
        translated = model.translate(split.eval_source)
        score = v2v.measure.score(translated, split.eval_target)
        line = f"{name} to {self.target}: {diagnosis.line()} · in truth {score.line()}"
        row = {"known": name, "rows": sides[0].n, "target_rows": sides[1].n}
        return {**row, "line": line, "diagnosis": asdict(diagnosis), **asdict(score)}
