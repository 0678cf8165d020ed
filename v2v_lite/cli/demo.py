"""`v2v demo`: the book's main result on your machine, from the bundled vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .alignment import best_of
from .base import Command, check_free, plain, say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUICK_ROWS = 6000
ORDER = ("identity", "mean", "random", "mini", "selflearn",
         "procrustes", "whitened", "ridge", "mlp")  # fmt: skip
SEEDED = ("mini", "selflearn")  # more runs of the others would add nothing


@dataclass(frozen=True)
class Demo(Command):
    """Align two bundled encoders without a pair; compare with baselines and pairs."""

    source: str = "minilm"
    """Bundled name to translate from."""
    target: str = "granite"
    """Bundled name to translate into."""
    seeds: int = 2
    """Of the unpaired methods: splits and starts."""
    n_train: int | None = None
    """Texts a side, the two sides disjoint (default: 16,384)."""
    out: Path = Path("runs/demo")
    """Folder of demo.json and demo.png."""
    quick: bool = False
    """6,000 texts a side and one seed."""

    def run(self) -> None:
        from ..spaces import DataError, write_json
        from ..teaching import comparison, results

        if self.seeds < 1:
            raise DataError(f"seeds = {self.seeds}, but at least 1 is needed")
        check_free(self.out, "the demo")
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
            "source": self.source,
            "target": self.target,
            "n_train": split.source.n,
            "seeds": seeds,
            "methods": summaries,
            "rows": rows,
            "diagnosis": found[best].as_dict(),
            "circumstances": results.circumstances(),
        }
        write_json(self.out / "demo.json", plain(result))
        _write_png(self.out / "demo.png", draw(rows, title))
        say(f"{self.out}: demo.json and demo.png are written")
        paired = f"(paired methods: the same {2 * split.source.n:,} texts with pairs)"
        text = [title, *comparison.lines(summaries), paired, found[best].line()]
        self.give(result, text)

    def _measure(self, seeds: int, n: int | None) -> tuple[dict, list]:
        from ..teaching.comparison import OURS, measure

        rows: dict[str, list[dict]] = {}
        ours = []
        for method in ORDER:
            rows[method] = []
            for seed in range(seeds if method in SEEDED else 1):
                row, model = measure(method, self.source, self.target, n, seed, True)
                rows[method].append(row)
                if method == OURS:
                    ours.append(model)
        return rows, ours


def draw(rows: dict[str, list[dict]], title: str) -> Figure:
    """Top-1 and mean rank of each method, a dot for each seed."""
    from ..teaching import PALETTE, new_figure, style
    from ..teaching.comparison import KINDS

    colour = {
        "baseline": PALETTE["baseline"],
        "published": PALETTE["published"],
        "ours": PALETTE["ours"],
        "paired": PALETTE["reference"],
    }
    names = [f"{name} ({KINDS[name]})" for name in rows]
    with style():
        figure, (left, right) = new_figure(8.4, 3.6, 1, 2, sharey=True)
        for axes, key in ((left, "top1"), (right, "rank")):
            means = [sum(r[key] for r in of) / len(of) for of in rows.values()]
            bars = axes.barh(
                names, means, color=[colour[KINDS[name]] for name in rows], height=0.7
            )
            form = "{:.3f}" if key == "top1" else "{:,.1f}"
            axes.bar_label(bars, [form.format(m) for m in means], padding=5, fontsize=8)
            for y, of in enumerate(rows.values()):
                axes.plot([r[key] for r in of], [y] * len(of), "k.", ms=3)
            axes.grid(axis="y", visible=False)
        left.invert_yaxis()
        left.set(xlabel="top-1", xlim=(0, 1.15))
        right.set(xlabel="mean rank (1 is perfect)", xscale="log", xlim=(1, 3e4))
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _write_png(path: Path, figure: Figure) -> None:
    from ..spaces import atomic
    from ..teaching import figure_to_png

    with atomic(path) as temporary:
        temporary.write_bytes(figure_to_png(figure))
