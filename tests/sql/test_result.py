"""QueryResult: one answer in every shape, from engine vectors and from Arrow."""

from __future__ import annotations

import builtins
import datetime as dt
import sys
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from zeptodb.backends.base import Vector
from zeptodb.errors import BackendUnavailableError, InvalidInputError, QueryError
from zeptodb.sql.result import QueryResult
from zeptodb.storage.dictionary import Dictionary
from zeptodb.types import ColumnType

VALID = np.array([True, False, True])
BIG = 2**62 + 1
NS = 1_700_000_000_123_456_789


def _dictionary(*values: str) -> Dictionary:
    dictionary = Dictionary()
    for value in values:
        dictionary.code(value)
    return dictionary


def _column(
    name: str, values: Any, column_type: ColumnType, *, nulls: bool = False, dictionary: Dictionary | None = None
) -> Any:
    array = np.array(values, dtype=column_type.dtype)
    return name, Vector(array, VALID if nulls else None, column_type), dictionary


def _everything(**options: Any) -> QueryResult:
    return QueryResult(
        [
            _column("i", [1, -2, BIG], ColumnType.INT64),
            _column("n", [1, 7, 3], ColumnType.INT64, nulls=True),
            _column("big", [1, 7, BIG], ColumnType.INT64, nulls=True),
            _column("small", [1, 2, 3], ColumnType.INT32),
            _column("f", [1.5, np.nan, -0.0], ColumnType.FLOAT64),
            _column("g", [1.5, 9.0, np.nan], ColumnType.FLOAT32, nulls=True),
            _column("s", [1, 0, -1], ColumnType.STRING, dictionary=_dictionary("x", "<b>")),
            _column("b", [True, True, False], ColumnType.BOOL, nulls=True),
            _column("t", [NS, 0, -1], ColumnType.TIMESTAMP_NS),
            _column("h", [2**70, 5, -3], ColumnType.HUGEINT, nulls=True),
        ],
        engine="native:cpu",
        **options,
    )


def test_rows_are_plain_python_values() -> None:
    rows = _everything().rows
    assert rows[0] == [1, 1, 1, 1, 1.5, 1.5, "<b>", True, NS, 2**70]
    assert rows[1][1:4] == [None, None, 2]
    assert [type(v) for v in rows[0]] == [int, int, int, int, float, float, str, bool, int, int]
    assert rows[2][2] == BIG
    assert rows[2][6] is None


def test_arrow_types_are_those_of_the_columns() -> None:
    table = _everything().to_arrow()
    assert table.schema.types == [
        pa.int64(),
        pa.int64(),
        pa.int64(),
        pa.int32(),
        pa.float64(),
        pa.float32(),
        pa.string(),
        pa.bool_(),
        pa.int64(),
        pa.decimal128(38, 0),
    ]
    assert [c.null_count for c in table.columns] == [0, 1, 1, 0, 0, 1, 1, 1, 0, 1]
    assert table.column("h").to_pylist() == [Decimal(2**70), None, Decimal(-3)]


def test_numbers_share_memory_with_arrow_and_numpy() -> None:
    values = np.arange(1_000)
    result = QueryResult([("a", Vector(values, None, ColumnType.INT64), None)])
    (chunk,) = result.to_arrow().column(0).chunks
    assert chunk.buffers()[1].address == values.ctypes.data
    array = result.to_numpy()["a"]
    assert np.shares_memory(array, values)
    assert not array.flags.writeable


def test_pandas_has_nan_nat_and_none_for_null_and_loses_no_integer() -> None:
    frame = _everything(timestamps="datetime").to_pandas()
    assert frame["i"].dtype == np.int64
    assert frame["n"].dtype == np.float64
    assert np.isnan(frame["n"][1])
    assert frame["big"].dtype == pd.Int64Dtype()
    assert frame["big"][2] == BIG
    assert pd.isna(frame["s"][2])
    assert frame["b"].tolist() == [True, None, False]
    assert frame["t"].dtype == pd.DatetimeTZDtype("ns", "UTC")
    assert frame["t"][0].value == NS
    assert frame["h"].tolist() == [2**70, None, -3]


def test_polars_has_real_nulls() -> None:
    frame = _everything(timestamps="datetime").to_polars()
    assert frame["n"].to_list() == [1, None, 3]
    assert frame["g"].null_count() == 1
    assert frame.schema["s"] == pl.String
    assert frame.schema["t"] == pl.Datetime("ns", "UTC")
    assert frame["t"].cast(pl.Int64).to_list() == [NS, 0, -1]


def test_numpy_arrays_by_name() -> None:
    arrays = _everything(timestamps="datetime").to_numpy()
    assert arrays["i"].tolist() == [1, -2, BIG]
    assert arrays["n"].dtype == np.float64
    assert arrays["big"].tolist() == [1, None, BIG]
    assert arrays["t"].dtype == np.dtype("datetime64[ns]")
    assert arrays["s"].tolist() == ["<b>", "x", None]
    assert arrays["h"].tolist() == [2**70, None, -3]


def test_timestamps_are_nanoseconds_unless_asked_for_datetimes() -> None:
    assert _everything().to_arrow().column("t").to_pylist() == [NS, 0, -1]
    assert _everything(timestamps="datetime").to_arrow().schema.field("t").type == pa.timestamp("ns", "UTC")
    with pytest.raises(InvalidInputError, match="datetime"):
        _everything(timestamps="iso")


def test_repeated_names_lose_no_data() -> None:
    result = QueryResult([_column(n, [v], ColumnType.INT64) for n, v in (("a", 1), ("a", 2), ("a_1", 3), ("a", 4))])
    assert result.column_names == ["a", "a", "a_1", "a"]
    assert result.rows == [[1, 2, 3, 4]]
    assert result.to_arrow().column_names == ["a", "a", "a_1", "a"]
    for frame in (result.to_pandas(), result.to_polars()):
        assert list(frame.columns) == ["a", "a_2", "a_1", "a_3"]
    assert [v[0] for v in result.to_numpy().values()] == [1, 2, 3, 4]


def test_the_arrow_capsules_feed_polars_duckdb_and_pyarrow() -> None:
    result = _everything()
    expected = result.to_arrow()
    assert pa.table(result).drop_columns(["f", "g"]).equals(expected.drop_columns(["f", "g"]))
    assert pa.schema(result).equals(expected.schema)
    assert pl.DataFrame(result)["i"].to_list() == [1, -2, BIG]
    assert duckdb.sql("SELECT sum(small) FROM result").fetchall() == [(6,)]


def test_an_arrow_answer_of_duckdb_keeps_its_types() -> None:
    table = duckdb.sql(
        "SELECT sum(x) AS s, 170141183460469231731687303715884105727::HUGEINT AS h, DATE '2024-01-02' AS d, "
        "INTERVAL 1 DAY AS i, [1, 2] AS l, 1.25::DECIMAL(9, 2) AS c, 'a'::ENUM('a', 'b') AS e, NULL AS n, "
        "TIMESTAMP '2024-01-01' AS t, {'k': 1} AS k FROM range(3) r(x)"
    ).to_arrow_table()
    result = QueryResult.from_arrow(table)
    arrow = result.to_arrow()
    assert arrow.schema.field("s").type == pa.int64()
    assert arrow.schema.field("h").type == pa.decimal128(38, 0)
    assert arrow.schema.field("e").type == pa.string()
    assert result.rows[0][:3] == [3, 2**127 - 1, table.column("d")[0].as_py()]
    assert result.rows[0][4:8] == [[1, 2], Decimal("1.25"), "a", None]
    frame = result.to_pandas()
    assert frame["l"][0].tolist() == [1, 2]
    assert frame["h"][0] == 2**127 - 1
    assert result.to_numpy()["l"][0] == [1, 2]
    assert result.to_polars()["i"].to_list() == [dt.timedelta(days=1)]


def test_timestamp_columns_of_an_arrow_answer_become_datetimes_on_request() -> None:
    table = pa.table({"t": [NS], "i": [NS]})
    result = QueryResult.from_arrow(table, timestamp_columns=frozenset({0}), timestamps="datetime")
    assert result.to_arrow().schema.types == [pa.timestamp("ns", "UTC"), pa.int64()]
    assert result.rows[0][0].value == NS


def test_results_without_rows_or_columns() -> None:
    for result in (QueryResult(), QueryResult.from_arrow(pa.table({}))):
        assert (len(result), result.rows, result.column_names) == (0, [], [])
        assert result.to_pandas().empty
        assert result.to_polars().is_empty()
        assert result.to_numpy() == {}
    no_rows = QueryResult(
        [_column("a", [], ColumnType.INT64), _column("s", [], ColumnType.STRING, dictionary=_dictionary())]
    )
    assert no_rows.to_arrow().schema.types == [pa.int64(), pa.string()]
    assert no_rows.to_pandas().columns.tolist() == ["a", "s"]
    assert list(no_rows) == []


def test_errors_are_kept_and_raised_on_request() -> None:
    result = QueryResult(error="No such <table>.")
    assert not result.ok()
    assert "No such" in repr(result)
    assert result._repr_html_() == "<pre>No such &lt;table&gt;.</pre>"
    with pytest.raises(QueryError, match="No such"):
        result.raise_for_error()
    assert QueryResult().raise_for_error().ok()


def test_html_shows_the_first_and_last_rows_escaped() -> None:
    shown = _everything()._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert "NULL" in shown
    many = QueryResult([_column("a", range(1_000), ColumnType.INT64)])._repr_html_()
    assert "<td>0</td>" in many
    assert "<td>999</td>" in many
    assert "<td>500</td>" not in many
    assert "1,000 rows" in many


def test_rows_are_built_once_and_iterated() -> None:
    result = _everything()
    assert result.rows is result.rows
    assert list(result) == result.rows
    assert len(result) == 3
    assert "3 rows x 10 columns" in repr(result)


def test_to_cudf_hands_over_one_arrow_table(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[pa.Table] = []
    frame = SimpleNamespace(from_arrow=lambda table: handed.append(table) or "frame")
    monkeypatch.setitem(sys.modules, "cudf", SimpleNamespace(DataFrame=frame))
    values = Vector(np.array([1, 2]), None, ColumnType.INT64)
    result = QueryResult([("a", values, None), ("a", values, None)])
    assert result.to_cudf() == "frame"
    (table,) = handed
    assert table.column_names == ["a", "a_1"]
    assert table.column("a").chunk(0).buffers()[1].address == values.values.ctypes.data
    with pytest.raises(QueryError):
        QueryResult(error="no").to_cudf()


def test_to_cudf_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_cudf(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cudf":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_cudf)
    with pytest.raises(BackendUnavailableError, match="cudf"):
        _everything().to_cudf()
