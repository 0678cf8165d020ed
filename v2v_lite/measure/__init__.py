"""Measuring: nearest neighbours by blocks, and the score of a translation."""

from .neighbors import csls_topk, mean_topk, mutual_pairs, topk
from .retrieval import Estimate, Score, score

__all__ = [
    "Estimate",
    "Score",
    "csls_topk",
    "mean_topk",
    "mutual_pairs",
    "score",
    "topk",
]
