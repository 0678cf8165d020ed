"""What `import v2v_lite` costs beside `import torch`, in fresh processes."""

from __future__ import annotations

import statistics
import subprocess
import sys

MODULES = {
    "torch": "torch",
    "v2v_lite": "v2v_lite.spaces, v2v_lite.measure, v2v_lite.align",
}


def measure(repeats: int = 5) -> dict:
    """Median seconds of both imports, taken in turn, and their ratio.

    `import v2v_lite` alone loads nothing until a floor is asked for, so the floors are
    asked for here.
    """
    code = (
        "import time; start = time.perf_counter(); import {0}; "
        "print(time.perf_counter() - start)"
    )
    taken: dict[str, list[float]] = {name: [] for name in MODULES}
    for _ in range(repeats):
        for name, modules in MODULES.items():
            call = [sys.executable, "-c", code.format(modules)]
            done = subprocess.run(call, capture_output=True, text=True, check=True)
            taken[name].append(float(done.stdout))
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    return {
        "repeats": repeats,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "ratio": round(seconds["v2v_lite"] / seconds["torch"], 3),
    }
