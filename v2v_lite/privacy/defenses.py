# SHIM: remove after the sweep
# ruff: noqa: F401
from .defences import DEFENCES as DEFENSES
from .defences import RENAMED, crossing, recall
from .defences import Defence as _Defence
from .defences import random_orthogonal as rotation


class Defense(_Defence):
    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", RENAMED.get(self.kind, self.kind))
        super().__post_init__()

    store, ask, mirror = _Defence.protect, _Defence.protect_query, _Defence.adaptive
