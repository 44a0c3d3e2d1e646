"""Native and RowBinary: what is written is read back, whatever it is."""

from __future__ import annotations

import contextlib
import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeptodb.errors import ServerError
from zeptodb.server.formats.answer import answer_of
from zeptodb.server.formats.input_binary import read_row_binary
from zeptodb.server.formats.native import NativeWriter, read_native
from zeptodb.server.formats.row_binary import RowBinaryWriter
from zeptodb.server.formats.varint import pack_strings, read_varint, unpack_strings, write_varint
from zeptodb.server.statement import read_insert

VALUES: dict[str, tuple[pa.DataType, st.SearchStrategy[object]]] = {
    "Int8": (pa.int8(), st.integers(-(2**7), 2**7 - 1)),
    "Int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "UInt64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "Float64": (pa.float64(), st.floats(allow_nan=False)),
    "Bool": (pa.bool_(), st.booleans()),
    "String": (pa.string(), st.text(max_size=300)),
    "Date32": (pa.date32(), st.dates(dt.date(1900, 1, 1), dt.date(2299, 12, 31))),
    "DateTime": (pa.timestamp("s"), st.integers(0, 2**32 - 1)),
    "DateTime64(9)": (pa.timestamp("ns"), st.integers(-(2**62), 2**62)),
    "Decimal(9, 2)": (pa.decimal128(9, 2), st.decimals(-9_999_999, 9_999_999, places=2)),
    "Decimal(18, 4)": (pa.decimal128(18, 4), st.decimals(-10**13, 10**13, places=4)),
    "Decimal(38, 3)": (pa.decimal128(38, 3), st.decimals(Decimal(-(10**30)), Decimal(10**30), places=3)),
}  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(1, 30))
    columns = {}
    for number, name in enumerate(draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=5))):
        kind, values = VALUES[name]
        nullable = st.none() | values if draw(st.booleans()) else values
        column = draw(st.lists(nullable, min_size=rows, max_size=rows))
        columns[f"c{number}"] = pa.array(column, kind)
    return pa.table(columns)


@given(tables())
@settings(max_examples=150, deadline=None)
def test_native_and_row_binary_are_read_back(table: pa.Table) -> None:
    names, types = table.column_names, answer_of(table).types
    columns = [column.combine_chunks() for column in table.columns]
    block = NativeWriter(names, types).block(columns, table.num_rows)
    native = pa.Table.from_batches(list(read_native(memoryview(block + block))))
    assert native.to_pydict() == pa.concat_tables([table, table]).to_pydict()
    rows = RowBinaryWriter(names, types).rows(columns, table.num_rows)
    assert read_row_binary(memoryview(rows), names, types).to_pydict() == table.to_pydict()


@given(st.lists(st.text(max_size=200), max_size=50))
def test_strings_are_read_back(texts: list[str]) -> None:
    packed = pack_strings(pa.array(texts, pa.string()))
    assert packed == b"".join(write_varint(len(t.encode())) + t.encode() for t in texts)
    array, end = unpack_strings(memoryview(packed), 0, len(texts))
    assert (array.to_pylist(), end) == (texts, len(packed))


@given(st.integers(0, 2**63 - 1))
def test_numbers_of_variable_length(value: int) -> None:
    data = write_varint(value)
    assert read_varint(memoryview(data), 0) == (value, len(data))


@given(tables(), st.data())
@settings(max_examples=100, deadline=None)
def test_a_cut_block_is_an_error(table: pa.Table, data: st.DataObject) -> None:
    columns = [column.combine_chunks() for column in table.columns]
    block = NativeWriter(table.column_names, answer_of(table).types).block(columns, table.num_rows)
    cut = data.draw(st.integers(1, len(block) - 1))
    with pytest.raises(ServerError):
        list(read_native(memoryview(block[:cut])))


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(ServerError):
        list(read_native(memoryview(data)))


def test_low_cardinality_enum_and_uuid_are_read() -> None:
    head = b"\1\3\1s"
    kind = b"LowCardinality(Nullable(String))"
    dictionary = np.array([1, 0x600, 3], np.uint64).tobytes() + b"\0" + b"\0" + b"\1A"
    indexes = np.array([3], np.uint64).tobytes() + bytes([2, 0, 1])
    block = head + bytes([len(kind)]) + kind + dictionary + indexes
    assert next(read_native(memoryview(block))).to_pydict() == {"s": ["A", None, ""]}
    kind = b"Enum8('buy' = 1, 'sell' = -1)"
    block = head + bytes([len(kind)]) + kind + bytes([1, 255, 1])
    assert next(read_native(memoryview(block))).to_pydict() == {"s": ["buy", "sell", "buy"]}
    block = b"\1\1\1u\4UUID" + bytes(range(16))
    assert next(read_native(memoryview(block))).to_pydict() == {"u": ["07060504-0302-0100-0f0e-0d0c0b0a0908"]}


@pytest.mark.parametrize(
    ("head", "table", "columns", "name"),
    [
        ("INSERT INTO t FORMAT CSV\n1", "t", None, "CSV"),
        ('insert into table `a b` ("x", format, values) format Native\n', "a b", ("x", "format", "values"), "Native"),
        ("INSERT INTO db.t VALUES (1)", "t", None, "Values"),
        ("/* c */ INSERT INTO t SETTINGS a = 1 FORMAT JSONEachRow {", "t", None, "JSONEachRow"),
        ("INSERT INTO format FORMAT TSV\n", "format", None, "TSV"),
    ],
)
def test_heads_of_inserts(head: str, table: str, columns: tuple[str, ...] | None, name: str) -> None:
    found = read_insert(head)
    assert found is not None
    assert (found[0].table, found[0].columns, found[0].format) == (table, columns, name)


@pytest.mark.parametrize(
    "head", ["SELECT 1", "INSERT INTO t SELECT 1", "INSERT INTO t (a) WITH x AS (SELECT 1) SELECT 1", ""]
)
def test_other_statements_have_no_data(head: str) -> None:
    assert read_insert(head) is None
