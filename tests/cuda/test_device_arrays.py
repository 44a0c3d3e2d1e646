"""Arrays on the device: stored columns in the image of the arenas, and copies of results."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.cuda.conftest import emulated
from zeptodb.backends.cuda.driver import OutOfDeviceMemoryError
from zeptodb.config import PipelineConfig
from zeptodb.errors import (
    BackendUnavailableError,
    InvalidTypeError,
    QueryError,
    UnknownColumnError,
    UnknownTableError,
)
from zeptodb.pipeline import Pipeline

Make = Callable[..., Pipeline]
ARENA = 64 * 1024


@pytest.fixture
def pipeline(make_pipeline: Make) -> Pipeline:
    made = make_pipeline(emulated())
    places = np.arange(3_000, dtype=np.int64)
    made.ingest_batch(places % 3, places * 7, places % 11, places)
    return made


def fetched(array: Any) -> list[Any]:
    return array.get().tolist()


# ---- stored columns ------------------------------------------------------------------------------------------------


def test_a_column_on_the_device_is_the_hosts(pipeline: Pipeline) -> None:
    for name in ("price", "volume", "timestamp", "symbol"):
        on_device, on_host = pipeline.get_column(2, name, device=True), pipeline.get_column(2, name)
        assert on_device.dtype == on_host.dtype
        assert fetched(on_device) == on_host.tolist()


def test_it_is_described_as_other_libraries_want_it(pipeline: Pipeline) -> None:
    column = pipeline.get_column(1, "price", device=True)
    interface = column.__cuda_array_interface__
    assert (interface["version"], interface["shape"], interface["typestr"]) == (3, (1_000,), "<i8")
    assert column.__dlpack_device__() == (2, 0)
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(column)
    with pytest.raises(TypeError):
        pipeline.get_column(1, "price") + column


def test_it_is_no_copy_of_what_queries_read(pipeline: Pipeline) -> None:
    first, second = (pipeline.get_column(1, "price", device=True) for _ in range(2))
    pipeline.execute("SELECT sum(price) FROM trades")
    uploaded = pipeline.backend.image.stats.uploaded_bytes
    third = pipeline.get_column(1, "price", device=True)
    assert first.array.address == second.array.address == third.array.address
    assert pipeline.backend.image.stats.uploaded_bytes == uploaded == 3 * 1_000 * 8


def test_only_the_segment_that_is_asked_for_is_brought_up(pipeline: Pipeline) -> None:
    pipeline.get_column(1, "price", device=True)
    assert pipeline.backend.image.stats.uploaded_bytes == 1_000 * 8
    pipeline.execute("SELECT sum(price) FROM trades")
    assert pipeline.backend.image.stats.uploaded_bytes == 3 * 1_000 * 8


def test_it_stays_as_it_is_whatever_comes_later(pipeline: Pipeline) -> None:
    column = pipeline.get_column(1, "price", device=True)
    before = fetched(column)
    pipeline.ingest_batch([1] * 5_000, [1] * 5_000, [1] * 5_000, list(range(10_000, 15_000)))
    pipeline.execute("SELECT symbol, sum(price), max(price) FROM trades GROUP BY symbol")
    for late in range(5):
        pipeline.ingest_batch([1] * 50, [9] * 50, [9] * 50, [late] * 50)
        pipeline.execute("SELECT symbol, sum(price), max(price) FROM trades GROUP BY symbol")
        assert fetched(column) == before
    latest = pipeline.get_column(1, "price", device=True)
    assert fetched(latest) == pipeline.get_column(1, "price").tolist()
    assert latest.size == 6_250


def test_late_rows_that_have_room_in_the_block_do_not_displace_it(pipeline: Pipeline) -> None:
    column = pipeline.get_column(1, "price", device=True)
    before = fetched(column)
    gc.collect()
    pipeline.ingest_batch([1], [123_456], [1], [2])
    assert pipeline.execute("SELECT max(price) FROM trades").rows == [[123_456]]
    assert fetched(column) == before
    assert fetched(pipeline.get_column(1, "price", device=True)) == pipeline.get_column(1, "price").tolist()


def test_late_rows_of_one_segment_leave_what_is_known_of_others_true(pipeline: Pipeline) -> None:
    pipeline.execute("SELECT sum(price) FROM trades")
    pipeline.ingest_batch([0, 1, 2], [1_000, 2_000, 3_000], [1, 1, 1], [5, 5, 5])
    assert fetched(pipeline.get_column(1, "price", device=True)) == pipeline.get_column(1, "price").tolist()
    for symbol in (0, 2):
        assert (
            fetched(pipeline.get_column(symbol, "price", device=True)) == pipeline.get_column(symbol, "price").tolist()
        )
    with Pipeline(backend="cpu") as cpu:
        for symbol in range(3):
            columns = [pipeline.get_column(symbol, name) for name in ("price", "volume", "timestamp")]
            cpu.ingest_batch(np.full(len(columns[0]), symbol), *columns)
        sql = "SELECT symbol, sum(price), first(price), last(price) FROM trades GROUP BY symbol ORDER BY symbol"
        assert pipeline.execute(sql).rows == cpu.execute(sql).rows


def test_it_outlives_the_pipeline_and_the_image(make_pipeline: Make) -> None:
    driver = emulated()
    config = PipelineConfig(arena_size=ARENA)
    pipeline = make_pipeline(driver, config=config, device_memory_limit=2 * ARENA)
    places = np.arange(12_000, dtype=np.int64)
    pipeline.ingest_batch(places % 3, places, places, places)
    column = pipeline.get_column(0, "price", device=True)
    before = fetched(column)
    for name in ("volume", "timestamp", "price"):
        for symbol in (1, 2):
            pipeline.get_column(symbol, name, device=True)
    assert pipeline.backend.image.stats.evictions > 0
    assert fetched(column) == before
    assert pipeline.execute("DROP TABLE trades").ok()
    gc.collect()
    assert fetched(column) == before


def test_memory_goes_back_with_the_last_view(make_pipeline: Make) -> None:
    pipeline = make_pipeline(emulated())
    pipeline.ingest_batch([1, 1], [2, 3], [4, 5], [1, 2])
    column = pipeline.get_column(1, "price", device=True)
    memory = weakref.ref(column.array.memory)
    assert pipeline.execute("DROP TABLE trades").ok()
    pipeline.backend.image._mirrors.clear()
    gc.collect()
    assert memory() is not None
    del column
    gc.collect()
    assert memory() is None


def test_an_unknown_symbol_has_an_empty_column(pipeline: Pipeline) -> None:
    empty = pipeline.get_column(99, "price", device=True)
    assert (empty.size, empty.dtype) == (0, np.int64)


def test_types_and_codes_are_the_hosts(make_pipeline: Make) -> None:
    pipeline = make_pipeline(emulated())
    data = {
        "symbol": ["a", "b", "a"], "venue": ["x", "y", "z"], "price": [1.5, 2.5, 3.5],
        "size": np.array([1, 2, 3], "i4"), "is_buy": [True, False, True], "timestamp": [1, 2, 3],
    }  # fmt: skip
    pipeline.append("fills", data)
    for name in ("venue", "price", "size", "is_buy", "timestamp"):
        on_host = pipeline.get_column("a", name, "fills")
        on_device = pipeline.get_column("a", name, "fills", device=True)
        assert (fetched(on_device), on_device.dtype) == (on_host.tolist(), on_host.dtype)


def test_what_is_not_there_is_named(pipeline: Pipeline) -> None:
    with pytest.raises(UnknownColumnError):
        pipeline.get_column(1, "prise", device=True)
    with pytest.raises(UnknownTableError):
        pipeline.get_column(1, "price", "nothing", device=True)


def test_a_cpu_pipeline_says_what_is_missing() -> None:
    with Pipeline(backend="cpu") as pipeline, pytest.raises(BackendUnavailableError) as raised:
        pipeline.get_column(1, "price", device=True)
    assert str(raised.value).startswith("get_column(device=True) needs a GPU, and this pipeline runs on cpu (")
    assert 'backend="cuda", or leave device out' in str(raised.value)


def test_a_device_without_room_says_so_and_queries_go_on(make_pipeline: Make) -> None:
    pipeline = make_pipeline(emulated(memory_limit=1 << 20))
    places = np.arange(200_000, dtype=np.int64)
    pipeline.ingest_batch(places % 3, places, places, places)
    with pytest.raises(OutOfDeviceMemoryError):
        pipeline.get_column(1, "price", device=True)
    assert pipeline.execute("SELECT count(*) FROM trades WHERE volume >= 0").rows == [[200_000]]


def test_the_hosts_column_is_the_page_locked_memory(pipeline: Pipeline) -> None:
    pipeline.get_column(1, "price", device=True)
    address = pipeline.get_column(1, "price").__array_interface__["data"][0]
    registered = pipeline.backend.driver.registered
    assert any(begin <= address < begin + size for begin, size in registered.items())


def test_nobody_waits_for_one_who_waits_for_him(make_pipeline: Make) -> None:
    pipeline = make_pipeline(emulated(), config=PipelineConfig(arena_size=ARENA))
    places = np.arange(300, dtype=np.int64)
    pipeline.ingest_batch(places % 3, places, places, places)
    # Who reads the view computes it under the view's lock, on the device.
    sql = "CREATE MATERIALIZED VIEW sums AS SELECT symbol, sum(price) AS s FROM trades GROUP BY symbol"
    assert pipeline.execute(sql).ok()

    def read() -> list[object]:
        found = []
        for price in range(40):
            pipeline.ingest_batch([1] * 5, [price] * 5, [60] * 5, [0] * 5)
            result = pipeline.execute("SELECT count(*) FROM sums WHERE s > 0")
            found.append(result.error or result.rows[0][0])
        return found

    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read)
        while not reading.done():
            column = pipeline.get_column(1, "s", "sums", device=True)
            assert column.size == len(column.get())
            with pipeline.catalog.get("trades").snapshot() as snapshot:
                pipeline.backend.uploads.ask(snapshot, frozenset({1, 2}))
        assert reading.result() == [3] * 40
    pipeline.backend.uploads.wait()
    assert not pipeline.backend.uploads.failures


# ---- results -------------------------------------------------------------------------------------------------------

RESULT = (
    "SELECT symbol, sum(price) AS s, avg(price) AS a, max(price) > 9000 AS b FROM trades GROUP BY symbol "
    "ORDER BY symbol"
)


def test_a_result_goes_to_the_device_in_one_copy(pipeline: Pipeline) -> None:
    result = pipeline.execute(RESULT)
    copies = pipeline.backend.driver.copies
    columns = result.to_cupy()
    assert pipeline.backend.driver.copies == copies + 1
    assert {name: fetched(column) for name, column in columns.items()} == {
        name: column.tolist() for name, column in result.to_numpy().items()
    }
    assert columns["a"].__cuda_array_interface__["typestr"] == "<f8"


def test_null_and_moments_have_numbers(pipeline: Pipeline) -> None:
    sql = "SELECT CASE WHEN volume = 0 THEN NULL ELSE volume END AS v, timestamp AS t FROM trades LIMIT 3"
    result = pipeline.execute(sql, timestamps="datetime")
    columns = {name: column.get() for name, column in result.to_cupy().items()}
    assert np.array_equal(columns["v"], [np.nan, 3.0, 6.0], equal_nan=True)
    assert columns["t"].tolist() == [0, 3, 6]
    assert columns["t"].dtype == np.int64


def test_answers_of_duckdb_go_there_too(pipeline: Pipeline) -> None:
    result = pipeline.execute("SELECT median(price) AS m, count(*) AS m FROM trades")
    assert result.engine == "duckdb"
    assert {name: fetched(column) for name, column in result.to_cupy().items()} == {"m": [10496.5], "m_1": [3000]}


def test_an_empty_result_is_empty_arrays(pipeline: Pipeline) -> None:
    columns = pipeline.execute("SELECT price FROM trades WHERE volume < 0").to_cupy()
    assert fetched(columns["price"]) == []


def test_what_is_no_number_is_named(pipeline: Pipeline) -> None:
    with pytest.raises(InvalidTypeError, match='Column "name" is no column of numbers'):
        pipeline.execute("SELECT price, 'x' AS name FROM trades").to_cupy()
    with pytest.raises(InvalidTypeError, match="2\\*\\*53"):
        pipeline.execute(
            "SELECT CASE WHEN volume = 0 THEN NULL ELSE 9007199254740992 + volume END AS big FROM trades"
        ).to_cupy()
    with pytest.raises(QueryError):
        pipeline.execute("SELECT nothing FROM trades").to_cupy()


def test_a_result_of_the_cpu_says_what_is_missing() -> None:
    with Pipeline(backend="cpu") as pipeline, pytest.raises(BackendUnavailableError, match=r"to_cupy\(\) needs a GPU"):
        pipeline.execute("SELECT count(*) FROM trades").to_cupy()
