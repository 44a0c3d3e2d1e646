"""SAMPLE: the same rows of a table for the same fraction, whatever else the statement asks for."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from sqlglot import exp

from zeptodb.backends.base import Ranges
from zeptodb.errors import QueryError
from zeptodb.sql.rewrite import Rewriter
from zeptodb.sql.time_values import call
from zeptodb.storage.snapshot import Snapshot

_HASH_BITS = 64
_UNNAMED = "sampled"

BoolArray = npt.NDArray[np.bool_]


def fraction_of(node: exp.Expr, rewriter: Rewriter) -> float | None:
    """Take the fraction of `... SAMPLE fraction` off an item of FROM; None when there is none.

    Raises QueryError for one outside (0, 1].
    """
    given = node.args.get("fraction")
    if given is None:
        return None
    node.set("fraction", None)
    value: object = None
    if isinstance(given, exp.Placeholder):
        value = rewriter.parameter(given)
    elif isinstance(given, exp.Literal) and not given.is_string:
        value = float(given.name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        shown = given.sql("duckdb") if not isinstance(given, exp.Placeholder) else repr(value)
        raise QueryError(
            f"SAMPLE takes a fraction above 0 and up to 1, such as 0.1, got {shown}. "
            "For a number of rows or a percentage write USING SAMPLE."
        )
    rewriter.has_changed = True
    return float(value)


def sampled(node: exp.Expr, fraction: float) -> exp.Subquery:
    """A subquery of the rows of `node`, no table of ours, whose contents hash to the fraction of all hashes."""
    name = node.alias_or_name or _UNNAMED
    alias = node.args.get("alias")
    if alias is None:
        node.set("alias", exp.TableAlias(this=exp.to_identifier(name, quoted=True)))
    row_hash = call("hash", exp.column(exp.to_identifier(name, quoted=True)))
    limit = exp.Literal.number(str(min(int(fraction * 2**_HASH_BITS), 2**_HASH_BITS - 1)))
    inner = node.copy() if node.parent is None else node
    query = exp.Select(expressions=[exp.Star()])
    outer = exp.Subquery(this=query, alias=exp.TableAlias(this=exp.to_identifier(name, quoted=True)))
    inner.replace(outer)
    query.set("from_", exp.From(this=inner))
    query.set("where", exp.Where(this=exp.LTE(this=row_hash, expression=limit)))
    return outer


def sample_mask(snapshot: Snapshot, ranges: Ranges, fraction: float) -> BoolArray:
    """Which rows of the ranges, one after the other, belong to the sample.

    That is decided by a row's symbol and its place among the rows of the symbol: later rows change nothing about it,
    and a sample of a smaller fraction is part of one of a larger.
    """
    limit = np.uint64(min(int(fraction * 2**_HASH_BITS), 2**_HASH_BITS - 1))
    masks = [
        _hashes(_seed(snapshot, segment), start, end) <= limit
        for segment, start, end in zip(
            ranges.segments.tolist(), ranges.starts.tolist(), ranges.ends.tolist(), strict=True
        )
    ]
    return np.concatenate(masks) if masks else np.zeros(0, np.bool_)


def _seed(snapshot: Snapshot, segment: int) -> int:
    """A number made of the symbol's text, so that the order in which symbols arrived does not matter."""
    column = snapshot.schema.symbol_index
    key = int(snapshot.symbols[segment])
    dictionary = snapshot.dictionaries[column] if column >= 0 else None
    text = str(key) if dictionary is None else dictionary.values[key]
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _hashes(seed: int, start: int, end: int) -> npt.NDArray[np.uint64]:
    """splitmix64 of the places start to end."""
    with np.errstate(over="ignore"):
        state = np.arange(start + 1, end + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
