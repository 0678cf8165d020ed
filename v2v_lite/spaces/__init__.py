"""Spaces: vectors with provenance, bundled and encoded, and splits that cannot leak."""

from .bundled import (
    EVAL_ROWS,
    NAMES,
    TRAIN_ROWS,
    data_folder,
    load,
    read_manifest,
    resolve,
    resolve_table,
)
from .corpora import load_corpus, read_corpus
from .documents import Document, Documents, Label, document_space, load_documents
from .encoders import ENCODERS, Encoder, encode, open_encoder
from .files import (
    ConfigError,
    DataError,
    V2VError,
    atomic,
    locked,
    read_json,
    write_json,
)
from .formats import open_table
from .headers import read_header, safe_name
from .quantised import make_set, quantise, write_set
from .rows import check_not_degenerate, check_rows, dequantise, unit
from .space import Provenance, Space, read_blocks, save_blocks
from .splits import LeakError, Split, check_disjoint, hold_out, unpaired
from .tables import RowsWarning, Table, draw
from .texts import read_texts, text_ids, texts_sha256

__all__ = [
    "ENCODERS", "EVAL_ROWS", "NAMES", "TRAIN_ROWS", "ConfigError", "DataError",
    "Document", "Documents", "Encoder", "Label", "LeakError", "Provenance",
    "RowsWarning", "Space", "Split", "Table", "V2VError", "atomic",
    "check_disjoint", "check_not_degenerate", "check_rows", "data_folder",
    "dequantise", "document_space", "draw", "encode", "hold_out",
    "load", "load_corpus", "load_documents", "locked", "make_set", "open_encoder",
    "open_table", "quantise", "read_blocks", "read_corpus", "read_header",
    "read_json", "read_manifest", "read_texts", "resolve", "resolve_table",
    "safe_name", "save_blocks", "text_ids", "texts_sha256", "unit", "unpaired",
    "write_json", "write_set",
]  # fmt: skip
