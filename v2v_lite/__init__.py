"""Translating embeddings between encoders without a single pair.

The subpackages follow the book, from the ground up: ``spaces`` (vectors and where they
come from), ``measure`` (how good a translation is), ``align`` (translators),
``vec2vec`` (the adversarial one), ``privacy`` (what vectors give away, and defences),
``teaching`` (figures and small problems of the chapters) and ``cli``. Each is imported
when it is first used:

>>> import v2v_lite
>>> v2v_lite.__version__
'0.2.0'
>>> v2v_lite.align.SelfLearn.name
'selflearn'
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what `__getattr__` gives, for type checkers and editors
    from . import align, cli, measure, privacy, spaces, teaching, vec2vec

__version__ = "0.2.0"  # the one place of the version: pyproject.toml reads it here
__all__ = [
    "__version__", "align", "cli", "measure", "privacy", "spaces", "teaching",
    "vec2vec",
]  # fmt: skip


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
