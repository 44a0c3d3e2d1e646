"""Compiles or loads the kernels before anything is timed, and shows how far it has come."""

from __future__ import annotations

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from time import perf_counter

from zeptodb.installation import find_kernel_cache
from zeptodb.pipeline import Pipeline

_GLANCE_SECONDS = 0.1


def warm_up(pipeline: Pipeline) -> str:
    """Make every kernel ready with a progress bar on terminals; returns a sentence that says how long it took.

    The first run on a machine compiles; the result is kept in the cache directory for all later ones.
    """
    cache = find_kernel_cache()
    if not cache.is_warm:
        run = (
            "First run of this version on this machine" if cache.compiled == 0 else "Some kernels are not in the cache"
        )
        kept = f"kept in {cache.directory}" if cache.directory else "for this run only, as no folder can be written"
        print(
            f"{run}: compiling {cache.kernels - cache.compiled} of {cache.kernels} kernels, once ({kept}).", flush=True
        )
    start = perf_counter()
    with ThreadPoolExecutor(1) as executor:
        _show_progress(executor.submit(pipeline.warm_up), is_shown=not cache.is_warm and sys.stderr.isatty())
    seconds = perf_counter() - start
    return f"{cache.kernels} kernels {'loaded from the cache' if cache.is_warm else 'compiled'} in {seconds:.1f} s."


def _show_progress(work: Future[None], *, is_shown: bool) -> None:
    """Count the kernels that have code until the work is done; raises what the work raised."""
    from tqdm import tqdm

    from zeptodb import jit

    with tqdm(total=len(jit.KERNELS), unit="kernel", desc="compiling", disable=not is_shown, leave=False) as bar:
        while True:
            try:
                work.result(timeout=_GLANCE_SECONDS)
                return
            except NotYetError:
                if work.done():
                    raise
                bar.total = len(jit.KERNELS)
                bar.update(sum(kernel.is_ready for kernel in jit.KERNELS) - bar.n)
