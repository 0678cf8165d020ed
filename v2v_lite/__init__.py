"""Translating embeddings between encoders without a single pair.

The folders are the book's floors, from the ground up: ``spaces`` (vectors and where
they come from), ``measure`` (how well a translation did), ``align`` (translators),
``vec2vec`` (the adversarial one), ``privacy`` (what leaks, and defences), ``teaching``
(what chapters share) and ``cli``. Each is imported when first asked for:

>>> import v2v_lite
>>> v2v_lite.__version__
'0.1.0'
"""

from importlib import import_module

__version__ = "0.1.0"

_FLOORS = ("spaces", "measure", "align", "vec2vec", "privacy", "teaching", "cli")


def __getattr__(name: str):
    if name in _FLOORS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_FLOORS])
