"""`v2v demo`: the book's main result on your machine, from the bundled vectors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import v2v_lite as v2v

from . import base
from .align import best_of

QUICK_ROWS = 6000


@dataclass(frozen=True)
class Demo(base.Command):
    """Align two bundled encoders without a pair; compare with baselines and pairs."""

    # Bundled name to translate from.
    source: str = "minilm"
    # Bundled name to translate into.
    target: str = "granite"
    # Seeds of the unpaired methods: splits and initialisations.
    seeds: int = 2
    # Texts a side, the two sides disjoint (default: 16,384).
    n_train: base.Int = None
    # Folder of demo.json and demo.png.
    out: Path = Path("runs/demo")
    # 6,000 texts a side and one seed.
    quick: base.Flag = False

    def run(self) -> base.Result:
        from ..teaching import comparison, results

        base.at_least_one(seeds=self.seeds)
        base.checked_out(self.out)
        n = self.n_train or (QUICK_ROWS if self.quick else None)
        rows: dict[str, list[dict]] = {name: [] for name in comparison.KINDS}
        ours, seeds = [], 1 if self.quick else self.seeds
        for method, done in rows.items():
            seeded = method in (comparison.MINI, comparison.OURS)  # all else is exact
            for seed in range(seeds if seeded else 1):
                base.echo(f"fitting {method}, seed {seed}")
                words = method, self.source, self.target
                row, model = comparison.measure(*words, n, seed, base.interactive())
                done.append(row)
                ours += [model] if method == comparison.OURS else []
        summaries = {name: comparison.summary(done) for name, done in rows.items()}
        split = comparison.split_of(self.source, self.target, n, ours[0].seed)
        best, found = best_of(ours, *split.unseen())
        sizes = f"{split.source.n:,} texts a side, pool {split.eval_source.n:,}"
        title = f"{self.source} to {self.target}, unpaired: {sizes}"
        result = {
            "source": self.source, "target": self.target, "n_train": split.source.n,
            "seeds": seeds, "methods": summaries, "rows": rows,
            "diagnosis": asdict(found[best]),
            "circumstances": results.circumstances(),
        }  # fmt: skip
        v2v.spaces.write_json(self.out / "demo.json", base.to_jsonable(result))
        with v2v.spaces.atomic(self.out / "demo.png") as temporary:
            temporary.write_bytes(drawn(summaries, title))
        base.echo(f"{self.out}: demo.json and demo.png are written")
        paired = f"(paired methods: the same {2 * split.source.n:,} texts with pairs)"
        lines = [title, *comparison.lines(summaries), paired, found[best].line()]
        return base.Result(result, lines)


def drawn(summaries: dict[str, dict], title: str) -> bytes:
    """A PNG: the median top-1 of each method, and half its range over seeds."""
    from ..teaching import comparison, figure_to_png, score_bars, style

    top1 = {name: one["top1"] for name, one in summaries.items()}
    bars = {n: (s["median"], (s["max"] - s["min"]) / 2) for n, s in top1.items()}
    kinds = comparison.BASELINES, comparison.PAIRED
    with style():
        return figure_to_png(score_bars(bars, *kinds, title=title))
