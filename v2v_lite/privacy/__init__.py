"""Privacy: what a stolen vector database gives away, and what helps."""

from .decoder import Decoder, DecoderConfig
from .guide import Guide, recentre
from .inversion import Inverted, SearchConfig, Stopped, invert
from .leaks import (
    Leak,
    facts_found,
    facts_of,
    holds,
    leak,
    medication_found,
    token_f1,
)
from .proposals import END, CausalLM, NgramLM, Proposal, tokens

__all__ = [
    "END",
    "CausalLM",
    "Decoder",
    "DecoderConfig",
    "Guide",
    "Inverted",
    "Leak",
    "NgramLM",
    "Proposal",
    "SearchConfig",
    "Stopped",
    "facts_found",
    "facts_of",
    "holds",
    "invert",
    "leak",
    "medication_found",
    "recentre",
    "token_f1",
    "tokens",
]
