"""Execute notebooks from top to bottom and write their outputs in place.

    python tools/execute.py                              # every chapter
    python tools/execute.py book/04_with_pairs.ipynb     # some

The kernel is this interpreter's own. Execution counts run 1, 2, 3 over the code cells,
the widgets' state stays in the metadata, and nothing of the machine is recorded but the
whole seconds that the notebook took (``metadata.v2v.seconds``, which the chapter budget
is tested against). A notebook is replaced only when all of its cells ran.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path

from stamp import ROOT, chapters, write

TIMEOUT = 300  # seconds for one cell
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"}


def run(path: Path):
    """Execute the notebook in its own folder; the executed copy and its seconds.

    The seconds are those of one core that its processes used, and not those on the
    clock: a busy machine must not make a chapter look slow.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    begun, before = time.perf_counter(), os.times()
    client.execute()
    wall, after = time.perf_counter() - begun, os.times()
    used = sum(after[2:4]) - sum(before[2:4])  # of the children: the kernel
    return notebook, used or wall  # some systems do not count children


def tidy(notebook, seconds: float):
    """Sequential counts, one run of text a stream, and metadata free of the machine."""
    old = notebook.metadata.get("v2v", {}).get("seconds")
    count = 0
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = merge_streams(cell.outputs)
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
    # A small change of the time is noise: keep the old number, and the file as it was.
    near = old is not None and abs(seconds - old) <= max(2.0, 0.3 * old)
    state = notebook.metadata.get("widgets")
    notebook.metadata = {"kernelspec": KERNEL, "language_info": LANGUAGE}
    notebook.metadata["v2v"] = {"seconds": old if near else max(1, round(seconds))}
    if state:
        notebook.metadata["widgets"] = stable_ids(state, notebook)
    return notebook


def merge_streams(outputs: list) -> list:
    """Join neighbouring pieces of one stream, drop stderr: progress bars, warnings."""
    merged: list = []
    for output in outputs:
        if output.output_type == "stream" and output.name == "stderr":
            continue
        last = merged[-1] if merged else None
        if output.output_type == "stream" and last and last.output_type == "stream":
            last.text += output.text
        else:
            merged.append(output)
    return merged


def stable_ids(state: dict, notebook) -> dict:
    """Number the widgets in order, so that a second run gives the same file."""
    text = json.dumps(state)
    names = list(next(iter(state.values()))["state"])
    for number, name in enumerate(names):
        new = f"{number:032x}"
        text = text.replace(name, new)
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                view = output.get("data", {}).get(
                    "application/vnd.jupyter.widget-view+json", {}
                )
                if view.get("model_id") == name:
                    view["model_id"] = new
    return json.loads(text)


def leaks(text: str) -> list[str]:
    """Absolute paths of this machine that stand in the text."""
    places = {str(ROOT), str(Path.home()), sys.prefix}
    found = [place for place in places if len(place) > 4 and place in text]
    return found + re.findall(r"/tmp/[\w./-]+", text)[:3]


def execute(path: Path) -> float:
    """Run, tidy, check for machine paths and replace the file; gives the seconds."""
    import nbformat

    notebook, seconds = run(path)
    notebook = nbformat.from_dict(tidy(notebook, seconds))
    nbformat.validate(notebook)
    text = nbformat.writes(notebook)  # texts split into lines, as Jupyter stores them
    if leaks(text):
        raise ValueError(f"outputs name places of this machine: {leaks(text)}")
    write(path, json.loads(text))
    return seconds


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all chapters")
    paths = parser.parse_args(arguments).notebooks or chapters()
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    failed, total = [], 0.0
    for path in paths:
        print(f"{path.name:32}", end=" ", flush=True)
        try:
            seconds = execute(path.resolve())
        except Exception as error:  # the next notebooks shall still run
            failed.append(path)
            print(f"FAILED\n{error}", flush=True)
        else:
            total += seconds
            print(f"{seconds:6.1f} s", flush=True)
    print(f"{len(paths) - len(failed)} of {len(paths)} notebooks, {total:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
