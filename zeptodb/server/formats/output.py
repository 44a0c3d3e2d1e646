"""Formats of answers: each writes a head, pieces of rows, and a tail."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from zeptodb.errors import did_you_mean
from zeptodb.server.codes import Code, failure
from zeptodb.server.formats.native import NativeWriter, schema_types
from zeptodb.server.formats.pretty import markdown, pretty, pretty_compact, vertical, xml
from zeptodb.server.formats.row_binary import RowBinaryWriter
from zeptodb.server.formats.text import (
    csv,
    json_compact,
    json_compact_each_row,
    json_each_row,
    json_objects,
    json_strings_each_row,
    tab_separated,
    tab_separated_raw,
    tskv,
    values,
)
from zeptodb.server.formats.types import normalized

SHORT_BYTES = 16 * 1024
PIECE_BYTES = 1 << 22
PIECE_ROWS = 65_536
"""Rows that are encoded at once, and that a Native block has."""

TSV_TYPE = "text/tab-separated-values; charset=UTF-8"
CSV_TYPE = "text/csv; charset=UTF-8; header="
TEXT_TYPE = "text/plain; charset=UTF-8"
JSON_TYPE = "application/json; charset=UTF-8"
LINES_TYPE = "application/x-ndjson"
BINARY_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Answer:
    """A table to be written.

    Attributes:
        table: the columns as `normalized` leaves them.
        types: their types in ClickHouse's words.
        elapsed_seconds: how long the statement took.
        rows_read: rows that were read for it.
        protocol_version: of the client, for Native.
        quotes_integers: whether JSON writes 64-bit integers as strings.
    """

    table: pa.Table
    types: list[str]
    elapsed_seconds: float = 0.0
    rows_read: int = 0
    protocol_version: int = 0
    quotes_integers: bool = False
    names: list[str] = field(default_factory=list)


def answer_of(table: pa.Table, **facts: object) -> Answer:
    """An answer over the columns of a result."""
    columns = [normalized(column) for column in table.columns]
    fields = [pa.field(name, column.type) for name, column in zip(table.column_names, columns, strict=True)]
    ready = pa.Table.from_arrays(columns, schema=pa.schema(fields))
    return Answer(ready, schema_types(ready), names=list(table.column_names), **facts)  # type: ignore[arg-type]


def pieces(table: pa.Table, rows: int = PIECE_ROWS) -> Iterator[tuple[list[pa.Array], int]]:
    """The columns of so many rows at a time, each as one array."""
    for start in range(0, table.num_rows, rows):
        part = table.slice(start, rows)
        yield [_one_array(column) for column in part.columns], part.num_rows


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


Piece = bytes | memoryview
Writer = Callable[[Answer], Iterator[Piece]]


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """A format of answers: its name, its media type, and what writes it."""

    name: str
    media_type: str
    write: Writer


def _native(answer: Answer) -> Iterator[bytes]:
    writer = NativeWriter(answer.names, answer.types, protocol_version=answer.protocol_version)
    if not answer.table.num_rows:
        yield writer.block(list(answer.table.columns), 0)
    for columns, rows in pieces(answer.table):
        yield writer.block(columns, rows)


def _row_binary(*, names: bool, types: bool) -> Writer:
    def write(answer: Answer) -> Iterator[bytes]:
        writer = RowBinaryWriter(answer.names, answer.types)
        if names:
            yield writer.head(with_types=types)
        for columns, rows in pieces(answer.table):
            yield writer.rows(columns, rows)

    return write


class _Sink(io.RawIOBase):
    """Takes what a writer of pyarrow writes, to be handed on piece by piece; columns are not copied."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[Piece] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = data if isinstance(data, bytes) else memoryview(data)  # type: ignore[arg-type]
        self._parts.append(part)
        self._position += len(part)
        return len(part)

    def tell(self) -> int:
        return self._position

    def take(self) -> Iterator[Piece]:
        """What has been written since the last call, short pieces joined and long ones cut."""
        parts, self._parts = self._parts, []
        short: list[Piece] = []
        for part in parts:
            if len(part) < SHORT_BYTES:
                short.append(part)
                continue
            yield b"".join(short)
            short = []
            for start in range(0, len(part), PIECE_BYTES):
                yield part[start : start + PIECE_BYTES]
        yield b"".join(short)


def arrow_bytes(answer: Answer, chosen: OutputFormat) -> int | None:
    """How long an answer in Arrow will be, without writing it; None for other formats."""
    if chosen.name not in ("Arrow", "ArrowStream"):
        return None
    size = pa.MockOutputStream()
    make = pa.ipc.new_file if chosen.name == "Arrow" else pa.ipc.new_stream
    with make(size, answer.table.schema) as writer:
        for batch in answer.table.to_batches():
            writer.write_batch(batch)
    return int(size.size())


def _arrow(*, is_file: bool) -> Writer:
    def write(answer: Answer) -> Iterator[Piece]:
        sink = _Sink()
        make = pa.ipc.new_file if is_file else pa.ipc.new_stream
        with make(sink, answer.table.schema) as writer:
            for batch in answer.table.to_batches():
                writer.write_batch(batch)
                yield from sink.take()
        yield from sink.take()

    return write


def _parquet(answer: Answer) -> Iterator[Piece]:
    sink = _Sink()
    with pq.ParquetWriter(sink, answer.table.schema) as writer:
        for start in range(0, answer.table.num_rows, 16 * PIECE_ROWS):
            writer.write_table(answer.table.slice(start, 16 * PIECE_ROWS))
            yield from sink.take()
    yield from sink.take()


def _null(answer: Answer) -> Iterator[bytes]:  # noqa: ARG001
    yield b""


FORMATS: tuple[OutputFormat, ...] = (
    OutputFormat("TabSeparated", TSV_TYPE, tab_separated(names=False, types=False)),
    OutputFormat("TabSeparatedRaw", TSV_TYPE, tab_separated_raw),
    OutputFormat("TabSeparatedWithNames", TSV_TYPE, tab_separated(names=True, types=False)),
    OutputFormat("TabSeparatedWithNamesAndTypes", TSV_TYPE, tab_separated(names=True, types=True)),
    OutputFormat("CSV", CSV_TYPE + "absent", csv(names=False)),
    OutputFormat("CSVWithNames", CSV_TYPE + "present", csv(names=True)),
    OutputFormat("JSON", JSON_TYPE, json_objects),
    OutputFormat("JSONCompact", JSON_TYPE, json_compact),
    OutputFormat("JSONEachRow", LINES_TYPE, json_each_row),
    OutputFormat("JSONCompactEachRow", LINES_TYPE, json_compact_each_row),
    OutputFormat("JSONStringsEachRow", LINES_TYPE, json_strings_each_row),
    OutputFormat("Values", TEXT_TYPE, values),
    OutputFormat("TSKV", TSV_TYPE, tskv),
    OutputFormat("Vertical", TEXT_TYPE, vertical),
    OutputFormat("Pretty", TEXT_TYPE, pretty),
    OutputFormat("PrettyCompact", TEXT_TYPE, pretty_compact),
    OutputFormat("Markdown", TEXT_TYPE, markdown),
    OutputFormat("XML", "application/xml; charset=UTF-8", xml),
    OutputFormat("Native", BINARY_TYPE, _native),
    OutputFormat("RowBinary", BINARY_TYPE, _row_binary(names=False, types=False)),
    OutputFormat("RowBinaryWithNames", BINARY_TYPE, _row_binary(names=True, types=False)),
    OutputFormat("RowBinaryWithNamesAndTypes", BINARY_TYPE, _row_binary(names=True, types=True)),
    OutputFormat("Arrow", BINARY_TYPE, _arrow(is_file=True)),
    OutputFormat("ArrowStream", BINARY_TYPE, _arrow(is_file=False)),
    OutputFormat("Parquet", BINARY_TYPE, _parquet),
    OutputFormat("Null", TEXT_TYPE, _null),
)

_ALIASES = {
    "tsv": "TabSeparated",
    "tsvraw": "TabSeparatedRaw",
    "tsvwithnames": "TabSeparatedWithNames",
    "tsvwithnamesandtypes": "TabSeparatedWithNamesAndTypes",
    "ndjson": "JSONEachRow",
    "jsonlines": "JSONEachRow",
    "prettycompactmonoblock": "PrettyCompact",
    "prettymonoblock": "Pretty",
    "prettyspace": "PrettyCompact",
    "prettynoescapes": "Pretty",
    "prettycompactnoescapes": "PrettyCompact",
}
_BY_NAME = {chosen.name.lower(): chosen for chosen in FORMATS}


def output_format(name: str) -> OutputFormat:
    """The format of a name, in any case; raises UNKNOWN_FORMAT, naming the nearest."""
    key = name.lower()
    chosen = _BY_NAME.get(_ALIASES.get(key, key).lower())
    if chosen is None:
        known = [known.name for known in FORMATS]
        raise failure(Code.UNKNOWN_FORMAT, f'Format "{name[:60]}" is unknown.{did_you_mean(name[:60], known)}')
    return chosen
