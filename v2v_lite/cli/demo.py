"""`v2v demo`: the book's main result on your machine, from the bundled vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import v2v_lite as v2v

from . import base
from .align import best_of
from .streams import Result, echo, interactive, to_jsonable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..align import Translator

__all__ = ["Demo"]

QUICK_ROWS = 6000
ORDER = ("identity", "mean", "random", "mini", "selflearn",
         "procrustes", "whitened", "ridge", "mlp")  # fmt: skip
SEEDED = ("mini", "selflearn")  # more runs of the others would add nothing


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

    def run(self) -> Result:
        from ..teaching import comparison, figure_to_png, results

        base.at_least_one(seeds=self.seeds)
        base.ensure_writable(self.out)
        seeds = 1 if self.quick else self.seeds
        n = self.n_train or (QUICK_ROWS if self.quick else None)
        rows, ours = self._measure(seeds, n)
        summaries = {name: comparison.summary(rows[name]) for name in ORDER}
        split = comparison.split_of(self.source, self.target, n, ours[0].seed)
        best, found = best_of(ours, *split.unseen())
        title = (
            f"{self.source} to {self.target}, unpaired: {split.source.n:,} texts a "
            f"side, pool {split.eval_source.n:,}"
        )
        result = {
            "source": self.source, "target": self.target, "n_train": split.source.n,
            "seeds": seeds, "methods": summaries, "rows": rows,
            "diagnosis": found[best].as_dict(),
            "circumstances": results.circumstances(),
        }  # fmt: skip
        v2v.spaces.write_json(self.out / "demo.json", to_jsonable(result))
        with v2v.spaces.atomic(self.out / "demo.png") as temporary:
            temporary.write_bytes(figure_to_png(draw(rows, title)))
        echo(f"{self.out}: demo.json and demo.png are written")
        paired = f"(paired methods: the same {2 * split.source.n:,} texts with pairs)"
        lines = [title, *comparison.lines(summaries), paired, found[best].line()]
        return Result(result, lines)

    def _measure(
        self, seeds: int, n: int | None
    ) -> tuple[dict[str, list[dict]], list[Translator]]:
        from ..teaching import comparison

        rows: dict[str, list[dict]] = {name: [] for name in ORDER}
        ours, sides = [], (self.source, self.target)
        for method in ORDER:
            for seed in range(seeds if method in SEEDED else 1):
                echo(f"fitting {method}, seed {seed}")
                bar = interactive()
                row, model = comparison.measure(method, *sides, n, seed, bar)
                rows[method].append(row)
                if method == comparison.OURS:
                    ours.append(model)
        return rows, ours


def draw(rows: dict[str, list[dict]], title: str) -> Figure:
    """Top-1 and mean rank of each method, a dot for each seed."""
    from ..teaching import PALETTE, new_figure, style
    from ..teaching.comparison import KINDS

    palette = PALETTE | {"paired": PALETTE["reference"]}
    names = [f"{name} ({KINDS[name]})" for name in rows]
    colors = [palette[KINDS[name]] for name in rows]
    with style():
        figure, (left, right) = new_figure(8.4, 3.6, 1, 2, sharey=True)
        for axes, key, form in (left, "top1", "{:.3f}"), (right, "rank", "{:,.1f}"):
            means = [sum(r[key] for r in of) / len(of) for of in rows.values()]
            bars = axes.barh(names, means, color=colors, height=0.7)
            axes.bar_label(bars, [form.format(m) for m in means], padding=5, fontsize=8)
            for y, of in enumerate(rows.values()):
                axes.plot([r[key] for r in of], [y] * len(of), "k.", ms=3)
            axes.grid(axis="y", visible=False)
        left.invert_yaxis()
        left.set(xlabel="top-1", xlim=(0, 1.15))
        right.set(xlabel="mean rank (1 is perfect)", xscale="log", xlim=(1, 3e4))
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure
