"""What a stolen vector database gives away, and what its owner can do about it."""

from .adapt import AdaptConfig, adapt, recentre_translator
from .attributes import (
    PROMPTS,
    AttributeLeakage,
    attribute_leakage,
    baselines,
    check_labels,
    label_vectors,
    read_described,
    scores,
)  # fmt: skip
from .decoder import ConditionedDecoder, Decoder, DecoderConfig
from .defences import DEFENCES, Defence, DefenceSpec, recall
from .inversion import Inverted, SearchConfig, Stopped, invert
from .leakage import (
    TextLeakage,
    contains_fact,
    facts_found,
    facts_of,
    medication_found,
    text_leakage,
    token_f1,
)  # fmt: skip
from .proposals import END, CausalLM, NgramLM, Proposal, Vocabulary, tokens
from .scorer import EncoderScorer, WordTable, recentre_rows

__all__ = [
    "AdaptConfig", "adapt", "recentre_translator", "PROMPTS", "AttributeLeakage",
    "attribute_leakage", "baselines", "check_labels", "label_vectors",
    "read_described", "scores", "ConditionedDecoder", "Decoder", "DecoderConfig",
    "DEFENCES", "Defence", "DefenceSpec", "recall", "Inverted",
    "SearchConfig", "Stopped", "invert", "TextLeakage", "contains_fact", "facts_found",
    "facts_of", "medication_found", "text_leakage", "token_f1", "END", "CausalLM",
    "NgramLM", "Proposal", "Vocabulary", "tokens", "EncoderScorer", "WordTable",
    "recentre_rows",
]  # fmt: skip
