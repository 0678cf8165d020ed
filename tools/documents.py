"""Encode data/documents: texts and label descriptions, under the bundled encoders.

python tools/documents.py [--vectors FOLDER]

With --vectors, rows come from FOLDER/SET.ENCODER.npy (public texts, private texts,
labels) instead of live encoders: that is how Granite and Arctic were made, whose
weights need the hub here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from v2v_lite.spaces import NAMES, Space, encode, read_manifest, write_set
from v2v_lite.spaces.documents import SETS, SPLITS, read_documents, read_labels
from v2v_lite.spaces.quantised import file_entry

DATA = Path(__file__).resolve().parent.parent / "data"
LABELS = "documents/labels.json"
ABOUT = "{} of our own: invented texts, then the descriptions of their labels"
LICENCE = "CC BY 4.0"


def rows_of(name: str) -> tuple[list[str], list[str], int]:
    """The texts of a set, public before private, its labels' texts, and n private."""
    labels = read_labels(DATA / LABELS, name)
    rows = read_documents(DATA / "documents" / f"{name}.jsonl", labels)
    order = [SPLITS.index(row.split) for row in rows]
    if order != sorted(order):
        raise SystemExit(f"{name}: public rows must come before private ones")
    return [r.text for r in rows], [x.description for x in labels], sum(order)


def space_of(name: str, encoder: str, texts: list[str], folder: Path | None) -> Space:
    """The texts' vectors, with the provenance of the bundled encoder."""
    if folder is None:
        return encode(texts, encoder)
    known = read_manifest(DATA)["wiki"]["spaces"][encoder]
    about = {key: known[key] for key in ("weights", "licence", "note")}
    rows = np.load(folder / f"{name}.{encoder}.npy")
    return Space.of(rows, encoder=encoder, texts=texts, **about)


def main() -> None:
    """Write the vectors of all sets and their entries of the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=Path)
    folder = parser.parse_args().vectors
    for name in SETS:
        texts, labels, n_private = rows_of(name)
        spaces = [space_of(name, one, texts + labels, folder) for one in NAMES]
        more = {
            "documents": file_entry(DATA, f"documents/{name}.jsonl"),
            "labels_file": file_entry(DATA, LABELS),
        }
        about = ABOUT.format(name.capitalize())
        write_set(
            spaces, DATA, f"documents/{name}", n_private, about, LICENCE,
            n_labels=len(labels), extra=more,
        )  # fmt: skip
        print(f"{name}: {len(texts)} texts, {len(labels)} labels")


if __name__ == "__main__":
    main()
