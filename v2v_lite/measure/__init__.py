"""Measures: nearest neighbours, scores of translations, similarity of spaces."""

from .estimate import Estimate
from .neighbors import csls_topk, mean_topk, mutual_pairs, topk
from .nulls import Similarity
from .retrieval import Score, score
from .search import (
    Calibration,
    MixedIndex,
    TopK,
    mixed_index,
    mixed_of,
    ndcg_at,
    recall_at,
)
from .similarity import MEASURES, compare

__all__ = [
    "MEASURES", "Calibration", "Estimate", "MixedIndex", "Score", "Similarity", "TopK",
    "compare", "csls_topk", "mean_topk", "mixed_index", "mixed_of", "mutual_pairs",
    "ndcg_at", "recall_at", "score", "topk",
]  # fmt: skip
