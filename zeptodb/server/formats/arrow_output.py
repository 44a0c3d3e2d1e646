"""Arrow's own formats of answers. Columns are not copied on the way: what is written are their own memory and heads."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zeptodb.server.formats.answer import Answer, decoded, is_number

Piece = bytes | memoryview

SHORT_BYTES = 16 * 1024
PIECE_BYTES = 1 << 22
BATCH_ROWS = 1 << 20
"""Rows of a batch, unless the client says how many it wants."""

DECODED_ROWS = 1 << 18
"""Rows of a batch whose columns have to be decoded first."""


class _Sink(io.RawIOBase):
    """Takes what a writer of pyarrow writes, to be handed on piece by piece."""

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

    def take(self, blank: int = 0, columns: Iterable[pa.ChunkedArray] = ()) -> Iterator[Piece]:
        """What has been written since the last call, short pieces joined and long ones cut.

        A part that lies at the address `blank` stands for the values of the next of `columns`.
        """
        parts, self._parts = self._parts, []
        rest = iter(columns)
        short: list[Piece] = []
        for part in parts:
            is_blank = blank and len(part) and pa.py_buffer(part).address == blank
            if len(part) < SHORT_BYTES and not is_blank:
                short.append(part)
                continue
            yield b"".join(short)
            short = []
            for values in _values(next(rest)) if is_blank else (part,):
                for start in range(0, len(values), PIECE_BYTES):
                    yield values[start : start + PIECE_BYTES]
        yield b"".join(short)


def arrow(*, is_file: bool) -> Callable[[Answer], Iterator[Piece]]:
    """The IPC stream, or the IPC file."""

    def write(answer: Answer) -> Iterator[Piece]:
        sink = _Sink()
        make = pa.ipc.new_file if is_file else pa.ipc.new_stream
        if _are_numbers_and_runs(answer):
            blank = _blank(answer)
            with make(sink, _schema_with_runs(answer)) as writer:
                for part in _parts(answer):
                    writer.write_batch(_blank_batch(answer, blank, part))
                    yield from sink.take(blank.address, _written_out(answer, part))
        else:
            with make(sink, answer.schema) as writer:
                for batch in _batches(answer):
                    writer.write_batch(batch)
                    yield from sink.take()
        yield from sink.take()

    return write


def arrow_bytes(answer: Answer, name: str) -> int | None:
    """How long an answer in Arrow will be, without writing it; None for other formats, and if strings are coded."""
    if name not in ("Arrow", "ArrowStream"):
        return None
    size = pa.MockOutputStream()
    make = pa.ipc.new_file if name == "Arrow" else pa.ipc.new_stream
    if _are_numbers_and_runs(answer):
        blank = _blank(answer)
        with make(size, _schema_with_runs(answer)) as writer:
            for part in _parts(answer):
                writer.write_batch(_blank_batch(answer, blank, part))
    elif any(pa.types.is_dictionary(column.type) for column in answer.table.columns):
        return None
    else:
        with make(size, answer.schema) as writer:
            for batch in _batches(answer):
                writer.write_batch(batch)
    return int(size.size())


def parquet(answer: Answer) -> Iterator[Piece]:
    """A Parquet file."""
    sink = _Sink()
    with pq.ParquetWriter(sink, answer.schema) as writer:
        for columns in answer.pieces(1 << 20):
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=answer.schema))
            yield from sink.take()
    yield from sink.take()


def _batches(answer: Answer) -> Iterator[pa.RecordBatch]:
    rows = answer.block_rows or BATCH_ROWS
    if not any(pa.types.is_dictionary(column.type) for column in answer.table.columns):
        yield from answer.table.to_batches(max_chunksize=rows)
        return
    for columns in answer.pieces(min(rows, DECODED_ROWS)):
        yield pa.RecordBatch.from_arrays(columns, schema=answer.schema)


# ---- batches whose columns lie in many chunks ----------------------------------------------------------------------
#
# A batch has each column in one piece. To have pyarrow frame one without copying the chunks together, it is given a
# batch of the same rows over memory that nobody touches; what is sent in its place are the chunks, one by one.


def _are_numbers_and_runs(answer: Answer) -> bool:
    """Whether each column is numbers without NULL, so that its chunks one after the other are its buffer, or runs."""
    return answer.rows > 0 and all(
        i in answer.run_columns or (is_number(kind) and not column.null_count)
        for i, (kind, column) in enumerate(zip(answer.schema.types, answer.table.columns, strict=True))
    )


def _schema_with_runs(answer: Answer) -> pa.Schema:
    kinds = [
        pa.run_end_encoded(pa.int32(), kind) if i in answer.run_columns else kind
        for i, kind in enumerate(answer.schema.types)
    ]
    return pa.schema(list(zip(answer.names, kinds, strict=True)))


def _parts(answer: Answer) -> Iterator[pa.Table]:
    rows = answer.block_rows or BATCH_ROWS
    for start in range(0, answer.rows, rows):
        yield answer.table.slice(start, rows)


def _blank(answer: Answer) -> pa.Buffer:
    """Address space for one column of a batch; the system gives memory to what is touched only, and nothing is."""
    return pa.py_buffer(np.empty(8 * min(answer.block_rows or BATCH_ROWS, answer.rows), dtype=np.uint8))


def _blank_batch(answer: Answer, blank: pa.Buffer, part: pa.Table) -> pa.RecordBatch:
    rows = part.num_rows
    columns = [
        _runs(part.column(i), kind)
        if i in answer.run_columns
        else pa.Array.from_buffers(kind, rows, [None, blank.slice(0, rows * kind.bit_width // 8)], null_count=0)
        for i, kind in enumerate(answer.schema.types)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_schema_with_runs(answer))


def _written_out(answer: Answer, part: pa.Table) -> list[pa.ChunkedArray]:
    return [column for i, column in enumerate(part.columns) if i not in answer.run_columns]


def _runs(column: pa.ChunkedArray, kind: pa.DataType) -> pa.RunEndEncodedArray:
    """A constant column with one run per chunk."""
    ends = np.cumsum([len(chunk) for chunk in column.chunks], dtype=np.int32)
    values = [chunk.dictionary[0].as_py() for chunk in column.chunks]
    return pa.RunEndEncodedArray.from_arrays(pa.array(ends), pa.array(values, kind))


def _values(column: pa.ChunkedArray) -> Iterator[memoryview]:
    """The values of a column of numbers without NULL, chunk by chunk."""
    for chunk in column.chunks:
        for start in range(0, len(chunk), DECODED_ROWS):
            values = decoded(chunk.slice(start, DECODED_ROWS))
            width = values.type.bit_width // 8
            first = values.offset * width
            yield memoryview(values.buffers()[1]).cast("B")[first : first + len(values) * width]
