"""Resident memory after a bulk load stays near the raw bytes, for many tiny and for one huge symbol."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = """
import gc, sys
import numpy as np
import zeptodb

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

symbols, per_symbol = map(int, sys.argv[1:])
rows = symbols * per_symbol
warm = zeptodb.Pipeline(backend="cpu")
warm.ingest_batch([1, 1], [1, 1], [1, 1], [2, 1])
warm.count(1)
pipeline = zeptodb.Pipeline(backend="cpu")
symbol = np.tile(np.arange(symbols), per_symbol)
price = np.arange(rows)
before = resident()
pipeline.ingest_batch(symbol, price, price, price)
assert pipeline.count(0) == per_symbol
gc.collect()
print((resident() - before) / 2**20, rows * 24 / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to read the resident memory")
@pytest.mark.parametrize(("symbols", "per_symbol"), [(100_000, 10), (1, 50_000_000)])
def test_a_bulk_load_takes_at_most_1_4_times_its_raw_bytes_and_32_mb(symbols, per_symbol):
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(symbols), str(per_symbol)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=110,
    )
    used, raw = map(float, done.stdout.split())
    assert used <= 1.4 * raw + 32, f"{used:.0f} MB for {raw:.0f} MB of columns"
