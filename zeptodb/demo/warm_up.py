"""Compiles or loads the kernels before anything is timed, and shows how far it has come."""

from __future__ import annotations

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from time import perf_counter

from zeptodb.pipeline import Pipeline

_GLANCE_SECONDS = 0.1


def warm_up(pipeline: Pipeline) -> str:
    """Make every kernel ready with a progress bar on terminals; returns a sentence that says how long it took.

    The first run on a machine compiles; the result is kept in the cache directory for all later ones.
    """
    from zeptodb.jit import cache_directory

    folder = cache_directory()
    is_compiled = folder is not None and any(folder.glob("*.nbc"))
    if not is_compiled:
        kept = "for this run only, as no cache directory can be written" if folder is None else f"kept in {folder}"
        print(f"First run on this machine: compiling the kernels, once ({kept}).", flush=True)
    start = perf_counter()
    with ThreadPoolExecutor(1) as executor:
        _show_progress(executor.submit(pipeline.warm_up), is_shown=not is_compiled and sys.stderr.isatty())
    seconds = perf_counter() - start
    return f"Kernels {'loaded from the cache' if is_compiled else 'compiled'} in {seconds:.1f} s."


def _show_progress(work: Future[None], *, is_shown: bool) -> None:
    """Count the kernels that have code until the work is done; raises what the work raised."""
    from tqdm import tqdm

    from zeptodb.jit import KERNELS

    with tqdm(total=len(KERNELS), unit="kernel", desc="compiling", disable=not is_shown, leave=False) as bar:
        while True:
            try:
                work.result(timeout=_GLANCE_SECONDS)
                return
            except NotYetError:
                if work.done():
                    raise
                bar.total = len(KERNELS)
                bar.update(sum(bool(kernel.signatures) for kernel in KERNELS) - bar.n)
