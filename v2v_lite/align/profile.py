"""What a translator keeps of the rows that it was fitted on, to know others by.

Two encoders of one width look alike to a program: the map takes the rows of either.
But the rows of one encoder vary in a few directions of their own, by their own amounts,
around their own mean, whatever the texts are about. Of MiniLM's variance on emails
or patient notes, half as much lies in the leading directions of Wikipedia's sentences
as of theirs; of another encoder's rows no more than chance puts there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from .linalg import sample_rows

LAYOUT = {
    "profile.mean": "s", "profile.variance": "s", "profile.axes": "sk",
    "profile.share": "",
}  # fmt: skip
LEAST, CONSTANT = 20, 1e-6  # rows to judge; of the mean variance, what counts as none


@dataclass(frozen=True, eq=False)
class Profile:
    """Mean `(d,)`, variances `(d,)` and leading directions `(d, k)` of rows, and the
    share `()` of their variance that lies in these."""

    mean: Tensor
    variance: Tensor
    axes: Tensor
    share: Tensor

    @classmethod
    def of(cls, rows: Tensor, sample: int = 8192) -> Profile:
        """That of rows `(n, d)`, on the CPU, by subspace iteration on a sample."""
        g = Generator().manual_seed(0)
        x = sample_rows(rows, sample, g).cpu().float()
        mean = x.mean(dim=0)
        x, d = x - mean, x.shape[1]
        axes = torch.randn(d, max(min(32, d // 4), 1), generator=g)
        for _ in range(4):
            axes = torch.linalg.qr(x.T @ (x @ axes)).Q
        return cls(mean, x.square().mean(dim=0), axes.contiguous(), _share(x, axes))

    @classmethod
    def restored(cls, tensors: dict[str, Tensor]) -> Profile | None:
        """Taken out of a translator's tensors; None where an older version saved it."""
        parts = [tensors.pop(key, None) for key in LAYOUT]
        known = [part for part in parts if part is not None]
        return cls(*known) if len(known) == len(parts) else None

    def tensors(self) -> Mapping[str, Tensor]:
        """What is saved."""
        return dict(zip(LAYOUT, vars(self).values(), strict=True))

    def doubt(self, rows: Tensor) -> str | None:
        """Why rows `(n, d)` seem to be another encoder's, or None.

        Two of three signs are needed: the share of their variance in the leading
        directions is that of chance, their variances do not go with the known ones,
        a dimension that was constant varies.
        """
        if len(rows) < LEAST:
            return None
        x = rows[:4096].cpu().float()
        x = x - x.mean(dim=0)
        variance, old = x.square().mean(dim=0), self.variance
        known, chance = self.share.item(), self.axes.shape[1] / len(old)
        share = _share(x, self.axes).item()
        varies = known > 2 * chance  # or they have no directions of their own
        lost = varies and share < chance + 0.15 * (known - chance)
        logs = (v.clamp_min(CONSTANT * v.mean()).log() for v in (variance, old))
        like = torch.corrcoef(torch.stack([*logs]))[0, 1].item()
        fixed = old <= CONSTANT * old.mean()
        moved = int((fixed & (variance > 1e3 * CONSTANT * variance.mean())).sum())
        signs = [
            (lost, f"{share:.0%} of their variance lies in the fitted rows' leading "
                   f"directions (there {known:.0%}, by chance {chance:.0%})"),
            (like < 0.2, f"their variances correlate {like:.2f} with the fitted rows'"),
            (moved > 0, f"{moved} of {int(fixed.sum())} constant dimensions vary"),
        ]  # fmt: skip
        said = [text for sign, text in signs if sign]
        return ", ".join(said) if len(said) > 1 else None


def _share(x: Tensor, axes: Tensor) -> Tensor:
    # Of centred rows; without variance there is none in the directions either.
    return (x @ axes).square().sum() / x.square().sum().clamp_min(1e-30)
