"""The methods by name, as saved files and the command line know them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from ..spaces.files import DataError

if TYPE_CHECKING:
    from .base import Translator

    Kind = TypeVar("Kind", bound=type[Translator])


class Methods(Mapping[str, "type[Translator]"]):
    """Method name -> class; a class's module is imported when it is first asked for.

    >>> METHODS["procrustes"].paired
    True
    >>> METHODS["telepathy"]
    Traceback (most recent call last):
        ...
    v2v_lite.spaces.files.DataError: no method 'telepathy'; there are ...
    """

    def __init__(self, homes: dict[str, str]) -> None:
        self._homes = homes  # name -> the module, seen from here, that registers it
        self._classes: dict[str, type[Translator]] = {}

    def add(self, cls: type[Translator]) -> None:
        """Make a class known by its `name`."""
        self._classes[cls.name] = cls

    def __getitem__(self, name: str) -> type[Translator]:
        if name not in self._classes and name in self._homes:
            import_module(f".{self._homes[name]}", __package__)
        if name not in self._classes:
            raise DataError(f"no method {name!r}; there are {', '.join(self)}")
        return self._classes[name]

    def __contains__(self, name: object) -> bool:
        return name in self._homes or name in self._classes

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._homes, *self._classes]))

    def __len__(self) -> int:
        return len(self._homes.keys() | self._classes.keys())


METHODS = Methods(
    {
        "identity": "floors",
        "mean": "floors",
        "random": "floors",
        "procrustes": "paired",
        "whitened": "paired",
        "ridge": "paired",
        "mlp": "paired",
        "mini": "mini",
        "selflearn": "selflearn",
        "hungarian": "transport",
        "emd": "transport",
        "sinkhorn": "transport",
        "gw": "gromov",
        "gw-entropic": "gromov",
        "consensus": "consensus",
        "vec2vec": ".vec2vec.translator",  # a floor above, imported when asked for
    }
)


def register(cls: Kind) -> Kind:
    """Class decorator: makes a method known to `METHODS` and `Translator.load`."""
    METHODS.add(cls)
    return cls
