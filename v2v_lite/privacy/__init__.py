"""What a stolen vector database gives away, and what its owner can do about it.

Two modules have a `Leak` and a `leak` of their own: those here are of `attributes`,
those of texts are in `leaks`.
"""

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
from .decoder import Decoder, DecoderConfig
from .defenses import DEFENSES, Defense, crossing, recall, rotation
from .guide import Guide
from .inversion import Inverted, SearchConfig, Stopped, invert
from .leaks import facts_found, facts_of, holds, medication_found, token_f1
from .proposals import END, CausalLM, NgramLM, Proposal, tokens

__all__ = [
    "DEFENSES",
    "END",
    "PROMPTS",
    "AdaptConfig",
    "CausalLM",
    "Decoder",
    "DecoderConfig",
    "Defense",
    "Guide",
    "Inverted",
    "Leak",
    "NgramLM",
    "Proposal",
    "SearchConfig",
    "Stopped",
    "adapt",
    "check_labels",
    "controls",
    "crossing",
    "facts_found",
    "facts_of",
    "holds",
    "invert",
    "label_vectors",
    "leak",
    "medication_found",
    "read_described",
    "recall",
    "recentre",
    "rotation",
    "scores",
    "token_f1",
    "tokens",
]
