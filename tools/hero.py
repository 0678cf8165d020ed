"""Write the front page's moving figure: sixty texts, round by round, from chapter 6.

Runs the chapter's own cells up to its training and stores, for some of the rounds,
where the translations of sixty held-out texts lie in two principal axes of the target.

    python tools/hero.py             # writes book/web/hero.json, about a minute
"""

from __future__ import annotations

import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "book" / "web" / "hero.json"
CHAPTER = ROOT / "book" / "06_anchors.ipynb"
LAST = "assert mean_rank[-1] < 40"  # the cell after which the rounds are known
SIDE = 1000  # the square that the positions are in


def namespace() -> dict:
    """What the chapter's cells define, up to and with the rounds."""
    os.chdir(CHAPTER.parent)
    space: dict = {"__name__": "__main__", "display": lambda *_: None}
    for cell in json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            exec(compile(source, "chapter", "exec"), space)
            if LAST in source:
                return space
    raise SystemExit(f"{CHAPTER.name} has no cell with {LAST!r}: name another here")


def positions(space: dict) -> tuple[list, list]:
    """Targets, and the translations before the first map and after each round."""
    import torch
    from torch.nn.functional import normalize

    def axes(rows):
        return torch.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][:2].T

    true_x, true_y, sixty = space["true_x"], space["true_y"], slice(0, 60)
    flat = axes(true_y)
    end = true_y[sixty] @ flat
    low, high = end.amin(0) - 0.08, end.amax(0) + 0.08

    def place(points):
        at = ((points - low) / (high - low)).clamp(0.01, 0.99)
        return (SIDE * at).round().int().tolist()

    alone = (true_x - true_x.mean(0))[sixty] @ axes(true_x)
    alone = (alone / alone.std(0)) * end.std(0) + end.mean(0)
    rounds = [
        place(normalize(true_x[sixty] @ space["map_of"](state), dim=1) @ flat)
        for state in space["states"]
    ]
    return place(end), [place(alone), *rounds]


def main() -> int:
    space = namespace()
    target, moves = positions(space)
    top1, ranks = space["top1"], space["mean_rank"]
    last = len(top1) - 1
    frames = [{"label": "two clouds, no pair: nothing to compare", "at": moves[0]}]
    for number in sorted({0, 1, 3, 6, 10, 12, 15, last}):
        name = f"round {number}" if number else "first map"
        found = f"{100 * top1[number]:.0f} % found, mean rank {ranks[number]:.0f}"
        frames.append({"label": f"{name}: {found}", "at": moves[number + 1]})
    text = json.dumps({"side": SIDE, "target": target, "frames": frames})
    part = OUT.with_name(OUT.name + ".tmp")
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, OUT)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
