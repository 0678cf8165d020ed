"""Translators: floors, paired references, and methods that need no pair.

A module is imported when a name of it is first asked for. To add one: a line in
`_HOMES`, and for a new method a line in `registry.METHODS`.
"""

from importlib import import_module
from typing import Any

from .registry import METHODS, register

_HOMES = {
    "base": (
        "LinearTranslator",
        "Stage",
        "Translator",
        "centred",
        "polar",
        "procrustes",
    ),
    "clusters": ("Clusters", "kmeans", "kmeans_runs"),
    "floors": ("Identity", "MeanVector", "RandomRotation"),
    "paired": ("MLP", "Procrustes", "Ridge", "Whitened"),
    "mini": ("MiniConfig", "MiniVec2Vec"),
    "anchors": ("AnchorConfig", "Anchors", "find_anchors", "match_kernels"),
    "selflearn": ("Phase", "SelfLearn", "SelfLearnConfig"),
    "transport": ("EarthMover", "Hungarian", "Sinkhorn", "TransportConfig"),
    "gromov": ("EntropicGromov", "GromovWasserstein"),
    "consensus": ("Consensus", "ConsensusMap", "synchronise"),
    "diagnose": ("Diagnosis",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["METHODS", "register", *_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
