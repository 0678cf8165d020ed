"""One row of a stored table measured anew, and whether it agrees with what is stored.

Code that moves or is renamed makes no number wrong. A recheck shows that it did not:
the table then gets a new stamp, with what was measured beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from v2v_lite.teaching import results

SIGMAS = 3  # standard deviations, or standard errors, that two runs may lie apart


@dataclass(frozen=True)
class Recheck:
    """Numbers of a row as stored and as measured again, and how far apart they may be.

    `why` says what the tolerances are made of.
    """

    row: str
    stored: Mapping[str, float]
    measured: Mapping[str, float]
    tolerance: Mapping[str, float]
    why: str

    def __post_init__(self) -> None:
        if not self.stored.keys() == self.measured.keys() == self.tolerance.keys():
            raise ValueError(f"{self.row}: stored, measured and tolerance differ")

    @property
    def agrees(self) -> bool:
        """Whether every number lies within its tolerance."""
        return all(
            abs(self.measured[k] - self.stored[k]) <= self.tolerance[k]
            for k in self.stored
        )

    def record(self) -> dict[str, Any]:
        """What the result file keeps."""
        return {
            "row": self.row,
            "stored": dict(self.stored),
            "measured": dict(self.measured),
            "tolerance": dict(self.tolerance),
            "why": self.why,
            "agrees": self.agrees,
            **results.circumstances(),
        }

    def lines(self) -> list[str]:
        """One line per number."""
        text = [self.row]
        for key, stored in self.stored.items():
            new, most = self.measured[key], self.tolerance[key]
            verdict = "agrees" if abs(new - stored) <= most else "DIFFERS"
            text.append(
                f"  {key:<24} stored {stored:<10.5g} measured {new:<10.5g} "
                f"tolerance {most:<9.3g} {verdict}"
            )
        return text


def spread_of(values: Sequence[float], least: float) -> float:
    """SIGMAS standard deviations over seeds, at least `least`: for one seed's number.

    >>> spread_of([1.0, 2.0, 3.0], 0.1), spread_of([1.0, 1.0], 0.1)
    (3.0, 0.1)
    """
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return max(SIGMAS * sd, least)


def error_of(values: Sequence[float], least: float) -> float:
    """SIGMAS standard errors of the mean over seeds: for a mean over seeds.

    >>> error_of([1.0, 2.0, 3.0, 2.0], 0.1) < spread_of([1.0, 2.0, 3.0, 2.0], 0.1)
    True
    """
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return max(SIGMAS * sd / len(values) ** 0.5, least)
