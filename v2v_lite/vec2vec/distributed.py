"""Below the trainer: steps by Accelerate on any number of processes, stop signals.

Accelerate is imported here alone, and only when a training begins.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..align.sinkhorn import reduced_precision_matmul
from ..spaces.files import ConfigError
from .batches import derive_seed
from .config import OptimConfig, TrainerConfig
from .step import Batch, Engine

if TYPE_CHECKING:
    from accelerate import Accelerator

INSTALL = "`pip install 'v2v_lite[train]'` brings it"
DEVICES = ("auto", "cpu", "cuda")


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM; the message says what was saved and how to go on."""


def build_accelerator(precision: str, device: str, logs: Path | None) -> Accelerator:
    """An Accelerator on `device`, with TensorBoard in the folder `logs` if given.

    "auto" is a GPU where there is one. Mixed precision is for GPUs: on a CPU it is left
    out. Raises ConfigError for a device or package that is not there.
    """
    try:
        import accelerate
    except ModuleNotFoundError as error:
        raise ConfigError(f"training needs accelerate; {INSTALL}") from error
    if device not in DEVICES:
        mend = f"choose one of {', '.join(DEVICES)}, and a certain GPU by"
        raise ConfigError(f"device {device!r}; {mend} CUDA_VISIBLE_DEVICES")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda': torch finds no GPU here; use cpu or auto")
    if logs is not None and not accelerate.utils.is_tensorboard_available():
        raise ConfigError(f"TensorBoard is not installed; {INSTALL}, or do without it")
    forced = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    cpu = device == "cpu" or forced or not torch.cuda.is_available()
    precision = "no" if cpu else precision
    trackers: dict[str, Any] = {}
    if logs is not None:
        trackers = {"log_with": "tensorboard", "project_dir": str(logs)}
    # Accelerate keeps one state a process. That of an earlier run, on another device or
    # in another precision, is forgotten; the processes' group is not.
    shared = accelerate.state.AcceleratorState
    seen = shared._shared_state
    if seen:
        before = seen.get("_mixed_precision"), seen["device"].type == "cpu"
        if before != (precision, cpu):
            alone = "RANK" not in os.environ
            shared._reset_state(reset_partial_state=alone)
    return accelerate.Accelerator(mixed_precision=precision, cpu=cpu, **trackers)


class AcceleratedEngine(Engine):
    """Steps on an Accelerator: its precision, micro-batches, several processes.

    TensorBoard logs go into the folder `out`. Raises ConfigError for a batch that does
    not divide into micro-batches.
    """

    def __init__(
        self, optim: OptimConfig, config: TrainerConfig, device: str, out: Path | None
    ) -> None:
        self.optim, self.accumulation = optim, config.grad_accumulation
        logs, accumulation = out if config.tensorboard else None, self.accumulation
        self.accelerator = build_accelerator(optim.precision, device, logs)
        processes = self.accelerator.num_processes
        self.several, parts = processes > 1, processes * accumulation
        rows = optim.batch_size
        if rows % parts or rows < 2 * parts:
            fact = f"optim.batch_size = {rows} does not divide, by 2 rows or more, into"
            each = f"{processes} processes' {accumulation} micro-batches"
            raise ConfigError(f"{fact} {each}; choose a multiple of {parts}")
        self.size = rows // parts  # rows of a space per forward pass
        first = self.accelerator.process_index * self.size * accumulation
        self.rows = slice(first, first + self.size * accumulation)  # this process's
        self.numbers: tuple[int, ...] = ()  # seeds and step

    def micro_batches(self, batch: Batch) -> Iterator[Batch]:
        """Parts of this process's rows. Noise and dropout depend on seeds, step and
        part alone, so that a second pass and a resumed run repeat them."""
        for at in range(0, self.size * self.accumulation, self.size):
            torch.manual_seed(derive_seed(*self.numbers, self.rows.start + at))
            yield {name: rows[:, at : at + self.size] for name, rows in batch.items()}

    def autocast(self) -> AbstractContextManager:
        """Mixed precision, on a GPU."""
        return self.accelerator.autocast()

    def backward(self, loss: Tensor) -> None:
        """As in `Engine`, with the loss scaled where precision needs it."""
        self.accelerator.backward(loss / self.accumulation)

    def update(
        self, optimiser: torch.optim.Optimizer, weights: list[nn.Parameter], clip: float
    ) -> None:
        """As in `Engine`, by the means of all processes' gradients."""
        if self.several:
            grads = [w.grad for w in weights if w.grad is not None]
            joined = torch.cat([g.flatten() for g in grads])
            mean = self.accelerator.reduce(joined, "mean")
            parts = mean.split([g.numel() for g in grads])
            for grad, part in zip(grads, parts, strict=True):
                grad.copy_(part.view_as(grad))
        if clip:
            self.accelerator.unscale_gradients(optimiser)
        super().update(optimiser, weights, clip)

    def once(self, find: Callable[..., Any], *args: Any) -> Any:
        """What `find` returns to the main process, for all processes."""
        from accelerate.utils import broadcast_object_list

        found = [find(*args) if self.accelerator.is_main_process else None]
        return broadcast_object_list(found)[0]

    def average_buffers(self, module: nn.Module) -> None:
        """Replace running statistics by their means over all processes."""
        for buffer in module.buffers() if self.several else ():
            buffer.copy_(self.accelerator.reduce(buffer, "mean"))

    @contextmanager
    def around_loop(self, step: int, shown: bool) -> Iterator[tqdm]:
        """A progress bar; generators are forked, matmul precision is as configured, and
        trackers are closed at the end."""
        steps, precision = self.optim.steps, self.optim.matmul_precision
        device = self.accelerator.device
        try:
            with (
                torch.random.fork_rng([] if device.type == "cpu" else [device]),
                reduced_precision_matmul() if precision == "medium" else nullcontext(),
                tqdm(None, "train", steps, initial=step, disable=not shown) as bar,
            ):
                yield bar
        finally:
            # Not end_training: it would end the processes' group, a second run's too.
            for tracker in self.accelerator.trackers:
                tracker.finish()


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
        self.__exit__()

    def __exit__(self, *_: object) -> None:
        while self._old:
            signal.signal(*self._old.popitem())

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
