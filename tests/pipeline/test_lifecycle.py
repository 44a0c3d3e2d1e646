"""Start, stop, drain, configuration, statistics: what the facade promises around the data."""

from __future__ import annotations

import numpy as np
import pytest

import zeptodb
from zeptodb import Pipeline, PipelineConfig, StorageMode


def test_ticks_are_visible_before_start_and_after_stop():
    pipeline = Pipeline(backend="cpu")
    pipeline.ingest(symbol=1, price=100, volume=2)
    assert pipeline.count(1) == 1
    pipeline.start()
    pipeline.ingest(symbol=1, price=200, volume=2)
    assert pipeline.vwap(1) == 150.0
    pipeline.stop()
    assert pipeline.sum(symbol=1, col="volume") == 4
    assert pipeline.get_column(symbol=1, name="price").tolist() == [100, 200]


def test_every_ingest_after_stop_raises_and_a_new_start_takes_ticks_again():
    pipeline = Pipeline(backend="cpu")
    pipeline.start()
    pipeline.stop()
    one = np.array([1])
    for ingest in (
        lambda: pipeline.ingest(1, 1, 1),
        lambda: pipeline.ingest_batch(one, one, one),
        lambda: pipeline.append("trades", {"symbol": one, "price": one, "volume": one}),
    ):
        with pytest.raises(zeptodb.PipelineStoppedError, match=r"start\(\)"):
            ingest()
    pipeline.start()
    pipeline.ingest(1, 1, 1)
    pipeline.stop()
    pipeline.stop()
    assert pipeline.count(1) == 1


def test_nothing_is_lost_when_the_queue_is_full_and_nobody_drains():
    pipeline = Pipeline(PipelineConfig(queue_capacity=10, drain_batch_size=4), backend="cpu")
    for i in range(1000):
        pipeline.ingest(symbol=i % 3, price=i, volume=1)
    assert sum(pipeline.count(s) for s in range(3)) == 1000
    assert pipeline.get_column(1, "price").tolist() == list(range(1, 1000, 3))
    stats = pipeline.stats()
    assert (stats.ticks_ingested, stats.ticks_stored, stats.ticks_dropped) == (1000, 1000, 0)


def test_a_full_queue_may_drop_only_when_asked_to_and_counts_it():
    pipeline = Pipeline(PipelineConfig(queue_capacity=10, overflow="drop"), backend="cpu")
    for i in range(25):
        pipeline.ingest(symbol=1, price=i, volume=1)
    assert pipeline.stats().ticks_dropped == 15
    assert pipeline.count(1) == 10


def test_statistics_count_rows_queries_and_segments():
    pipeline = Pipeline(backend="cpu")
    pipeline.ingest_batch([1, 2, 2], [10, 20, 30], [1, 1, 1])
    pipeline.ingest(3, 1, 1)
    pipeline.count(2)
    assert pipeline.execute("SELECT count(*) FROM trades").rows == [[4]]
    stats = pipeline.stats()
    assert (stats.ticks_ingested, stats.ticks_stored, stats.partitions_created) == (4, 4, 3)
    assert stats.queries_executed == 2
    assert stats.total_rows_scanned >= 2
    assert stats.last_ingest_latency_ns > 0


def test_unknown_symbols_give_nan_zero_and_nothing():
    pipeline = Pipeline(backend="cpu")
    pipeline.ingest_batch([1], [10], [0])
    assert np.isnan(pipeline.vwap(9))
    assert np.isnan(pipeline.vwap(1)), "zero volume"
    assert (pipeline.count(9), pipeline.sum(9)) == (0, 0)
    assert pipeline.get_column(9, "price").tolist() == []
    with pytest.raises(zeptodb.InvalidTypeError, match="are integers"):
        pipeline.count("AIG")


def test_unknown_columns_and_tables_name_the_known_ones():
    pipeline = Pipeline(backend="cpu")
    with pytest.raises(zeptodb.UnknownColumnError, match='Did you mean "price"'):
        pipeline.get_column(1, "prise")
    with pytest.raises(zeptodb.UnknownTableError, match='Did you mean "trades"'):
        pipeline.count(1, table="trade")


def test_time_ranges_include_their_start_and_exclude_their_end():
    pipeline = Pipeline(backend="cpu")
    pipeline.ingest_batch([1] * 5, [1, 2, 3, 4, 5], [1] * 5, [-10, 0, 10, 10, 20])
    assert pipeline.count(1, from_ns=0, to_ns=20) == 3
    assert pipeline.sum(1, "price", from_ns=10) == 12
    assert pipeline.vwap(1, to_ns=0) == 1.0
    assert pipeline.count(1, from_ns=20, to_ns=10) == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arena_size": 10}, "arena_size is 10; it must be at least"),
        ({"drain_batch_size": 0}, "drain_batch_size is 0"),
        ({"drain_batch_size": 2.5}, r"drain_batch_size is 2\.5; give a whole number"),
        ({"queue_capacity": True}, "queue_capacity is True"),
        ({"overflow": "explode"}, "overflow is 'explode'; allowed: 'block', 'drop'"),
        ({"num_threads": 0}, "num_threads is 0"),
    ],
)
def test_nonsensical_settings_raise_and_name_the_field(fields, message):
    with pytest.raises(zeptodb.ConfigError, match=message):
        PipelineConfig(**fields)


@pytest.mark.parametrize("fields", [{"storage_mode": StorageMode.TIERED}, {"data_dir": "x"}, {"wal_sync": "always"}])
def test_features_that_are_not_there_raise_instead_of_being_ignored(fields):
    with pytest.raises(zeptodb.NotSupportedError, match=next(iter(fields))):
        PipelineConfig(**fields)


def test_the_cuda_backend_says_what_is_missing(monkeypatch):
    with pytest.raises(zeptodb.BackendUnavailableError, match=r"cuda.*CuPy is not installed \(pip install"):
        Pipeline(backend="cuda")
    monkeypatch.setenv("ZEPTODB_BACKEND", "cuda")
    with pytest.raises(zeptodb.BackendUnavailableError):
        Pipeline()
    with pytest.raises(zeptodb.ConfigError, match="'tpu'"):
        Pipeline(backend="tpu")


def test_the_pipeline_names_its_backend_and_tables():
    pipeline = Pipeline(PipelineConfig(num_threads=2), backend="cpu")
    assert "cpu" in repr(pipeline.backend)
    assert "2 threads" in repr(pipeline)
    assert "trades: 0 rows" in repr(pipeline)


def test_more_than_half_a_million_rows_of_one_symbol_in_one_hour_and_over_many_days():
    pipeline = Pipeline(backend="cpu")
    rows = 600_000
    hour = 3600 * 10**9
    times = np.concatenate([np.linspace(0, hour - 1, rows).astype(np.int64), np.arange(1, 200) * 7 * hour])
    prices = np.arange(len(times))
    pipeline.ingest_batch(np.ones(len(times), np.int64), prices, prices, times)
    assert pipeline.count(1) == len(times)
    assert pipeline.count(1, from_ns=0, to_ns=hour) == rows
    first_last = pipeline.execute("SELECT first(price), last(price) FROM trades WHERE symbol = 1")
    assert first_last.rows == [[0, len(times) - 1]]
