"""Do better networks agree more? A ladder of small image networks, for chapter 3.

Every rung is a recipe (kind, width, epochs). All networks train on the same 1,297
digits and are compared on the vectors of the same 500 others. Network s of one recipe
meets network s + 1 of another, never its own start. Each measure is kept three times:
raw; calibrated against a free permutation of the images; and against a permutation
*within the classes*, which asks for agreement beyond the ten labels that all of them
were taught.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from ..measure.nulls import Measure
from ..measure.similarity import MEASURES
from .digits import KINDS, Recipe, accuracy, digits, run, start, train
from .pool import Store, run_all
from .results import code_hash

COMPARED = (
    "mutual_knn", "cka", "cka_unbiased", "svcca", "rsa", "procrustes_distance"
)  # fmt: skip
NULLS = ("raw", "calibrated", "within")
AMONG = ("peers", "best")


@dataclass(frozen=True)
class Plan:
    """The rungs, and how often: `orders` permutations for each null."""

    kinds: tuple[str, ...] = KINDS[:2]
    widths: tuple[int, ...] = (8, 32, 128)
    epochs: tuple[int, ...] = (0, 1, 3, 10, 30)
    seeds: int = 5
    n_train: int = 1297
    k: int = 10
    orders: int = 5

    def recipes(self) -> list[Recipe]:
        """Every rung, by kind, width and epochs."""
        rungs = product(self.kinds, self.widths, self.epochs)
        return [Recipe(*rung, batch=50) for rung in rungs]


QUICK = Plan(widths=(8,), epochs=(0, 1), seeds=2, orders=2)


@dataclass(frozen=True)
class Climb:
    """All rungs with start `seed` against all with the next; a task of the pool."""

    plan: Plan
    seed: int

    @property
    def key(self) -> str:
        return f"{self.plan}-{self.seed}"

    @property
    def code(self) -> str:
        return code_hash(("bench/platonic",))

    def run(self, work: Path) -> dict:
        plan, seeds = self.plan, (self.seed, self.seed + 1)
        recipes = plan.recipes()
        trained = [climb(recipe, plan.n_train, seeds) for recipe in recipes]
        y = _images(plan.n_train)[1][plan.n_train :]
        free, within = orders(y, plan.orders)
        table: dict = {"accuracy": [right for _, right in trained]}
        for name in COMPARED:
            measure = MEASURES[name]
            one, other = (
                [measure.features(codes[i], plan.k) for codes, _ in trained]
                for i in (0, 1)
            )
            table[name] = {
                among: [
                    _mean(
                        worth(measure, a, other[j], free, within)
                        for j in partners(recipes, i, among)
                    )
                    for i, a in enumerate(one)
                ]
                for among in AMONG
            }
        return table


def partners(recipes: Sequence[Recipe], i: int, among: str) -> list[int]:
    """Whom rung i is compared with: the other rungs of equal training ("peers"), or of
    the longest ("best")."""
    longest = max(recipe.epochs for recipe in recipes)
    wanted = recipes[i].epochs if among == "peers" else longest
    return [j for j, r in enumerate(recipes) if r.epochs == wanted and j != i]


def climb(recipe: Recipe, n_train: int, seeds: Sequence[int]) -> tuple[Tensor, float]:
    """Codes `(S, n, width)` of the held-out digits, centred (a small network gives some
    of them a zero row, which has no cosine); the first network's accuracy."""
    x, y = _images(n_train)
    many = len(seeds)
    x, y = x.expand(many, -1, -1), y.expand(many, -1)
    first = start(recipe, seeds)
    trained = train(recipe, first, x[:, :n_train], y[:, :n_train], seeds)
    with torch.no_grad():
        codes, out = run(recipe, trained, x[:, n_train:])
    codes -= codes.mean(dim=1, keepdim=True)
    return codes, accuracy(out, y[:, n_train:])[0].item()


def worth(
    measure: Measure, a: object, b: object, free: Sequence[Tensor],
    within: Sequence[Tensor],
) -> tuple[float, float, float]:  # fmt: skip
    """Raw, and as a share of the way from either null's mean to the best value."""
    value = measure.value(a, b, None)
    found = [value]
    for null in (free, within):
        mean = sum(measure.value(a, b, order) for order in null) / len(null)
        found.append((value - mean) / (measure.best - mean))
    return tuple(found)


def orders(y: Tensor, many: int) -> tuple[list[Tensor], list[Tensor]]:
    """Permutations of the rows, free ones and ones that keep every row's label."""
    generator = torch.Generator().manual_seed(0)
    free = [torch.randperm(len(y), generator=generator) for _ in range(many)]
    by_class = y.argsort(stable=True)  # rows in order of label
    within = []
    for order in free:
        moved = torch.empty_like(order)
        moved[by_class] = order[y[order].argsort(stable=True)]
        within.append(moved)
    return free, within


def measure_ladder(plan: Plan, work: Path, jobs: int = 2) -> dict:
    """The table: rungs, and per measure, null and seed how far each agrees."""
    store = Store(work / "platonic.json")
    tasks = [Climb(plan, seed) for seed in range(plan.seeds)]
    run_all(tasks, store, jobs, "platonic")
    rows = [store.get(task) for task in tasks]
    keep = ("kind", "width", "epochs")
    rungs = [{key: asdict(r)[key] for key in keep} for r in plan.recipes()]
    return {
        "rungs": rungs, "n": len(digits()[0]) - plan.n_train, "k": plan.k,
        "seeds": plan.seeds, "orders": plan.orders,
        "accuracy": [row["accuracy"] for row in rows],
        "agreement": {name: [row[name] for row in rows] for name in COMPARED},
    }  # fmt: skip


def _images(n_train: int) -> tuple[Tensor, Tensor]:
    # The bundled set is sorted by writer: mix before it is cut.
    x, y = digits()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return x[order], y[order]


def _mean(worths: Iterable[tuple[float, ...]]) -> dict:
    means = torch.tensor(list(worths)).mean(dim=0).tolist()
    return {null: round(v, 4) for null, v in zip(NULLS, means, strict=True)}
