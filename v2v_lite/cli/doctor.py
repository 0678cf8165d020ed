"""`v2v doctor`: what is installed, what works, what is missing and how to mend it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.util import find_spec

import v2v_lite as v2v

from . import base
from .packages import CORE, requirements, version
from .streams import Result

__all__ = ["Doctor"]


@dataclass(frozen=True)
class Doctor(base.Command):
    """Report versions, device, data, encoders and results; name what is missing."""

    def run(self) -> Result:
        report: dict = {"v2v_lite": v2v.__version__, "broken": [], "missing": []}
        report["python"] = f"{platform.python_version()} on {platform.system()}"
        for check in (_packages, _device, _data, _encoders, _results):
            check(report)
        return Result(report, _lines(report), 1 if report["broken"] else 0)


def _packages(report: dict) -> None:
    table = requirements()
    names = dict.fromkeys(name for extra in table.values() for name in extra)
    report["packages"] = {name: version(name) for name in names}
    for extra, packages in table.items():
        missing = [name for name in packages if report["packages"][name] is None]
        if missing and extra == CORE:
            mend = f"`pip install {' '.join(missing)}`"
            report["broken"].append(f"{', '.join(missing)}; {mend}")
        elif missing:
            mend = f"`pip install 'v2v_lite[{extra}]'`"
            report["missing"].append(f"{', '.join(missing)} (optional); {mend}")


def _device(report: dict) -> None:
    import torch

    gpu = torch.cuda.is_available()
    report["device"] = f"cuda: {torch.cuda.get_device_name()}" if gpu else "cpu"
    report["threads"], report["cores"] = torch.get_num_threads(), os.cpu_count()


def _data(report: dict) -> None:
    report["data"] = {}
    for name in v2v.spaces.NAMES:
        try:
            space = v2v.spaces.load(name)
            report["data"][name] = f"{space.n:,} rows, {space.d}-d, verified"
        except v2v.spaces.DataError as error:
            report["data"][name] = None
            report["broken"] += [e for e in [str(error)] if e not in report["broken"]]


def _encoders(report: dict) -> None:
    report["encoders_offline"], report["encoders_online"] = [], []
    for name, about in v2v.spaces.ENCODERS.items():
        here = bool(about.package and version(about.package)) or _in_cache(about.hub)
        report["encoders_offline" if here else "encoders_online"].append(name)


def _in_cache(hub: str) -> bool:
    if find_spec("huggingface_hub") is None or " " in hub:
        return False
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub, "modules.json"), str)


def _results(report: dict) -> None:
    from ..teaching import results

    report["results"] = {}
    for name in results.NAMES:
        mend = f"`make bench NAME={name}`"
        try:
            why = results.stale(name)
            report["results"][name] = f"stale: {why}" if why else "fresh"
            if why:
                mend = f"{mend[:-1]} RECHECK=1`"
                report["missing"].append(f"result {name} is stale ({why}); {mend}")
        except (ValueError, KeyError, OSError):
            report["results"][name] = None
            report["missing"].append(f"result {name} is not measured; {mend}")


def _lines(report: dict) -> list[str]:
    packages = [f"{name} {v}" for name, v in report["packages"].items() if v]
    here, online = report["encoders_offline"], report["encoders_online"]
    return [
        f"v2v_lite {report['v2v_lite']}, Python {report['python']}",
        f"packages: {', '.join(packages)}",
        f"device:   {report['device']}; {report['threads']} threads of "
        f"{report['cores']} cores",
        *(f"data:     {k:<10} {v or 'BROKEN'}" for k, v in report["data"].items()),
        f"encoders: without a network {', '.join(here) or 'none'}",
        f"          from the hub {', '.join(online) or 'none'}",
        *(f"results:  {k:<10} {v or 'absent'}" for k, v in report["results"].items()),
        *(f"broken:   {what}" for what in report["broken"]),
        *(f"missing:  {what}" for what in report["missing"]),
        *(() if report["broken"] else ("all that the library needs is here",)),
    ]
