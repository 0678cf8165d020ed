"""What a stolen vector database gives away, and what its owner can do about it."""

from .adapt import AdaptConfig, adapt, recentre_translator
from .attributes import PROMPTS, attribute_leakage, baselines, label_vectors, scores
from .defences import DEFENCES, Defence, gaussian_sigma, recall, topical_search
from .fingerprint import UNKNOWN, Fingerprint, Named, name_encoder, traits
from .inversion import Inverted, SearchConfig, Stopped, invert
from .leakage import (
    contains_fact,
    facts_found,
    facts_of,
    medication_found,
    text_leakage,
    token_f1,
)
from .proposals import END, CausalLM, NgramLM, Proposal, tokens
from .questionnaire import (
    PLACES,
    SLOTS,
    Questionnaire,
    Verdicts,
    auc,
    calibration_error,
    confirmed,
    values_found,
    verify,
    votes,
)
from .scorer import EncoderScorer, recentre_rows

__all__ = [
    "DEFENCES", "END", "PLACES", "PROMPTS", "SLOTS", "UNKNOWN", "AdaptConfig",
    "CausalLM", "Defence", "EncoderScorer", "Fingerprint", "Inverted", "Named",
    "NgramLM", "Proposal", "Questionnaire", "SearchConfig", "Stopped", "Verdicts",
    "adapt", "attribute_leakage", "auc", "baselines", "calibration_error", "confirmed",
    "contains_fact", "facts_found", "facts_of", "gaussian_sigma", "invert",
    "label_vectors", "medication_found", "name_encoder", "recall", "recentre_rows",
    "recentre_translator", "scores", "text_leakage", "token_f1", "tokens",
    "topical_search", "traits", "values_found", "verify", "votes",
]  # fmt: skip
