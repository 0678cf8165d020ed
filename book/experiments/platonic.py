"""Do better networks agree more? Small image networks of many sizes, for chapter 3.

Every model is a recipe (kind, width, epochs). All networks train on the same 1,297
digits and are compared on the vectors of the same 500 others. Network s of one recipe
is compared with network s + 1 of another, never with its own initial weights. Each
measure is kept three times: raw; calibrated against a free permutation of the images;
and against a permutation *within the classes*, which asks for agreement beyond the ten
labels that all of them were taught.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from v2v_lite.measure.nulls import Measure
from v2v_lite.measure.similarity import MEASURES
from v2v_lite.teaching.digits import KINDS, Recipe, digits, held_out_codes

from .recheck import Recheck, spread_of
from .store import Store, Task
from .workers import run_all

COMPARED = (
    "mutual_knn", "cka", "cka_unbiased", "svcca", "rsa", "procrustes_distance"
)  # fmt: skip
DATASETS, PARTS = (), ()
NULLS = ("raw", "calibrated", "within_class")
AMONG = ("same_epochs", "longest")


@dataclass(frozen=True)
class Plan:
    """The models, and `n_permutations` for each null."""

    kinds: tuple[str, ...] = KINDS[:2]
    widths: tuple[int, ...] = (8, 32, 128)
    epochs: tuple[int, ...] = (0, 1, 3, 10, 30)
    seeds: int = 5
    n_train: int = 1297
    k: int = 10
    n_permutations: int = 5

    def recipes(self) -> list[Recipe]:
        """Every model, by kind, width and epochs."""
        models = product(self.kinds, self.widths, self.epochs)
        return [Recipe(*model, batch=50) for model in models]


FULL = Plan()
QUICK = Plan(widths=(8,), epochs=(0, 1), seeds=2, n_permutations=2)


@dataclass(frozen=True)
class Comparison(Task):
    """All models with seed `seed` against all with the next."""

    plan: Plan
    seed: int

    def run(self, work: Path) -> dict:
        plan, seeds = self.plan, (self.seed, self.seed + 1)
        recipes = plan.recipes()
        trained = [held_out_codes(recipe, plan.n_train, seeds) for recipe in recipes]
        free, within = permutations(held_out_labels(plan), plan.n_permutations)
        table: dict = {"accuracy": [right[0].item() for _, right in trained]}
        for name in COMPARED:
            measure = MEASURES[name]
            one, other = (
                [measure.features(codes[i], plan.k) for codes, _ in trained]
                for i in (0, 1)
            )
            table[name] = {
                among: [
                    _mean(
                        calibrated(measure, a, other[j], free, within)
                        for j in partners(recipes, i, among)
                    )
                    for i, a in enumerate(one)
                ]
                for among in AMONG
            }
        return table


def partners(recipes: Sequence[Recipe], i: int, among: str) -> list[int]:
    """What model i is compared with: the other models of as many epochs, or of the
    most."""
    longest = max(recipe.epochs for recipe in recipes)
    wanted = recipes[i].epochs if among == "same_epochs" else longest
    return [j for j, r in enumerate(recipes) if r.epochs == wanted and j != i]


def calibrated(
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


def permutations(y: Tensor, many: int) -> tuple[list[Tensor], list[Tensor]]:
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


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 2
) -> tuple[dict, list[str]]:
    """The table: models, and per measure, null and seed how far each agrees."""
    store = Store(work / "platonic.json")
    tasks = [Comparison(plan, seed) for seed in range(plan.seeds)]
    run_all(tasks, store, jobs, "platonic")
    rows = [store.get(task) for task in tasks]
    keep = ("kind", "width", "epochs")
    models = [{key: asdict(r)[key] for key in keep} for r in plan.recipes()]
    return {
        "models": models, "n": len(digits()[0]) - plan.n_train, "k": plan.k,
        "seeds": plan.seeds, "n_permutations": plan.n_permutations,
        "accuracy": [row["accuracy"] for row in rows],
        "agreement": {name: [row[name] for row in rows] for name in COMPARED},
    }, []  # fmt: skip


def held_out_labels(plan: Plan) -> Tensor:
    """The labels of the digits that are compared, in the order of their codes."""
    y = digits()[1]
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    return y[order][plan.n_train :]


def lines(table: dict) -> list[str]:
    """The table in a line."""
    return [f"{len(table['models'])} models, {table['seeds']} seeds, n {table['n']}"]


def recheck(table: dict, work: Path) -> Recheck:
    """The models of ten epochs, seed 0: accuracy, and agreement of one of them."""
    plan = replace(FULL, epochs=(10,))
    new = Comparison(plan, 0).run(work)
    stored = [i for i, model in enumerate(table["models"]) if model["epochs"] == 10]
    at, among, name = 1, "same_epochs", "cka_unbiased"  # an MLP of width 32
    was = [seed[among][stored[at]] for seed in table["agreement"][name]]
    accuracy = [seed[stored[at]] for seed in table["accuracy"]]
    return Recheck(
        f"mlp of width 32, 10 epochs, seed 0, {name}",
        {"accuracy": accuracy[0]} | {null: was[0][null] for null in NULLS},
        {"accuracy": new["accuracy"][at]} | new[name][among][at],
        {"accuracy": spread_of(accuracy, 0.02)}
        | {null: spread_of([w[null] for w in was], 0.01) for null in NULLS},
        "3 standard deviations over the seeds of the model",
    )


def _mean(worths: Iterable[tuple[float, ...]]) -> dict:
    means = torch.tensor(list(worths)).mean(dim=0).tolist()
    return {null: round(v, 4) for null, v in zip(NULLS, means, strict=True)}
