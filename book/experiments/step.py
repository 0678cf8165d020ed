"""What a training step costs compared with its own matrix products.

Every product of one real step that reaches the device is recorded with its shape,
layout and type, and the same products are then made anew on random tensors, outputs
allocated beforehand. What the step takes beyond them is the price of everything else:
activations, norms, dropout, losses, both optimisers, the drawing of rows, Python.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from v2v_lite.spaces import DataError, Space
from v2v_lite.vec2vec import Preset, Trainer, TrainerConfig, preset_named

from .recheck import Recheck

DATASETS, PARTS = (), ()
FACTORS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}  # where the two factors begin
ROWS = 4096  # of each space; a step's time does not depend on it


@dataclass(frozen=True)
class Plan:
    """What is measured; on a GPU also sixteen seeds and compiled."""

    preset: str = "released"
    seeds: int = 1
    width: int = 768
    batch: int = 256
    repeats: int = 9  # of the step and of its products, in turn; medians are kept
    device: str = "auto"


FULL = Plan()
QUICK = Plan(width=24, batch=16, repeats=2, device="cpu")


@dataclass(frozen=True)
class Product:
    """A matrix product `(…, m, k) x (…, k, n)`: role, sizes, strides and type."""

    role: str  # forward, input gradient, weight gradient; gram: rows with rows
    left: tuple[tuple[int, ...], tuple[int, ...]]  # sizes and strides
    right: tuple[tuple[int, ...], tuple[int, ...]]
    dtype: torch.dtype

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * prod(self.left[0]) * self.right[0][-1]

    def line(self) -> str:
        """One line of the log."""
        one, two = ("x".join(map(str, side[0])) for side in (self.left, self.right))
        return f"{self.role:<16} {one} @ {two} {str(self.dtype).partition('.')[2]}"


class Recorder(TorchDispatchMode):
    """Records every matrix product that is made within it, in order."""

    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__()
        self.weights, self.found = weights, []
        self.shapes = {tuple(w.shape[-2:]) for w in weights}
        self.copies = {w.data_ptr() for w in weights}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = function.name().partition("::")[2].partition(".")[0]
        if name == "_to_copy" and args[0].data_ptr() in self.copies:
            self.copies.add(out.data_ptr())  # autocast's copy of a weight is a weight
            self.weights = [*self.weights, out]  # and lives as long as the recorder
        if name in FACTORS:
            a, b = args[FACTORS[name] :][:2]
            sides = [(tuple(x.shape), tuple(x.stride())) for x in (a, b)]
            self.found.append(Product(self._role(a, b, out), *sides, a.dtype))
        return out

    def _role(self, a: Tensor, b: Tensor, out: Tensor) -> str:
        back = torch._C._current_graph_task_id() >= 0  # within a call of backward
        if {a.data_ptr(), b.data_ptr()} & self.copies:
            return "input gradient" if back else "forward"
        return "weight gradient" if back and out.shape[-2:] in self.shapes else "gram"


def engine(
    preset: Preset, width: int = 768, seeds: int = 1, batch: int = 256,
    device: str = "cpu", precision: str = "no", compiled: bool = False,
) -> Trainer:  # fmt: skip
    """A trainer of the preset on random rows of two spaces, before its first step."""
    optim = replace(preset.optim, batch_size=batch, precision=precision)
    # Initial weights make no step longer: random ones. Discriminators see plain rows.
    plain = replace(
        preset.adversarial,
        singular_value_exponent=(0.0, 0.0),
        variance_exponent=(0.0, 0.0),
    )
    preset = replace(preset, optim=optim, adversarial=plain, init="random")
    g = torch.Generator().manual_seed(0)
    rows = (torch.randn(max(ROWS, batch), width, generator=g) for _ in "ab")
    spaces = dict(zip("ab", map(Space.of, rows), strict=True))
    config = TrainerConfig(compile=compiled)
    return Trainer(
        spaces, preset, seeds=tuple(range(seeds)), config=config, device=device
    )


def products(run: Trainer) -> list[Product]:
    """Every matrix product of one step of the run, in order."""
    weights = [w for w in run.state.networks.parameters() if w.ndim == 3]
    with Recorder([w for w in weights if w.shape[1] > 1]) as recorder:
        run.step()
    return recorder.found


def replay(found: list[Product], device: torch.device) -> Callable[[], None]:
    """A function that makes the products, outputs allocated; equal ones share them."""
    g = torch.Generator(device).manual_seed(0)

    def like(side: tuple, dtype: torch.dtype) -> Tensor:
        return torch.empty_strided(*side, dtype=dtype, device=device).normal_(
            generator=g
        )

    ready = {}
    for p in set(found):
        a, b = like(p.left, p.dtype), like(p.right, p.dtype)
        if a.ndim == 3 and len(a) == 1:  # one seed: without the overhead of a batch
            a, b = a[0], b[0]
        ready[p] = (a, b, a @ b)

    @torch.no_grad()
    def again() -> None:
        for p in found:
            a, b, out = ready[p]
            torch.matmul(a, b, out=out)

    return again


def cases(seeds: int, device: str) -> list[dict]:
    """What to measure: on a CPU one case; a GPU trains in bf16, alone and with sixteen
    seeds, as it is and compiled."""
    if device == "cpu" or not torch.cuda.is_available():
        return [{"seeds": seeds, "device": device, "precision": "no"}]
    return [
        {"seeds": s, "device": device, "precision": "bf16", "compiled": compiled}
        for s in dict.fromkeys((seeds, 16))
        for compiled in (False, True)
    ]


def measure_step(
    preset: Preset | str, width: int = 768, seeds: int = 1, batch: int = 256,
    repeats: int = 9, device: str = "cpu", precision: str = "no",
    compiled: bool = False,
) -> dict:  # fmt: skip
    """Seconds of a step and of its products, in turn in one process; their ratio.

    `ratio` is of the medians. `products` lists each distinct product and how often a
    step makes it. `memory_gb` is a GPU's peak, without what the products alone take.
    """
    preset = preset_named(preset) if isinstance(preset, str) else preset
    for name, value in {"repeats": repeats, "seeds": seeds, "width": width}.items():
        if value < 1:
            raise DataError(f"{name} = {value}, but at least 1 is needed")
    run = engine(preset, width, seeds, batch, device, precision)
    run.step()  # Adam's moments come to be
    found, before = products(run), _allocated(run.device)
    again, taken = replay(found, run.device), {"step": [], "products": []}
    replayed = _allocated(run.device) - before
    if compiled:
        run = engine(preset, width, seeds, batch, device, precision, compiled)
    for number in range(repeats + 2):
        if number == 2 and run.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(run.device)
        for name, work in (("step", lambda: run.step()), ("products", again)):
            seconds = _clock(work, run.device)
            if number > 1:  # the first two warm up
                taken[name].append(seconds)
    seconds = {name: statistics.median(times) for name, times in taken.items()}
    flops, peak = sum(p.flops for p in found), peak_memory(run.device)
    return {
        "preset": preset.name, "width": width, "seeds": seeds, "batch": batch,
        "device": _device(run.device), "precision": run.preset.optim.precision,
        "compiled": compiled, "threads": torch.get_num_threads(), "repeats": repeats,
        "seconds": seconds, "ratio": seconds["step"] / seconds["products"],
        "seed_steps_per_second": seeds / seconds["step"],
        "memory_gb": None if peak is None else peak - replayed,
        "gflop": flops / 1e9, "gflop_per_second": flops / 1e9 / seconds["products"],
        "products": [
            {"count": n, "gflop": n * p.flops / 1e9, "product": p.line()}
            for p, n in Counter(found).items()
        ],
    }  # fmt: skip


def line(found: dict) -> str:
    """A measured case in words."""
    seconds = found["seconds"]
    compiled = ", compiled" if found["compiled"] else ""
    return (
        f"{found['preset']}, {found['seeds']} seeds, {found['device']}, "
        f"{found['precision']}{compiled}: a step {1e3 * seconds['step']:.1f} ms, its "
        f"{found['gflop']:.1f} GFLOP of products {1e3 * seconds['products']:.1f} ms, "
        f"ratio {found['ratio']:.2f}; {found['seed_steps_per_second']:.2f} seed-steps/s"
    )


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 1
) -> tuple[dict, list[str]]:
    """The table: the first case, and on a GPU the others."""
    found = [
        measure_step(plan.preset, plan.width, batch=plan.batch, repeats=plan.repeats,
                     **case)
        for case in cases(plan.seeds, plan.device)
    ]  # fmt: skip
    return found[0] | {"other_cases": found[1:]}, []


def lines(table: dict) -> list[str]:
    """The products and the ratios in words."""
    text = [f"{p['count']:4} x {p['product']}" for p in table["products"]]
    return text + [line(one) for one in (table, *table["other_cases"])]


def recheck(table: dict, work: Path) -> Recheck:
    """The first case again, with as many threads: its ratio, and its products."""
    keep = ("preset", "width", "seeds", "batch", "repeats", "precision", "compiled")
    threads = torch.get_num_threads()
    torch.set_num_threads(table["threads"])
    try:
        new = measure_step(**{k: table[k] for k in keep}, device="cpu")
    finally:
        torch.set_num_threads(threads)
    return Recheck(
        f"{table['preset']}, {table['seeds']} seeds, {table['device']}",
        {"ratio": table["ratio"], "gflop": table["gflop"]},
        {"ratio": new["ratio"], "gflop": new["gflop"]},
        {"ratio": 0.15 * table["ratio"], "gflop": 1e-3 * table["gflop"]},
        "15 % of the ratio of two times, on a machine that is shared; the products' "
        "arithmetic .1 %",
    )


def _clock(work: Callable[[], object], device: torch.device) -> float:
    # Seconds of one call; on a GPU of one of twenty, which overlap as in training.
    calls = 1 if device.type == "cpu" else 20
    wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        work()
    wait(device)
    return (time.perf_counter() - start) / calls


def wait(device: torch.device) -> None:
    """Until a GPU has done what it was told; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> float | None:
    """The most GB that tensors took on a GPU since the last reset; None on a CPU."""
    cuda = device.type == "cuda"
    return torch.cuda.max_memory_allocated(device) / 1e9 if cuda else None


def _allocated(device: torch.device) -> float:
    return torch.cuda.memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0


def _device(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
