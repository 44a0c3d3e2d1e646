"""Compiles or loads every kernel of the backend before it is needed.

numba compiles one kernel at a time in a process. On a machine's first run a second process therefore compiles those of
SelectScan and AsofJoin (and the interpreter that all share) into the disk cache, while this one compiles the rest.
Run as a module it is that second process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from threading import Thread

import numpy as np

from zeptodb.backends.base import Aggregate, AggregateOp, AggregateScan, AsofJoin, Backend, Scan, SelectScan, TimeBucket
from zeptodb.backends.cpu.accumulate import accumulate
from zeptodb.backends.expression import ColumnRef, Comparison, Constant, Kind
from zeptodb.backends.pieces import PIECE_ROWS, cut
from zeptodb.jit import cache_directory
from zeptodb.storage.snapshot import Snapshot
from zeptodb.types import ColumnType, Field, Schema

_COLUMN = ColumnRef(0, ColumnType.TIMESTAMP_NS)


def start_second_process() -> None:
    """Compile half of the kernels in a second process if none is in the cache, and there is one, and a second core."""
    folder = cache_directory()
    if folder is None or any(folder.glob("*.nbi")) or (os.cpu_count() or 1) < 2 or not sys.executable:
        return
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        start_new_session=True,
    )
    # Only this thread waits for it: what it has not finished when it is needed is compiled here, too.
    Thread(target=process.wait, name="zeptodb-second-process", daemon=True).start()


def warm_up(backend: Backend) -> None:
    """Run every operator over four rows; first the kernel that takes longest and needs no other one."""
    _accumulate_nothing()
    _warm_up(backend, (_aggregate, _group, _select, _asof_join))
    cut(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), np.array([PIECE_ROWS + 1], dtype=np.int64))


def _warm_up(backend: Backend, operators: tuple[Callable[[Backend, Scan], object], ...]) -> None:
    times = np.arange(4, dtype=np.int64)
    snapshot = Snapshot(
        name="warm_up",
        schema=Schema((Field("timestamp", ColumnType.TIMESTAMP_NS),), timestamp="timestamp"),
        symbols=np.zeros(1, dtype=np.int64),
        lengths=np.array([4], dtype=np.int64),
        addresses=np.array([[times.ctypes.data]], dtype=np.int64),
        validity=np.zeros((1, 1), dtype=np.int64),
        dictionaries=(None,),
        version=0,
    )
    ranges = backend.time_ranges(snapshot, np.zeros(1, dtype=np.int64), from_ns=0, to_ns=4)
    scan = Scan(snapshot, ranges, Comparison(">", _COLUMN, Constant(0, Kind.INT)))
    for run in operators:
        run(backend, scan)


def _accumulate_nothing() -> None:
    vector, table = np.zeros(1, dtype=np.int64), np.zeros((1, 1), dtype=np.int64)
    accumulate(
        0, vector, 0, vector, vector, vector, vector, table, vector, table, 0, table, table, vector, table, vector,
        vector,
    )  # fmt: skip


def _aggregate(backend: Backend, scan: Scan) -> object:
    aggregates = tuple(Aggregate(op, (_COLUMN,)) for op in (AggregateOp.FIRST, AggregateOp.SUM))
    return backend.aggregate(AggregateScan(scan, aggregates, bucket=TimeBucket(2)))


def _group(backend: Backend, scan: Scan) -> object:
    return backend.aggregate(AggregateScan(scan, (Aggregate(AggregateOp.COUNT_ROWS),), keys=(_COLUMN,)))


def _select(backend: Backend, scan: Scan) -> object:
    return backend.select(SelectScan(scan, (_COLUMN,)))


def _asof_join(backend: Backend, scan: Scan) -> object:
    right = Scan(scan.snapshot, scan.ranges)
    return backend.asof_join(AsofJoin(scan, right, np.zeros(1, dtype=np.int64), ">=", True, (), (_COLUMN,)))


if __name__ == "__main__":
    from zeptodb.backends.cpu.backend import CpuBackend
    from zeptodb.backends.cpu.expression import interpreter

    interpreter()
    _warm_up(CpuBackend(threads=1), (_select, _asof_join))
