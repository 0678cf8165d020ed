"""How hard the documents' labels are: the table of data/documents/README.md.

python tools/difficulty.py
"""

from __future__ import annotations

import numpy as np
import torch

from v2v_lite.spaces import Documents, document_space, load_documents
from v2v_lite.spaces.documents import SETS

FOLDS = 5


def tf_idf_f1(name: str) -> float:
    """Macro-F1 on the private documents of a classifier of the public ones' words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.model_selection import cross_val_predict
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(sublinear_tf=True)
    letters = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 5))
    label = LogisticRegression(C=10, class_weight="balanced", solver="liblinear")
    model = make_pipeline(make_union(words, letters), OneVsRestClassifier(label))
    own, theirs = (load_documents(name, split) for split in ("public", "private"))
    y, truth = own.multi_hot().int().numpy(), theirs.multi_hot().int().numpy()
    inner = cross_val_predict(model, own.texts, y, cv=FOLDS, method="predict_proba")
    grid = np.linspace(0.05, 0.6, 23)
    scores = [f1_score(y, inner > t, average="macro", zero_division=0) for t in grid]
    found = model.fit(own.texts, y).predict_proba(theirs.texts)
    best = grid[int(np.argmax(scores))]
    return float(f1_score(truth, found > best, average="macro", zero_division=0))


def zero_shot(every: Documents, encoder: str = "minilm") -> tuple[float, float]:
    """Shares of private documents that the nearest label and the majority label hit."""
    private = every.part("private")
    rows = document_space(private, encoder)
    labels = document_space(every, encoder, "labels")
    guess = ((rows.vectors - rows.mean) @ (labels.vectors - labels.mean).T).argmax(1)
    hot = private.multi_hot()
    hit = hot[torch.arange(len(private)), guess].float().mean()
    return float(hit), float(hot.float().mean(0).max())


def main() -> None:
    """Print the table's three lines."""
    shots = [zero_shot(load_documents(name)) for name in SETS]
    lines = {
        "TF-IDF, macro-F1": [tf_idf_f1(name) for name in SETS],
        "zero-shot, hits": [hit for hit, _ in shots],
        "majority label, hits": [share for _, share in shots],
    }
    for name, values in lines.items():
        print(f"| {name} | {' | '.join(f'{v:.2f}' for v in values)} |")


if __name__ == "__main__":
    main()
