"""Interop for ZeptoDB: pandas, polars and Arrow in and out of an in-process Pipeline, and of a server over HTTP.

    from zepto_py import from_polars, query_to_pandas

pandas, polars and pyarrow are imported by the calls that need them.
"""

from __future__ import annotations

from zepto_py.arrow import ArrowSession
from zepto_py.connection import ApexConnection, ZeptoConnection, connect
from zepto_py.exports import query_to_pandas, query_to_polars, to_pandas, to_polars
from zepto_py.imports import from_arrow, from_pandas, from_polars
from zepto_py.streaming import StreamingSession, StreamingStats

__all__ = [
    "ApexConnection",
    "ArrowSession",
    "StreamingSession",
    "StreamingStats",
    "ZeptoConnection",
    "connect",
    "from_arrow",
    "from_pandas",
    "from_polars",
    "query_to_pandas",
    "query_to_polars",
    "to_pandas",
    "to_polars",
]
