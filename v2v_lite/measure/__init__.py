"""Measuring: neighbours by blocks, the score of a translation, likeness of spaces."""

from .neighbors import csls_topk, mean_topk, mutual_pairs, topk
from .nulls import Similarity
from .retrieval import Estimate, Score, score
from .similarity import MEASURES, compare

__all__ = [
    "MEASURES",
    "Estimate",
    "Score",
    "Similarity",
    "compare",
    "csls_topk",
    "mean_topk",
    "mutual_pairs",
    "score",
    "topk",
]
