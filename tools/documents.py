"""Encode data/documents: texts and label descriptions, under the bundled encoders.

python tools/documents.py [--vectors FOLDER] [--sets posts routine]

With --vectors, rows come from FOLDER/SET.ENCODER.npy (public texts, private texts,
labels) where there is such a file, instead of live encoders: that is how Granite and
Arctic were made, whose weights need the hub here. A text that has a vector already
keeps its codes to the bit, so a corrected document changes its own row only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from v2v_lite.spaces import NAMES, Space, encode, read_manifest, unit, write_set
from v2v_lite.spaces.bundled import MANIFEST, MANIFEST_FORMAT
from v2v_lite.spaces.documents import SETS, SPLITS, read_documents, read_labels
from v2v_lite.spaces.files import write_json
from v2v_lite.spaces.headers import read_tensors, write_tensors
from v2v_lite.spaces.quantised import file_entry, worst_cosine
from v2v_lite.spaces.space import mean_of

DATA = Path(__file__).resolve().parent.parent / "data"
LABELS = "documents/labels.json"
ABOUT = "{} of our own: invented texts, then the descriptions of their labels"
LICENCE = "CC BY 4.0"


LABELS_OF = {"routine": "notes"}  # sets that share another set's labels
EVERY = (*SETS, *LABELS_OF)


def rows_of(name: str) -> tuple[list[str], list[str], int]:
    """The texts of a set, public before private, its labels' texts, and n private."""
    labels = read_labels(DATA / LABELS, LABELS_OF.get(name, name))
    rows = read_documents(DATA / "documents" / f"{name}.jsonl", labels)
    order = [SPLITS.index(row.split) for row in rows]
    if order != sorted(order):
        raise SystemExit(f"{name}: public rows must come before private ones")
    return [r.text for r in rows], [x.description for x in labels], sum(order)


def kept_codes(name: str, encoder: str) -> tuple[dict[int, torch.Tensor], dict]:
    """The codes that a set's texts have already, by text id, and the whole file."""
    folder = DATA / "documents" / name
    if not (folder / "ids.safetensors").is_file():
        return {}, {}
    tensors, _ = read_tensors(folder / f"{encoder}.safetensors")
    ids = read_tensors(folder / "ids.safetensors")[0]["ids"].tolist()
    return dict(zip(ids, tensors["codes"], strict=True)), tensors


def space_of(name: str, encoder: str, texts: list[str], folder: Path | None) -> Space:
    """The texts' vectors, with the provenance of the bundled encoder."""
    path = None if folder is None else folder / f"{name}.{encoder}.npy"
    if path is None or not path.is_file():
        return encode(texts, encoder)
    known = read_manifest(DATA)["wiki"]["spaces"][encoder]
    about = {key: known[key] for key in ("weights", "licence", "note")}
    return Space.of(np.load(path), encoder=encoder, texts=texts, **about)


def restore(name: str, space: Space, before: dict, tensors: dict, entry: dict) -> None:
    """Put the codes of texts that had some back, under their scale, and the mean."""
    path = DATA / "documents" / name / f"{space.name}.safetensors"
    _, header = read_tensors(path)
    header.pop("digest", None)
    scale = tensors["scale"]
    new = (space.vectors / scale.where(scale > 0, torch.ones_like(scale))).round()
    codes = new.clamp(-127, 127).to(torch.int8)
    fresh = []
    for i, one in enumerate(space.known_ids.tolist()):
        if one in before:
            codes[i] = before[one]
        else:
            fresh.append(i)
    rows = unit(codes * scale)
    mean = mean_of(rows[: entry["train"][1]])
    write_tensors(path, {"codes": codes, "scale": scale, "mean": mean}, header)
    about = entry["spaces"][space.name]
    about |= file_entry(DATA, f"documents/{name}/{path.name}")
    about["worst_cosine"] = tensors["worst"]
    if fresh:
        here = round(worst_cosine(space.vectors[fresh], rows[fresh]), 7)
        about["worst_cosine"] = min(here, tensors["worst"])


def write(name: str, folder: Path | None) -> None:
    """Write the vectors of one set and its entry of the manifest."""
    texts, labels, n_private = rows_of(name)
    sets = read_manifest(DATA)
    known = {one: kept_codes(name, one) for one in NAMES}
    for one, (_, tensors) in known.items():
        if tensors:
            worst = sets[f"documents/{name}"]["spaces"][one]["worst_cosine"]
            tensors["worst"] = worst
    spaces = [space_of(name, one, texts + labels, folder) for one in NAMES]
    more: dict = {
        "documents": file_entry(DATA, f"documents/{name}.jsonl"),
        "labels_file": file_entry(DATA, LABELS),
    }
    if name in LABELS_OF:
        more["labels_of"] = LABELS_OF[name]
    about = ABOUT.format(name.capitalize())
    entry = write_set(
        spaces, DATA, f"documents/{name}", n_private, about, LICENCE,
        n_labels=len(labels), extra=more,
    )  # fmt: skip
    for space in spaces:
        before, tensors = known[space.name]
        if before:
            restore(name, space, before, tensors, entry)
    sets = {**read_manifest(DATA), f"documents/{name}": entry}
    write_json(DATA / MANIFEST, {"format": MANIFEST_FORMAT, "sets": sets})
    print(f"{name}: {len(texts)} texts, {len(labels)} labels")


def main() -> None:
    """Write the vectors of the sets asked for and their entries of the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--sets", nargs="+", choices=EVERY, default=EVERY)
    asked = parser.parse_args()
    for name in asked.sets:
        write(name, asked.vectors)


if __name__ == "__main__":
    main()
