"""Translators: baselines, paired references, methods without pairs, and a diagnosis.

`METHODS` has them all by name. A class that derives from `Translator` and has a `name`
is entered by itself.
"""

from .anchors import AnchorConfig, Anchors, find_anchors
from .base import METHODS, Stage, Translator, centred
from .baselines import Identity, MeanVector, RandomRotation
from .consensus import Consensus, ConsensusMap, synchronise
from .diagnosis import Diagnosis, diagnose
from .grow import GrowConfig, Grown, grow
from .kmeans import Clusters, kmeans, kmeans_runs
from .linalg import polar, power, procrustes, random_orthogonal, whitening
from .linear import LinearTranslator
from .mini_vec2vec import MiniConfig, MiniVec2Vec
from .ot import (
    EarthMover,
    EntropicGromov,
    GromovWasserstein,
    Hungarian,
    Sinkhorn,
    TransportConfig,
)
from .paired import MLP, Procrustes, Ridge, Whitened
from .selflearn import Phase, SelfLearn, SelfLearnConfig

__all__ = [
    "METHODS", "MLP", "AnchorConfig", "Anchors", "Clusters", "Consensus",
    "ConsensusMap", "Diagnosis", "EarthMover", "EntropicGromov", "GromovWasserstein",
    "GrowConfig", "Grown", "Hungarian", "Identity", "LinearTranslator", "MeanVector",
    "MiniConfig", "MiniVec2Vec", "Phase", "Procrustes", "RandomRotation", "Ridge",
    "SelfLearn", "SelfLearnConfig", "Sinkhorn", "Stage", "Translator",
    "TransportConfig", "Whitened", "centred", "diagnose", "find_anchors", "grow",
    "kmeans", "kmeans_runs", "polar", "power", "procrustes", "random_orthogonal",
    "synchronise", "whitening",
]  # fmt: skip
