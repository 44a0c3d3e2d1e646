"""Files of ticks are checked before anything else happens."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zeptodb.demo.ticks import read_files
from zeptodb.errors import InvalidInputError, InvalidTypeError

GOOD = {"timestamp": [2, 1], "symbol": ["B", "A"], "price": [2.5, 1.5], "size": [10, 20], "other": [0, 0]}


def write(folder, columns) -> object:
    path = folder / "trades.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_rows_are_put_in_time_order_and_only_needed_columns_are_read(tmp_path):
    ticks = read_files(write(tmp_path, GOOD), None)
    assert ticks.trades.to_pydict() == {
        "timestamp": [1, 2],
        "symbol": ["A", "B"],
        "price": [1.5, 2.5],
        "size": [20, 10],
    }
    assert ticks.quotes is None


def test_ties_stay_in_file_order(tmp_path):
    ticks = read_files(write(tmp_path, GOOD | {"timestamp": [5, 5]}), None)
    assert ticks.trades["symbol"].to_pylist() == ["B", "A"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_of_any_unit_and_zone_become_nanoseconds(tmp_path, unit):
    stamps = pa.array([datetime(2024, 6, 3, tzinfo=UTC)] * 2, pa.timestamp(unit, "America/New_York"))
    ticks = read_files(write(tmp_path, GOOD | {"timestamp": stamps}), None)
    assert ticks.trades["timestamp"].to_pylist() == [1_717_372_800_000_000_000] * 2


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match=r"There is no file .*nowhere\.parquet"):
        read_files(tmp_path / "nowhere.parquet", None)


def test_a_missing_column_is_named_with_the_nearest_one(tmp_path):
    columns = {("sizes" if name == "size" else name): values for name, values in GOOD.items()}
    with pytest.raises(InvalidInputError, match=r'has no column "size".*Did you mean "sizes"'):
        read_files(write(tmp_path, columns), None)


def test_a_file_that_is_not_parquet_is_named(tmp_path):
    path = tmp_path / "trades.parquet"
    path.write_text("not parquet", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"trades\.parquet cannot be read as Parquet"):
        read_files(path, None)


@pytest.mark.parametrize(
    ("column", "values"),
    [("timestamp", [1.5, 2.5]), ("symbol", [1.5, 2.5]), ("price", ["1", "2"]), ("size", ["1", "2"])],
)
def test_a_column_of_a_wrong_type_is_named(tmp_path, column, values):
    with pytest.raises(InvalidTypeError, match=f'Column "{column}" of .* is .*; it must hold'):
        read_files(write(tmp_path, GOOD | {column: values}), None)


@pytest.mark.parametrize(("column", "values"), [("timestamp", [1, None]), ("symbol", ["A", None])])
def test_nulls_in_a_role_are_refused(tmp_path, column, values):
    with pytest.raises(InvalidInputError, match=f'Column "{column}" of .* has 1 nulls'):
        read_files(write(tmp_path, GOOD | {column: values}), None)


def test_an_empty_file_is_refused(tmp_path):
    empty = {name: pa.array(values)[:0] for name, values in GOOD.items()}
    with pytest.raises(InvalidInputError, match="has no rows"):
        read_files(write(tmp_path, empty), None)
