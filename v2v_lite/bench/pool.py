"""Tasks that can be stopped and taken up again: a store of rows, and processes.

A task is a frozen dataclass with a `key`, a `code` hash and `run(work) -> dict`. Each
row is on disk as soon as it is measured, and is measured again only when the code that
made it has changed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Protocol

from ..spaces.files import read_json, write_json


class Task(Protocol):
    """What can be measured."""

    @property
    def key(self) -> str: ...

    @property
    def code(self) -> str: ...

    def run(self, work: Path) -> dict: ...


class Store:
    """Rows by key in one JSON file, rewritten atomically with every row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict] = read_json(path) if path.is_file() else {}

    def get(self, task: Task) -> dict | None:
        """The task's row, None when it is not measured or its code has changed."""
        kept = self.rows.get(task.key)
        return kept["row"] if kept and kept["code"] == task.code else None

    def put(self, task: Task, row: dict) -> None:
        """Keep a row."""
        self.rows[task.key] = {"code": task.code, "row": row}
        write_json(self.path, self.rows)


def run_all(
    tasks: Sequence[Task], store: Store, jobs: int, label: str, progress: bool = True
) -> None:
    """Measure what the store lacks, in `jobs` processes that share the cores.

    `jobs=0` measures in this process, alone and with all its threads.
    """
    from tqdm.auto import tqdm

    work = store.path.parent
    todo = [t for t in dict.fromkeys(tasks) if store.get(t) is None]
    with tqdm(total=len(todo), desc=label, disable=not progress) as bar:
        if jobs == 0:
            for task in todo:
                store.put(task, task.run(work))
                bar.update()
        elif todo:
            _in_processes(todo, store, work, jobs, bar)


def _in_processes(todo: list[Task], store: Store, work: Path, jobs: int, bar) -> None:
    # spawn: forked copies of torch's threads hang.
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(todo)), context, _start_worker, (threads,))
    try:
        waiting = {pool.submit(_run, task, work): task for task in todo}
        for done in as_completed(waiting):
            store.put(waiting[done], done.result())
            bar.update()
            bar.set_postfix_str(waiting[done].key)
    except BaseException:  # Ctrl-C: what is half done is not worth the wait
        for child in multiprocessing.active_children():
            child.terminate()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def _start_worker(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    # Ctrl-C reaches the whole group of processes; only the parent has words for it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _run(task: Task, work: Path) -> dict:
    return task.run(work)
