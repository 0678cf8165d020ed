"""How like real texts ours are: the table of data/documents/README.md.

python tools/likeness.py [NAME=FILE ...]

FILE holds one text a line or is .jsonl with a "text" field, .gz too; the bundled sets
come first.
"""

from __future__ import annotations

import re
import sys

import numpy as np

from v2v_lite.spaces import encode, load_documents, read_texts
from v2v_lite.spaces.documents import SETS

TOKENS = 10_000  # type-token ratios compare only at one number of tokens
TEXTS = 1_000


def row(name: str, texts: list[str], seed: int = 0) -> str:
    """One line of the table."""
    order = np.random.default_rng(seed).permutation(len(texts))
    texts = [texts[i] for i in order]
    tokens = [re.findall(r"[^\W_]+(?:'\w+)?", text.lower()) for text in texts]
    stream = [token for text in tokens for token in text][:TOKENS]
    ratio = len(set(stream)) / len(stream)
    sentences = [s for text in texts for s in re.split(r"(?<=[.!?])\s+|\n+", text) if s]
    lengths = [len(re.findall(r"\w+", s)) for s in sentences]
    words = [len(text) for text in tokens]
    x = encode(texts[:TEXTS], "minilm", progress=False).vectors
    total = x.sum(0)
    n = len(x)
    cosine = ((total @ total).item() - n) / (n * (n - 1))
    q = np.percentile(words, [10, 50, 90]).astype(int)
    s = np.percentile(lengths, [25, 50, 75]).astype(int)
    return (
        f"| {name} | {len(texts):,} | {q[0]} · {q[1]} · {q[2]} | "
        f"{s[0]} · {s[1]} · {s[2]} | {ratio:.3f} ({len(stream):,}) | {cosine:.3f} |"
    )


def main() -> None:
    """Print the table."""
    print("| texts | n | words: 10 %, median, 90 % | words a sentence: quartiles |"
          " type-token ratio (tokens) | mean cosine |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- |")
    for name in SETS:
        print(row(name, load_documents(name).texts))
    for named in sys.argv[1:]:
        name, _, file = named.partition("=")
        print(row(name, read_texts(file)))


if __name__ == "__main__":
    main()
