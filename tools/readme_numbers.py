"""Write the numbers of book/results/align.json into the README, between its markers.

python tools/readme_numbers.py
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
STORED = ROOT / "book" / "results" / "align.json"
START, END = "<!-- numbers: start -->", "<!-- numbers: end -->"
OURS, MINI = "selflearn", "mini"


def main() -> None:
    """Rewrite the README if its numbers are not the stored ones."""
    text = README.read_text(encoding="utf-8")
    new = filled(text)
    if new != text:
        README.write_text(new, encoding="utf-8", newline="\n")


def filled(text: str) -> str:
    """The README's text with the block of the stored result between the markers."""
    if text.count(START) != 1 or text.count(END) != 1:
        sys.exit(f"README.md: the markers {START} and {END} are needed, once each")
    stored = json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else None
    block_text = f"{START}\n{block(stored)}\n{END}"
    pattern = f"{re.escape(START)}.*{re.escape(END)}"
    return re.sub(pattern, lambda _: block_text, text, flags=re.S)


def block(stored: dict | None) -> str:
    """The tables in Markdown, and the circumstances they were measured under."""
    if stored is None:
        return "The numbers are not measured yet: `make bench NAME=align` writes them."
    table, stamp = stored["table"], stored["stamp"]
    lines = [
        *_summary(table),
        *_pairs(table.get("pairs", [])),
        f"Measured {stamp['date']} on {stamp['machine']}, torch {stamp['torch']}; "
        "median (lowest to highest of the seeds). Paired methods had all 32,768 "
        "training texts with their pairs.",
    ]
    return "\n".join(lines)


def _summary(table: dict) -> list[str]:
    rows = []
    for part, what in (("main", "n_train"), ("small", "n_small")):
        if part in table:
            found, ours = table[part], table[part][OURS]
            top1, rank = _spread(ours["top1"], 3), _spread(ours["rank"], 2)
            rows.append(
                f"| {_title(found)}, {table[what]:,} texts a side, "
                f"{_seeds(ours['seeds'])} | top-1 {top1}, rank {rank} |"
            )
    if "time" in table:
        seconds = table["time"]["seconds"]
        rows.append(
            f"| seconds to align, {table['n_train']:,} texts a side "
            f"| {seconds[OURS]:.0f}; mini-vec2vec {seconds[MINI]:.0f} |"
        )
    if "diagnosis" in table:
        found = table["diagnosis"]
        rows.append(
            f"| diagnosis without pairs, {len(found['runs'])} runs "
            f"| AUC {found['auc_min']:.2f} or more in each pair and size, "
            f"Spearman {found['spearman']:.2f} with the true rank |"
        )
    return ["| what | measured |", "| --- | --- |", *rows, ""] if rows else []


def _pairs(pairs: list[dict]) -> list[str]:
    if not pairs:
        return []
    rows = [
        f"| top-1, {_seeds(pairs[0][OURS]['seeds'])} | random | mini-vec2vec | ours "
        "| Procrustes (paired) | whitened |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for entry in pairs:
        shown = [_spread(entry[m]["top1"], 3) for m in ("random", MINI, OURS)]
        shown += [_spread(entry[m]["top1"], 3) for m in ("procrustes", "whitened")]
        rows.append(f"| {_title(entry)} | {' | '.join(shown)} |")
    return [*rows, ""]


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _title(entry: dict) -> str:
    return f"{entry['source']} → {entry['target']}"


def _spread(s: dict, digits: int) -> str:
    middle, low, high = (f"{s[key]:.{digits}f}" for key in ("median", "min", "max"))
    return middle if low == high else f"{middle} ({low} to {high})"


if __name__ == "__main__":
    main()
