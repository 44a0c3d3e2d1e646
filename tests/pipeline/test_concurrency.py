"""Eight threads ingest, two query, ten query at once, a child is forked: nothing is lost and nothing is half there."""

from __future__ import annotations

import multiprocessing
import threading

import numpy as np

from zeptodb import Pipeline


def run_threads(*targets) -> list[BaseException]:
    errors: list[BaseException] = []

    def guarded(target):
        try:
            target()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_eight_writers_and_two_readers_lose_nothing():
    pipeline = Pipeline(backend="cpu")
    pipeline.start()
    per_thread, symbols = 3000, 5
    is_done = threading.Event()
    seen: list[int] = []

    def write(number: int) -> None:
        for i in range(per_thread):
            pipeline.ingest(symbol=i % symbols, price=number, volume=i)

    def read() -> None:
        last = 0
        while not is_done.is_set():
            total = pipeline.execute("SELECT count(*) FROM trades").rows[0][0]
            assert total >= last, "ticks vanished"
            last = total
            seen.append(total)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    errors = run_threads(*(lambda n=n: write(n) for n in range(8)))
    is_done.set()
    for reader in readers:
        reader.join()
    assert not errors
    assert sum(pipeline.count(s) for s in range(symbols)) == 8 * per_thread
    for symbol in range(symbols):
        times = pipeline.get_column(symbol, "timestamp")
        assert (np.diff(times) >= 0).all()
        prices, volumes = pipeline.get_column(symbol, "price"), pipeline.get_column(symbol, "volume")
        for number in range(8):
            assert volumes[prices == number].tolist() == list(range(symbol, per_thread, symbols)), "order of a thread"
    pipeline.stop()
    assert pipeline.stats().ticks_stored == 8 * per_thread


def test_ten_threads_query_at_once():
    rng = np.random.default_rng(0)
    pipeline = Pipeline(backend="cpu")
    rows = 300_000
    symbols, prices, volumes = rng.integers(0, 50, rows), rng.integers(1, 1000, rows), rng.integers(1, 10, rows)
    pipeline.ingest_batch(symbols, prices, volumes, np.arange(rows))
    want = {s: int(volumes[symbols == s].sum()) for s in range(50)}

    def query() -> None:
        for _ in range(5):
            result = pipeline.execute("SELECT symbol, sum(volume) AS v FROM trades GROUP BY symbol ORDER BY symbol")
            assert dict(result.rows) == want

    assert run_threads(*[query] * 10) == []


def child_queries(pipeline: Pipeline, want: int, answers) -> None:
    total = pipeline.execute("SELECT sum(volume) FROM trades").rows[0][0]
    pipeline.ingest(symbol=1, price=1, volume=1)
    pipeline.drain()
    answers.put((total == want, pipeline.count(1)))


def test_a_forked_child_queries_and_ingests():
    pipeline = Pipeline(backend="cpu")
    pipeline.start()
    rows = 400_000
    pipeline.ingest_batch(np.ones(rows, np.int64), np.arange(rows), np.ones(rows, np.int64), np.arange(rows))
    assert pipeline.execute("SELECT sum(volume) FROM trades").rows == [[rows]]
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=child_queries, args=(pipeline, rows, answers))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert answers.get() == (True, rows + 1)
    assert pipeline.count(1) == rows
    pipeline.stop()


def test_views_stay_as_they_are_after_more_ingest_late_rows_and_the_end_of_the_pipeline():
    pipeline = Pipeline(backend="cpu")
    pipeline.ingest_batch([1] * 100, range(100), range(100), range(0, 1000, 10))
    views = {name: pipeline.get_column(1, name) for name in ("price", "volume", "timestamp")}
    before = {name: view.tolist() for name, view in views.items()}
    pipeline.ingest_batch([1] * 3, [-1, -2, -3], [0] * 3, [5, 500, 995])
    assert pipeline.get_column(1, "price").tolist()[:2] == [0, -1]
    pipeline.ingest_batch([1] * 200_000, [7] * 200_000, [7] * 200_000, range(200_000))
    assert pipeline.count(1) == 200_103
    del pipeline
    assert {name: view.tolist() for name, view in views.items()} == before
