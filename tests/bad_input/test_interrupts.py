"""Ctrl-C during a long ingest leaves a working Pipeline: nothing lost, nothing twice, no half batch."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest

import zeptodb
from tests.storage.interrupt import Interrupter
from zepto_py import StreamingSession


def volumes_of(pipeline: zeptodb.Pipeline, symbols: range) -> Counter[int]:
    found = [pipeline.get_column(symbol, "volume").tolist() for symbol in symbols]
    return Counter(volume for volumes in found for volume in volumes)


def test_interrupted_drains_store_every_accepted_tick_exactly_once() -> None:
    for at in count(1, step=2):
        pipeline = zeptodb.Pipeline(backend="cpu")
        for number in range(12):
            pipeline.ingest(symbol=number % 3, price=1, volume=number, timestamp=100 - number if number % 5 else None)
        was_interrupted = Interrupter(at).run(pipeline.drain)
        pipeline.ingest(symbol=0, price=1, volume=12)
        assert volumes_of(pipeline, range(3)) == Counter(range(13)), at
        stats = pipeline.stats()
        assert (stats.ticks_ingested, stats.ticks_stored, stats.ticks_dropped) == (13, 13, 0), at
        pipeline.stop()
        if not was_interrupted:
            return


def test_an_interrupted_ingest_batch_has_stored_all_rows_or_none() -> None:
    outcomes = set()
    for at in count(1, step=3):
        pipeline = zeptodb.Pipeline(backend="cpu")
        pipeline.ingest_batch([1, 2], [1, 1], [0, 1], [10, 10])
        if not Interrupter(at).run(lambda p=pipeline: p.ingest_batch([2, 3, 3], [1, 1, 1], [2, 3, 4], [5, 20, 6])):
            break
        rows = pipeline.count(1) + pipeline.count(2) + pipeline.count(3)
        assert volumes_of(pipeline, range(1, 4)) == Counter(range(rows))
        outcomes.add(rows)
        pipeline.ingest_batch([3], [1], [9], [30])
        assert pipeline.get_column(3, "volume")[-1] == 9
        pipeline.stop()
    assert outcomes == {2, 5}


def test_a_real_signal_stops_a_generator_and_what_came_before_is_stored() -> None:
    def ticks() -> Iterator[dict[str, int]]:
        for number in range(1_000):
            if number == 700:
                signal.raise_signal(signal.SIGINT)
            yield {"symbol": number % 7, "price": 1, "volume": number}

    pipeline = zeptodb.Pipeline(backend="cpu")
    session = StreamingSession(pipeline, batch_size=100)
    with pytest.raises(KeyboardInterrupt):
        session.ingest_iter(ticks())
    stored = volumes_of(pipeline, range(7))
    assert session.stats().rows_ingested == stored.total() == 700
    assert stored == Counter(range(700))
    assert session.ingest_iter([{"symbol": 1, "price": 1, "volume": 1}]) == 1


@pytest.mark.parametrize(("rows", "is_in_order"), [(20_000, True), (150_000, False)], ids=["few rows", "in no order"])
def test_signals_at_random_moments_leave_whole_batches(
    monkeypatch: pytest.MonkeyPatch, rows: int, is_in_order: bool
) -> None:
    # An interrupt within a destructor is lost, as everywhere in Python. That pytest takes milliseconds to describe such
    # a loss, in which the next interrupt arrives, is not what we test.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    pipeline = zeptodb.Pipeline(zeptodb.PipelineConfig(num_threads=2), backend="cpu")
    symbols = np.arange(rows) % 50
    stamps = None if is_in_order else np.random.default_rng(2).permutation(rows)
    main = ctypes.c_ulong(threading.main_thread().ident or 0)
    lock = threading.Lock()
    may_interrupt = False

    def interrupt() -> None:
        nonlocal may_interrupt
        random = np.random.default_rng(1)
        for _ in range(30):
            time.sleep(random.random() * 0.02)
            with lock:
                if may_interrupt:
                    may_interrupt = False
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(main, ctypes.py_object(KeyboardInterrupt))

    thread = threading.Thread(target=interrupt)
    began = interrupted = 0
    thread.start()
    while thread.is_alive():
        began += 1
        try:
            may_interrupt = True
            pipeline.ingest_batch(symbols, np.full(rows, began), symbols, stamps)
            with lock:
                may_interrupt = False
            for _ in range(3):
                pass  # what was sent last arrives here at the latest
        except KeyboardInterrupt:
            interrupted += 1
    thread.join()
    assert interrupted
    prices = np.concatenate([pipeline.get_column(symbol, "price") for symbol in range(50)])
    counts = np.unique(prices, return_counts=True)[1]
    assert set(counts.tolist()) == {rows}
    assert all((np.diff(pipeline.get_column(symbol, "timestamp")) >= 0).all() for symbol in range(50))
    assert began - interrupted <= len(counts) <= began
    assert pipeline.execute("SELECT count(*) FROM trades").rows == [[len(prices)]]
