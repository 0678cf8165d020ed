"""Spaces as int8 codes with one scale a dimension, in sets described by a manifest.

A set is several encoders' vectors of the same texts: a folder with one file for each
encoder (codes, scale, training mean), one `ids.safetensors` with the texts' ids, and an
entry in the `manifest.json` beside the folder. The texts themselves are not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from .bundled import MANIFEST, MANIFEST_FORMAT, read_manifest
from .encoders import ENCODERS, encode, model_name
from .files import AnyPath, DataError, atomic, sha256_of, write_json
from .formats import CODES_FORMAT, IDS
from .headers import safe_child, safe_name, write_tensors
from .rows import check_rows, dequantise, unit
from .space import Space, mean_of
from .texts import check_threshold, drop_near, read_texts

LEVELS = 127  # codes lie in -127..127: symmetric, so that zero stays exactly zero


def quantise(rows: Tensor) -> tuple[Tensor, Tensor]:
    r"""int8 codes `(n, d)` and float32 scales `(d,)` of rows `(n, d)`.

    $c_{ij} = \mathrm{round}(x_{ij} / s_j)$ with $s_j = \max_i |x_{ij}| / 127$, so no
    entry moves by more than $s_j / 2$. A dimension that is all zeros has scale 0.

    >>> quantise(torch.tensor([[1.27, 0.0], [-0.5, 0.0]]))[0]
    tensor([[127,   0],
            [-50,   0]], dtype=torch.int8)
    """
    rows = check_rows(rows, unit_rows=False)
    scale = rows.abs().amax(dim=0) / LEVELS
    safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    codes = (rows / safe).round().clamp(-LEVELS, LEVELS).to(torch.int8)
    return codes, scale


def worst_cosine(rows: Tensor, decoded: Tensor) -> float:
    """The smallest cosine between row i of `rows` and row i of `decoded`."""
    # In float64: near one, float32 resolves cosines only to 1e-7.
    return float(cosine_similarity(rows.double(), decoded.double()).min())


def write_set(
    spaces: Sequence[Space], folder: AnyPath, name: str, n_eval: int, texts: str = "",
    licence: str = "", n_labels: int = 0, extra: dict | None = None,
) -> dict:  # fmt: skip
    """Write spaces of the same texts as the set `name` in `folder`; return its entry.

    The last `n_labels` rows describe labels, the `n_eval` before them are for
    evaluation; means are those of the rows before both, as decoded. `texts` and
    `licence` say what the texts are and whose, `extra` goes into the entry as it is.
    Files are made first and the manifest last. Raises DataError when the spaces' texts
    differ.
    """
    _check_request([space.name for space in spaces], folder, name)
    folder, first = Path(folder), spaces[0]
    _check_room(first.name, first.n, n_eval + n_labels)
    for other in spaces:
        if not torch.equal(other.known_ids, first.known_ids):
            raise DataError(f"{other.name} and {first.name} are not of the same texts")
    n = first.n - n_labels
    entry: dict[str, Any] = {
        "texts": texts,
        "texts_sha256": first.provenance.texts_sha256,
        "licence": licence,
        "rows": n,
        "train": [0, n - n_eval],
        "eval": [n - n_eval, n],
        **({"labels": [n, first.n]} if n_labels else {}),
        **(extra or {}),
    }
    with atomic(folder / name / IDS) as temporary:
        write_tensors(temporary, {"ids": first.known_ids}, {"format": CODES_FORMAT})
    entry["ids"] = file_entry(folder, f"{name}/{IDS}")
    entry["spaces"] = {
        safe_name(space.name): _write_codes(space, folder, name, n - n_eval, texts)
        for space in spaces
    }
    exists = (folder / MANIFEST).exists()
    sets = {**(read_manifest(folder) if exists else {}), name: entry}
    write_json(folder / MANIFEST, {"format": MANIFEST_FORMAT, "sets": sets})
    return entry


def make_set(
    texts_file: AnyPath, encoders: Sequence[str], out_folder: AnyPath,
    n_eval: int = 4096, *, name: str = "texts", about: str = "", licence: str = "",
    near: float | None = None, seed: int | None = 0, batch_size: int = 64,
    device: str | None = None, progress: bool = True,
) -> dict:  # fmt: skip
    """Encode a text file with each encoder into a set; return its entry and the counts.

    `texts_file` holds one text a line, or is .jsonl with a "text" field; .gz too. Exact
    repeats are dropped and, with `near`, texts whose cosine to an earlier one under the
    first encoder is above it. `seed` shuffles the texts, so that the evaluation rows
    are like the others (None keeps their order). The entry's "dropped" says how many
    texts went, and why. `load(ENCODER, dataset=name, folder=out_folder)` reads the
    result. Raises DataError naming file and line.
    """
    _check_request([model_name(one) for one in encoders], out_folder, name)
    if near is not None:
        check_threshold(near)
    every = read_texts(texts_file)
    texts = list(dict.fromkeys(every))  # in their order
    dropped = {"read": len(every), "repeats": len(every) - len(texts), "near": 0}
    _check_room(texts_file, len(texts), n_eval)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(texts), generator=generator)
        texts = [texts[i] for i in order.tolist()]
    for other in encoders[1:]:  # a wrong name must not show after hours of encoding
        encode(texts[:1], other, device=device, progress=False)
    made = partial(encode, batch_size=batch_size, device=device, progress=progress)
    first = made(texts, encoders[0])
    if near is not None:
        kept = drop_near(first.vectors, near, progress=progress)
        dropped["near"] = len(texts) - len(kept)
        texts = [texts[i] for i in kept.tolist()]
        _check_room(texts_file, len(texts), n_eval)
        about_it = first.provenance
        more = {"weights": about_it.weights, "licence": about_it.licence}
        first = Space.of(first.vectors[kept], first.name, texts, None, None, **more)
    spaces = [first, *(made(texts, other) for other in encoders[1:])]
    entry = write_set(spaces, out_folder, name, n_eval, about, licence)
    return {**entry, "dropped": dropped}


def _check_room(where: AnyPath, n: int, n_eval: int) -> None:
    if not 1 <= n_eval < n:
        allowed = f"{n} different texts allow 1 <= n_eval < {n}"
        raise DataError(f"{where}: {allowed}, not n_eval = {n_eval}")


def _check_request(encoders: Sequence[str], folder: AnyPath, name: str) -> None:
    files = [safe_name(encoder) for encoder in encoders]
    if not encoders:
        raise DataError("no encoder was named; known are " + ", ".join(ENCODERS))
    if len(set(files)) < len(files) or "ids" in files:
        raise DataError(f"encoders {list(encoders)}: each only once, none called 'ids'")
    safe_child(folder, name, folder)


def _write_codes(
    space: Space, folder: Path, name: str, n_train: int, texts: str
) -> dict:
    codes, scale = quantise(space.vectors)
    decoded = unit(dequantise(codes, scale))
    tensors = {"codes": codes, "scale": scale, "mean": mean_of(decoded[:n_train])}
    origin = replace(space.provenance, texts=texts or space.provenance.texts)
    file = f"{name}/{safe_name(space.name)}.safetensors"
    with atomic(folder / file) as temporary:
        write_tensors(temporary, tensors, {"format": CODES_FORMAT, **asdict(origin)})
    known = ENCODERS.get(space.name)
    return {
        **file_entry(folder, file),
        "encoder": known.hub if known else space.name,
        "weights": origin.weights,
        "licence": origin.licence,
        "note": origin.note,
        "d": space.d,
        "scaling": "symmetric, largest magnitude of a dimension over 127",
        "worst_cosine": round(worst_cosine(space.vectors, decoded), 7),
    }


def file_entry(folder: Path, file: str) -> dict:
    """A file of `folder` as the manifest lists it: name, bytes, SHA-256."""
    path = folder / file
    return {"file": file, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
