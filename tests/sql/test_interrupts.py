"""Ctrl-C during a long statement is raised to the caller and leaves a working pipeline."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from zeptodb.pipeline import Pipeline

ROWS = 200_000
SOON_SECONDS = 0.05
ENDLESS = {
    "products": "SELECT count(*) AS n FROM trades a, trades b, trades c WHERE a.price + b.price + c.price = 7",
    "a sort": "SELECT median(a.price + x.i) AS m FROM trades a, range(2_000_000) x(i)",
}

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this platform has no interval timers")


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    rng = np.random.default_rng(1)
    with Pipeline() as made:
        made.ingest_batch(
            rng.integers(0, 10, ROWS), rng.integers(1, 1_000, ROWS), rng.integers(1, 100, ROWS), np.arange(ROWS)
        )
        made.warm_up()
        yield made


@pytest.fixture
def interrupt_soon() -> Iterator[None]:
    """Interrupt the main thread once, as Ctrl-C does."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, SOON_SECONDS)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def assert_works(pipeline: Pipeline) -> None:
    assert pipeline.execute("SELECT count(*) AS n FROM trades").rows == [[ROWS]]
    assert pipeline.execute("SELECT median(symbol) >= 0 AS m, count(*) AS n FROM trades").rows == [[True, ROWS]]
    assert sum(pipeline.count(symbol) for symbol in range(10)) == ROWS


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.usefixtures("interrupt_soon")
def test_an_endless_statement_in_duckdb_ends(pipeline: Pipeline, name: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        pipeline.execute(ENDLESS[name])
    assert_works(pipeline)


@pytest.mark.usefixtures("interrupt_soon")
def test_native_statements_end(pipeline: Pipeline) -> None:
    statements = (
        "SELECT symbol, stddev(price * 1e0) AS s FROM trades WHERE price > 3 GROUP BY symbol",
        "SELECT price % 50 AS k, vwap(price, volume) AS v FROM trades GROUP BY k",
        "SELECT price, volume FROM trades WHERE price > 3 ORDER BY price DESC LIMIT 10",
    )

    def run_on() -> None:
        while True:
            for sql in statements:
                assert pipeline.execute(sql).engine == "native:cpu"

    with pytest.raises(KeyboardInterrupt):
        run_on()
    assert_works(pipeline)


def test_statements_of_other_threads_go_on(pipeline: Pipeline) -> None:
    answers: list[list[list[object]]] = []
    sql = "SELECT median(symbol) AS m FROM trades"
    worker = threading.Thread(target=lambda: answers.append(pipeline.execute(sql).rows))
    worker.start()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    worker.join()
    assert len(answers[0]) == 1
    assert_works(pipeline)
