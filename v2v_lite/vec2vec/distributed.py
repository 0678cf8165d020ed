"""Below the trainer: Accelerate, averages over processes, signals to stop.

Accelerate is imported here alone, and only when a training begins.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..spaces.files import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = [
    "Interrupted", "StopSignal", "average_buffers", "average_gradients",
    "build_accelerator",
]  # fmt: skip

DEVICES = ("auto", "cpu", "cuda")


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM; the message says what was saved and how to go on."""


def build_accelerator(
    precision: str, device: str, tensorboard: Path | None
) -> Accelerator:
    """An Accelerator on `device`, with TensorBoard in that folder if one is given.

    "auto" is a GPU where there is one. Mixed precision is for GPUs: on a CPU it is left
    out. Raises ConfigError for a device or package that is not there.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import is_tensorboard_available
    except ModuleNotFoundError as error:
        raise ConfigError(
            "training needs accelerate; `pip install 'v2v_lite[train]'` brings it"
        ) from error
    _check_device(device)
    if tensorboard is not None and not is_tensorboard_available():
        raise ConfigError(
            "TensorBoard is not installed; `pip install 'v2v_lite[train]'` brings it, "
            "or train without it"
        )
    forced = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    cpu = device == "cpu" or forced or not torch.cuda.is_available()
    options = {
        "mixed_precision": "no" if cpu else precision,
        "cpu": cpu,
        "log_with": None if tensorboard is None else "tensorboard",
        "project_dir": None if tensorboard is None else str(tensorboard),
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


def average_gradients(accelerator: Accelerator, weights: Iterable[Tensor]) -> None:
    """Replace the gradients of `weights` by their means over all processes."""
    grads = [w.grad for w in weights if w.grad is not None]
    joined = accelerator.reduce(torch.cat([g.flatten() for g in grads]), "mean")
    parts = joined.split([g.numel() for g in grads])
    for grad, part in zip(grads, parts, strict=True):
        grad.copy_(part.view_as(grad))


def average_buffers(accelerator: Accelerator, module: torch.nn.Module) -> None:
    """Replace running statistics by their means over all processes."""
    for buffer in module.buffers():
        buffer.copy_(accelerator.reduce(buffer, "mean"))


class StopSignal:
    """Within it a first SIGINT or SIGTERM is only noted, by name, in `asked`.

    The second one does what it always does. Outside a main thread nothing is noted.
    """

    def __init__(self) -> None:
        self.asked: str | None = None
        self._old: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
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
        raise ConfigError(
            f"device {device!r}; choose one of {', '.join(DEVICES)}, and a certain GPU "
            "by CUDA_VISIBLE_DEVICES"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda': torch finds no GPU here; use cpu or auto")
