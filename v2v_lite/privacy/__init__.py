"""What a stolen vector database gives away, and what its owner can do about it."""

from .adapt import AdaptConfig, adapt, recentre
from .attributes import (
    PROMPTS,
    Leak,
    check_labels,
    controls,
    label_vectors,
    leak,
    read_described,
    scores,
)

__all__ = [
    "PROMPTS",
    "AdaptConfig",
    "Leak",
    "adapt",
    "check_labels",
    "controls",
    "label_vectors",
    "leak",
    "read_described",
    "recentre",
    "scores",
]
