"""Measures: nearest neighbours, scores of translations, similarity of spaces."""

from .estimate import Estimate
from .neighbors import csls_topk, mean_topk, mutual_pairs, topk
from .nulls import Similarity
from .retrieval import Score, score
from .similarity import MEASURES, compare

__all__ = [
    "MEASURES", "Estimate", "Score", "Similarity", "compare", "csls_topk", "mean_topk",
    "mutual_pairs", "score", "topk",
]  # fmt: skip
