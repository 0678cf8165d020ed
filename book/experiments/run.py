"""The runner: `make bench NAME=align`, or `python -m experiments align`.

An experiment is a module with

    DATASETS    the bundled sets that go in
    PARTS       names of the parts of its table, that can be measured alone
    FULL, QUICK plans, frozen dataclasses: the book's, and a smoke test of it
    measure(plan, work, parts, jobs) -> the table so far, and the parts it still lacks
    lines(table) -> the table in words
    recheck(table, work) -> one row measured anew (`recheck.Recheck`)

Rows are kept in the working folder as they are measured: an experiment that was stopped
goes on where it was. What is whole is written into `book/results`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from v2v_lite.spaces.files import DataError, write_json
from v2v_lite.teaching import results

from .sources import code_of

MODULES = {name: name for name in results.NAMES} | {
    "defences": "defended", "import": "imports"
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one experiment; 1 where a recheck disagrees, 2 for input it cannot use."""
    words = _parser().parse_args(argv)
    if not words.name:
        print("experiments (make bench NAME=...):")
        for name in results.NAMES:
            about = (module_of(name).__doc__ or "").splitlines()[0]
            print(f"  {name:<12}{about}")
        return 0
    try:
        return recheck(words) if words.recheck else bench(words)
    except KeyboardInterrupt:
        print("interrupted; rows measured so far are kept", file=sys.stderr)
        return 130
    except (DataError, OSError, ModuleNotFoundError) as error:
        print(f"bench: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def bench(words: argparse.Namespace) -> int:
    """Measure what the working folder lacks; write the table if it is whole."""
    experiment = module_of(words.name)
    full = experiment.FULL
    plan = changed(experiment.QUICK if words.quick else full, words.set)
    if words.jobs < 0:
        raise DataError(f"jobs = {words.jobs}, but at least 0 is needed")
    parts = experiment.PARTS
    if words.only:
        if words.only not in parts:
            known = ", ".join(parts) or "no parts"
            raise DataError(f"only = {words.only!r}; {words.name} has {known}")
        parts = (words.only,)
    work = words.work / "quick" if words.quick else words.work
    table, missing = experiment.measure(plan, work, parts, words.jobs)
    print("\n".join(experiment.lines(table)))
    whole = not missing and (plan == full or words.write)
    folder = results.results_folder() if whole else work / "result"
    path = write(words.name, table, folder)
    if missing:
        print(f"still missing: {', '.join(missing)}; run it again to go on")
    print(f"{path} is written")
    return 0


def recheck(words: argparse.Namespace) -> int:
    """Measure one row of the stored table anew; stamp the file anew if it agrees.

    Other data make other numbers, so that the table is to be measured again. Where a
    change is known to touch a handful of texts (`--data-changed` says which), the row
    is measured on the new data, and the file keeps what was said.
    """
    experiment, stored = module_of(words.name), results.load(words.name)
    data = results.data_hash(experiment.DATASETS)
    other = stored["stamp"]["data"] != data
    if other and not words.data_changed:
        raise DataError(f"{words.name}: the data have changed; measure the table again")
    found = experiment.recheck(stored["table"], words.work / "recheck")
    print("\n".join(found.lines()))
    if not found.agrees:
        print(f"{words.name}: does NOT agree; the stamp is left, measure it again")
        return 1
    measured = {key: stored["stamp"][key] for key in ("machine", "torch", "date")}
    path = results.results_folder() / f"{words.name}.json"
    record = found.record()
    if other:
        record["data_changed"] = words.data_changed
    stamped = stored | {
        "stamp": code_stamp(words.name) | measured,
        "recheck": plain(record),
    }
    order = ("format", "stamp", "recheck", "table")
    write_json(path, {key: stamped[key] for key in order})
    print(f"{path} agrees and is stamped anew")
    return 0


def write(name: str, table: Any, folder: Path) -> Path:
    """Write a table with its stamp, atomically; return the file's path."""
    path, stamp = folder / f"{name}.json", code_stamp(name) | results.circumstances()
    body = {"format": results.FORMAT, "stamp": stamp, "table": plain(table)}
    write_json(path, body)
    return path


def code_stamp(name: str) -> dict[str, Any]:
    """Hashes of the modules and of the data that make a result."""
    datasets = module_of(name).DATASETS
    return {
        "code": code_of(f"experiments.{MODULES[name]}"),
        "datasets": list(datasets),
        "data": results.data_hash(datasets),
    }


def module_of(name: str) -> ModuleType:
    """The experiment's module; DataError lists the names."""
    if name not in MODULES:
        known = ", ".join(results.NAMES)
        raise DataError(f"no experiment {name!r}; there are {known}")
    return import_module(f".{MODULES[name]}", __package__)


def changed(plan: Any, settings: Sequence[str]) -> Any:
    """The plan with `field=value` settings; DataError for what it has not.

    A value is JSON, or text.
    """
    known = {field.name for field in fields(plan)}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in known:
            raise DataError(f"{setting!r}: fields are {', '.join(sorted(known))}")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        if type(value) is not type(getattr(plan, name)):
            kind = type(getattr(plan, name)).__name__
            raise DataError(f"{setting!r}: {name} is a {kind}")
        plan = replace(plan, **{name: value})
    return plan


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: NaN and infinities become null, floats are short."""
    if hasattr(value, "__dataclass_fields__"):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("experiments", description="The book's tables.")
    add = parser.add_argument
    add("name", nargs="?", default="", help="which experiment; none lists them")
    add("--quick", action="store_true", help="a smoke test; stays in the work folder")
    add("--recheck", action="store_true", help="measure one row anew and re-stamp")
    add("--data-changed", default="", help="which few texts changed since (kept)")
    add("--only", default="", help="one part of the table alone")
    add("--jobs", type=int, default=1, help="processes; 0 measures in this one")
    add("--work", type=Path, default=Path("runs/bench"), help="folder of rows and fits")
    add("--set", action="append", default=[], metavar="FIELD=VALUE",
        help="a field of the plan; the table stays in the work folder")  # fmt: skip
    add("--write", action="store_true", help="write into book/results all the same")
    return parser
