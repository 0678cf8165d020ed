"""The machine below a run: its settings, Accelerate, all processes, signals to stop."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..spaces.files import DataError

if TYPE_CHECKING:
    from accelerate import Accelerator

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Loop:
    """How often the loop looks up, and how the machine is used; not what is learned."""

    log_every: int = 50
    """Steps between two readings of the losses."""
    evaluate_every: int = 500
    """Steps between two unsupervised evaluations."""
    save_every: int = 500
    """Steps between two checkpoints."""
    patience: int = 0
    """Stop after so many evaluations in which no seed did better; 0 never stops."""
    accumulate: int = 1
    """Parts in which a process takes its rows of a batch, to save memory."""
    compile: bool = False
    """Compile the networks by torch.compile."""
    tensorboard: bool = False
    """Write TensorBoard's logs into the run's folder."""

    def __post_init__(self) -> None:
        for field in fields(self)[:5]:
            low, value = int(field.name != "patience"), getattr(self, field.name)
            if value < low:
                raise DataError(
                    f"Loop.{field.name} = {value}; it must be {low} or more"
                )


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM; the message says what was saved and how to go on."""


def accelerator_of(
    precision: str, device: str, board: str | os.PathLike[str] | None
) -> Accelerator:
    """An Accelerator on `device`, with TensorBoard below the folder `board` if given.

    "auto" is a GPU where there is one. Mixed precision is for GPUs: on a CPU it is left
    out. Raises DataError for a device or package that is not there.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ModuleNotFoundError as error:
        raise DataError(
            "training needs accelerate; `pip install 'v2v_lite[train]'` brings it"
        ) from error
    _check_device(device)
    if board is not None:
        _check_tensorboard()
    forced = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    cpu = device == "cpu" or forced or not torch.cuda.is_available()
    options = {
        "mixed_precision": "no" if cpu else precision,
        "cpu": cpu,
        "log_with": None if board is None else "tensorboard",
        "project_dir": None if board is None else str(Path(board)),
    }
    # Accelerate keeps one state a process. That of an earlier run, on another device or
    # in another precision, is forgotten; the processes' group is not.
    seen = AcceleratorState._shared_state
    if seen and (seen.get("_mixed_precision"), seen["device"].type == "cpu") != (
        options["mixed_precision"], cpu
    ):  # fmt: skip
        alone = "RANK" not in os.environ
        AcceleratorState._reset_state(reset_partial_state=alone)
    return Accelerator(**options)


def average_gradients(accelerator: Accelerator, weights: list[Tensor]) -> None:
    """Replace the gradients of `weights` by their means over all processes."""
    grads = [w.grad for w in weights if w.grad is not None]
    if accelerator.num_processes == 1 or not grads:
        return
    joined = accelerator.reduce(torch.cat([g.flatten() for g in grads]), "mean")
    parts = joined.split([g.numel() for g in grads])
    torch._foreach_copy_(grads, [p.view_as(g) for p, g in zip(parts, grads)])  # noqa: B905


def average_buffers(accelerator: Accelerator, module: torch.nn.Module) -> None:
    """Replace running statistics by their means over all processes."""
    for buffer in module.buffers() if accelerator.num_processes > 1 else ():
        buffer.copy_(accelerator.reduce(buffer, "mean"))


def clip_by_seed(weights: list[Tensor], largest: float) -> None:
    """Scale each seed's gradient, over all weights `(S, ...)`, to norm <= `largest`."""
    grads = [w.grad for w in weights if w.grad is not None]
    squares = torch.stack([g.flatten(1).square().sum(dim=1) for g in grads])
    share = (largest / squares.sum(dim=0).sqrt().clamp_min(1e-12)).clamp(max=1)
    for grad in grads:
        grad.mul_(share.view(-1, *[1] * (grad.dim() - 1)))


class Stop:
    """Within it, SIGINT and SIGTERM are noted in `asked` instead of obeyed.

    The second one is obeyed. Outside a main thread there is nothing to be noted.
    """

    def __init__(self) -> None:
        self.asked: str | None = None
        self._old: dict[int, object] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, _frame: object) -> None:
        self.asked = signal.Signals(number).name
        self._put_back()

    def _put_back(self) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)
        self._old = {}

    def __exit__(self, *_: object) -> None:
        self._put_back()

    def agreed(self, accelerator: Accelerator, step: int, every: int) -> bool:
        """Whether to stop now; several processes ask one another, each `every` steps.

        A signal need not reach all of them, nor at the same step.
        """
        if accelerator.num_processes == 1:
            return self.asked is not None
        if step % every:
            return False
        mine = torch.tensor(float(self.asked is not None), device=accelerator.device)
        return accelerator.reduce(mine).item() > 0


def _check_device(device: str) -> None:
    if device not in DEVICES:
        raise DataError(
            f"device {device!r}; choose one of {', '.join(DEVICES)}, and a certain GPU "
            "by CUDA_VISIBLE_DEVICES"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise DataError("device 'cuda': torch finds no GPU here; use cpu or auto")


def _check_tensorboard() -> None:
    from accelerate.utils import is_tensorboard_available

    if not is_tensorboard_available():
        raise DataError(
            "TensorBoard is not installed; `pip install 'v2v_lite[train]'` brings it, "
            "or train without it"
        )
