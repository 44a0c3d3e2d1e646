"""AsofJoin of every backend against the plain-Python oracle, polars and DuckDB."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeptodb.backends.base import AsofJoin, Backend, Scan
from zeptodb.backends.expression import Arithmetic, Comparison, Constant, Kind
from zeptodb.types import INT64_MAX, INT64_MIN, ColumnType, Field, Schema

from . import oracle
from .build import Segment, Table, random_table, ranges
from .compare import assert_columns, to_list

OPS = (">=", ">", "<=", "<")
SEARCH = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
QUOTES = Schema(
    (Field("timestamp", ColumnType.TIMESTAMP_NS), Field("bid", ColumnType.INT64)),
    timestamp="timestamp",
)


def check(backend: Backend, left: Table, right: Table, operation: AsofJoin) -> None:
    assert_columns(backend.asof_join(operation), oracle.asof_join(left, right, operation))


def join(
    left: Table,
    right: Table,
    op: str,
    *,
    keep: bool = True,
    tolerance: int | None = None,
    predicate: bool = False,
    owners: list[int] | None = None,
) -> AsofJoin:
    condition = Comparison(">", left.column("f64"), Constant(100.0, Kind.FLOAT)) if predicate else None
    count = len(left.segments)
    return AsofJoin(
        left=Scan(left.snapshot, left.all_rows(), condition),
        right=Scan(right.snapshot, right.all_rows()),
        right_segments=np.array(owners if owners is not None else range(count), dtype=np.int64),
        op=op,  # type: ignore[arg-type]
        keep_unmatched=keep,
        left_outputs=tuple(left.column(n) for n in ("symbol", "timestamp", "i64", "f32")),
        right_outputs=(
            *(right.column(n) for n in ("timestamp", "i64", "f64", "flag", "text", "symbol")),
            Arithmetic("+", right.column("f64"), right.column("f64")),
        ),
        tolerance_ns=tolerance,
    )


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("tolerance", [None, 0, 6])
@pytest.mark.parametrize("predicate", [False, True])
def test_join_agrees_with_plain_python(
    backend: Backend, op: str, keep: bool, tolerance: int | None, predicate: bool
) -> None:
    left = random_table(1, (60, 0, 9, 4, 30), null_share=0.2, time_span=200, time_origin=-100)
    right = random_table(2, (25, 8, 0, 50), null_share=0.2, nan_share=0.1, time_span=150, time_origin=-60)
    operation = join(left, right, op, keep=keep, tolerance=tolerance, predicate=predicate, owners=[0, 1, 2, -1, 3])
    check(backend, left, right, operation)


@SEARCH
@given(data=st.data())
def test_random_joins_agree_with_plain_python(backend: Backend, data: st.DataObject) -> None:
    spans = st.sampled_from([1, 5, 50, 10_000])
    sizes = data.draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=3))
    seed = data.draw(st.integers(0, 10**6))
    left = random_table(seed, [n for n, _ in sizes], time_span=data.draw(spans))
    right = random_table(seed + 1, [n for _, n in sizes], time_span=data.draw(spans), null_share=0.2)
    operation = join(
        left,
        right,
        data.draw(st.sampled_from(OPS)),
        keep=data.draw(st.booleans()),
        tolerance=data.draw(st.none() | st.integers(0, 20)),
        predicate=data.draw(st.booleans()),
    )
    check(backend, left, right, operation)


def quotes(times: list[int], bids: list[int]) -> Table:
    return Table(QUOTES, [Segment(0, [np.array(times, dtype=np.int64), np.array(bids, dtype=np.int64)])])


def bids(backend: Backend, left: Table, right: Table, op: str, tolerance: int | None = None) -> list[object]:
    operation = AsofJoin(
        Scan(left.snapshot, left.all_rows()), Scan(right.snapshot, right.all_rows()), np.zeros(1, dtype=np.int64),
        op, True, (), (right.column("bid"),), tolerance,  # type: ignore[arg-type]
    )  # fmt: skip
    return to_list(backend.asof_join(operation)[0])


def test_ties_take_the_last_arrived(backend: Backend) -> None:
    left, right = quotes([5], [0]), quotes([4, 4, 5, 5, 6, 6], [1, 2, 3, 4, 5, 6])
    assert [bids(backend, left, right, op) for op in OPS] == [[4], [2], [4], [6]]


def test_times_at_the_ends_of_int64(backend: Backend) -> None:
    right = quotes([INT64_MIN, 0, INT64_MAX], [1, 2, 3])
    left = quotes([INT64_MIN, INT64_MAX], [0, 0])
    assert [bids(backend, left, right, op) for op in OPS] == [[1, 3], [None, 2], [1, 3], [2, None]]
    assert bids(backend, quotes([INT64_MAX], [0]), quotes([INT64_MIN], [7]), ">=", INT64_MAX) == [None]
    assert bids(backend, quotes([INT64_MAX], [0]), quotes([INT64_MIN], [7]), ">=") == [7]


def test_sparse_left_rows_skip_over_many_right_rows(backend: Backend) -> None:
    right = quotes(list(range(0, 200_000, 2)), list(range(100_000)))
    left = quotes([-1, 0, 1, 77_777, 77_777, 199_997, 500_000], [0] * 7)
    assert bids(backend, left, right, ">=") == [None, 0, 0, 38_888, 38_888, 99_998, 99_999]
    assert bids(backend, left, right, "<") == [0, 1, 1, 38_889, 38_889, 99_999, None]


@pytest.mark.parametrize(("op", "strategy"), [(">=", "backward"), ("<=", "forward")])
@pytest.mark.parametrize("tolerance", [None, 300])
def test_large_join_agrees_with_polars(backend: Backend, op: str, strategy: str, tolerance: int | None) -> None:
    pl = pytest.importorskip("polars")
    sizes = (150_000, 10, 40_000)
    left = random_table(21, sizes, time_span=10**8)
    right = random_table(22, (200_000, 5, 1000), time_span=10**8)
    found = backend.asof_join(join(left, right, op, tolerance=tolerance))
    expected = []
    for s in range(len(sizes)):
        a = pl.DataFrame({"timestamp": left.segments[s].values[1]}).set_sorted("timestamp")
        b = pl.DataFrame({"timestamp": right.segments[s].values[1], "i64": right.segments[s].values[2]})
        # Polars does not say which of equal times it takes: keep the one that the contract names.
        b = b.unique("timestamp", keep="last", maintain_order=True).set_sorted("timestamp")
        expected += a.join_asof(b, on="timestamp", strategy=strategy, tolerance=tolerance)["i64"].to_list()
    assert to_list(found[5]) == expected


@pytest.mark.parametrize("op", OPS)
def test_large_inner_join_agrees_with_duckdb(backend: Backend, op: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    rng = np.random.default_rng(4)
    times = np.sort(rng.choice(10**7, 50_000, replace=False))
    right = quotes(times.tolist(), list(range(len(times))))
    stamps = np.sort(rng.choice(10**7, 30_000, replace=False))
    left = quotes(stamps.tolist(), list(range(len(stamps))))
    operation = AsofJoin(
        Scan(left.snapshot, ranges([(0, 0, len(stamps))])), Scan(right.snapshot, right.all_rows()),
        np.zeros(1, dtype=np.int64), op, False, (left.column("bid"),), (right.column("bid"),),  # type: ignore[arg-type]
    )  # fmt: skip
    found = list(itertools.chain.from_iterable(zip(*map(to_list, backend.asof_join(operation)), strict=True)))
    with duckdb.connect() as connection:
        connection.register("l", {"t": stamps, "x": np.arange(len(stamps))})
        connection.register("r", {"t": times, "x": np.arange(len(times))})
        rows = connection.sql(f"SELECT l.x, r.x FROM l ASOF JOIN r ON l.t {op} r.t ORDER BY l.x").fetchall()
    assert found == list(itertools.chain.from_iterable(rows))
