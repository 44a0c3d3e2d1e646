"""Formats of answers: each writes a head, pieces of rows, and a tail."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from zeptodb.errors import did_you_mean
from zeptodb.record import record
from zeptodb.server.codes import Code, failure
from zeptodb.server.formats.answer import PIECE_ROWS, Answer, plain
from zeptodb.server.formats.arrow_output import Piece, arrow, parquet
from zeptodb.server.formats.native import NativeWriter
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

TSV_TYPE = "text/tab-separated-values; charset=UTF-8"
CSV_TYPE = "text/csv; charset=UTF-8; header="
TEXT_TYPE = "text/plain; charset=UTF-8"
JSON_TYPE = "application/json; charset=UTF-8"
LINES_TYPE = "application/x-ndjson"
BINARY_TYPE = "application/octet-stream"


Writer = Callable[[Answer], Iterator[Piece]]


@record
class OutputFormat:
    """A format of answers: its name, its media type, and what writes it."""

    name: str
    media_type: str
    write: Writer


def _native(answer: Answer) -> Iterator[bytes]:
    writer = NativeWriter(answer.names, answer.types, protocol_version=answer.protocol_version)
    if not answer.rows:
        yield writer.block([plain(column) for column in answer.table.columns], 0)
    for columns in answer.pieces(answer.block_rows or PIECE_ROWS):
        yield writer.block(columns, len(columns[0]))


def _row_binary(*, names: bool, types: bool) -> Writer:
    def write(answer: Answer) -> Iterator[bytes]:
        writer = RowBinaryWriter(answer.names, answer.types)
        if names:
            yield writer.head(with_types=types)
        for columns in answer.pieces():
            yield writer.rows(columns, len(columns[0]))

    return write


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
    OutputFormat("Arrow", BINARY_TYPE, arrow(is_file=True)),
    OutputFormat("ArrowStream", BINARY_TYPE, arrow(is_file=False)),
    OutputFormat("Parquet", BINARY_TYPE, parquet),
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
