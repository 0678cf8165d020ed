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
from .defenses import DEFENSES, Defense, crossing, recall, rotation

__all__ = [
    "DEFENSES",
    "PROMPTS",
    "AdaptConfig",
    "Defense",
    "Leak",
    "adapt",
    "check_labels",
    "controls",
    "crossing",
    "label_vectors",
    "leak",
    "read_described",
    "recall",
    "recentre",
    "rotation",
    "scores",
]
