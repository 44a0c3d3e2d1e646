"""Every way in names, orders and defaults the columns of ticks alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from zepto_py import ApexConnection, ArrowSession, StreamingSession, from_arrow, from_pandas, from_polars

COLUMNS = {"symbol_col": "symbol", "price_col": "price", "volume_col": "volume", "timestamp_col": "timestamp"}
SETTINGS = {"price_scale": 1.0, "volume_scale": 1.0, "table_name": "trades"}


@pytest.mark.parametrize(
    "way",
    [
        from_arrow, from_pandas, from_polars,
        ArrowSession.ingest_arrow, ArrowSession.ingest_record_batch, ArrowSession.ingest_arrow_columnar,
        StreamingSession.ingest_arrow, StreamingSession.ingest_iter, StreamingSession.ingest_pandas,
        StreamingSession.ingest_polars,
        ApexConnection.ingest_arrow, ApexConnection.ingest_pandas, ApexConnection.ingest_polars,
    ],
    ids=lambda way: way.__qualname__,
)  # fmt: skip
def test_the_parameters_of_columns_are_the_same(way: Callable[..., object]) -> None:
    takes_frames = way is not ArrowSession.ingest_arrow_columnar
    expected = (COLUMNS if takes_frames else {}) | SETTINGS
    found = {name: p.default for name, p in inspect.signature(way).parameters.items()}
    assert list(found.items())[-len(expected) :] == list(expected.items())
