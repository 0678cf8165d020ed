"""Measuring tasks one after the other, or in processes that share the cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .store import Store, Task


def run_all(
    tasks: Sequence[Task], store: Store, jobs: int, label: str, progress: bool = True
) -> None:
    """Measure what the store lacks, in `jobs` processes that share the cores.

    Up to one job is measured in this process, which has all threads.
    """
    from tqdm.auto import tqdm

    work = store.path.parent
    todo = [t for t in dict.fromkeys(tasks) if store.get(t) is None]
    with tqdm(total=len(todo), desc=label, disable=not progress) as bar:
        if jobs <= 1:
            for task in todo:
                store.put(task, task.run(work))
                bar.update()
        elif todo:
            _in_processes(todo, store, work, jobs, bar)


def _in_processes(
    todo: list[Task], store: Store, work: Path, jobs: int, bar: Any
) -> None:
    # spawn: forked copies of torch's threads hang.
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")
    about = threads, os.getpid()
    pool = ProcessPoolExecutor(min(jobs, len(todo)), context, _start_worker, about)
    with _sigterm_as_interrupt():
        try:
            waiting = {pool.submit(_run, task, work): task for task in todo}
            for done in as_completed(waiting):
                store.put(waiting[done], done.result())
                bar.update()
                bar.set_postfix_str(waiting[done].key[:60])
        except BaseException:  # Ctrl-C: what is half done is not worth the wait
            for child in multiprocessing.active_children():
                child.terminate()
            pool.shutdown(cancel_futures=True)
            raise
    pool.shutdown()


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    # `kill PID` ends the parent alone, without Python's clean-up: its workers stayed.
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt("SIGTERM")

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _start_worker(threads: int, parent: int) -> None:
    import torch

    torch.set_num_threads(threads)
    # Ctrl-C reaches the whole group of processes; only the parent has words for it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(os, "getppid"):
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    # A parent that was killed outright cannot stop its workers: they see it themselves.
    while os.getppid() == parent:
        threading.Event().wait(2.0)
    os._exit(1)


def _run(task: Task, work: Path) -> dict:
    return task.run(work)
