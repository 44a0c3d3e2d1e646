"""What others take for the same queries: CuPy and torch on the device, DuckDB and polars on the machine's cores."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from time import perf_counter
from typing import Any, Literal

import numpy as np

from bench.gpu.answers import Columns, require_equal
from bench.gpu.engines import Engines
from bench.gpu.expressions import ARRAYS, TORCH, Arrays, Expression
from bench.gpu.frames import Query, duckdb_queries, polars_queries
from bench.gpu.operations import Times, time_operation
from bench.gpu.record import Record
from bench.gpu.rows import SYMBOLS, quotes, trades
from bench.gpu.work import OPERATIONS, Market

SIZES = (1_000_000, 10_000_000, 100_000_000)
_LEAST_RUNS, _MOST_RUNS, _ENOUGH_SECONDS = 3, 20, 0.3
_GROWTH = 12


Queries = Callable[[Market], Mapping[str, Sequence[Query]]]
"""(the rows) -> per operation the ways to answer it, of which the fastest counts"""


@dataclass(frozen=True, slots=True)
class Opponent:
    """Another library.

    Attributes:
        name: as the report prints it.
        module: that must be there.
        queries: per operation what it can do, over its own copy of the rows.
        is_on_device: whether its answers stay on the device, so that ours are timed without the way to the host.
    """

    name: str
    module: str
    queries: Queries
    is_on_device: bool = False


def measure(
    record: Record,
    engines: Engines,
    *,
    sizes: Sequence[int] = SIZES,
    symbols: int = SYMBOLS,
    opponents: Sequence[Opponent] | None = None,
) -> None:
    """Write an entry per opponent, operation and size, each beside ours in the same process."""
    present = []
    for opponent in OPPONENTS if opponents is None else opponents:
        if find_spec(opponent.module) is None:
            record.skipped(opponent.name, f"{opponent.module} is not installed")
        else:
            present.append(opponent)
    costs: dict[str, float] = {}
    for rows in sizes:
        if not record.has_time(f"opponents, {rows:,} rows", _GROWTH * costs.get("load", 0.0)):
            continue
        start = perf_counter()
        market = Market(*(make(engines.device.memory, rows, symbols=symbols) for make in (trades, quotes)))
        ours = _our_answers(record, engines, market)
        costs["load"] = perf_counter() - start
        times = {o.name: time_operation(engines, o, market) for o in OPERATIONS if o.name in ours}
        for opponent in present:
            what = f"{opponent.name}, {rows:,} rows"
            if record.has_time(what, _GROWTH * costs.get(opponent.name, 0.0)):
                start = perf_counter()
                _measure_opponent(record, opponent, market, ours, times)
                costs[opponent.name] = perf_counter() - start


def _our_answers(record: Record, engines: Engines, market: Market) -> dict[str, Columns]:
    """Per operation the device's answer; what the host ran instead is left out."""
    answers = {}
    for operation in OPERATIONS:
        engines.device.host_runs.clear()
        answer = operation.run(engines.device, market)
        if engines.device.host_runs:
            what = f"opponents of {operation.name}, {market.trades.count:,} rows"
            record.skipped(what, f"the host ran ours: {', '.join(engines.device.host_runs)}")
        else:
            answers[operation.name] = answer
    return answers


def _measure_opponent(
    record: Record, opponent: Opponent, market: Market, ours: Mapping[str, Columns], times: Mapping[str, Times]
) -> None:
    rows = market.trades.count
    try:
        queries = opponent.queries(market)
    except Exception as error:  # noqa: BLE001 - whatever another library raises is noted, and the next has its turn
        record.skipped(f"{opponent.name}, {rows:,} rows", _words(error))
        return
    for name, answer in ours.items():
        if name not in queries:
            record.skipped(f"{opponent.name}: {name}", "nobody has written it")
            continue
        samples = []
        for query in queries[name]:
            try:
                samples.append(_compared_and_timed(query, answer, f"{opponent.name}: {name}"))
            except Exception as error:  # noqa: BLE001 - likewise
                record.skipped(f"{opponent.name}: {name}, {rows:,} rows", _words(error))
        if samples:
            our_seconds = times[name].device if opponent.is_on_device else times[name].whole
            record.found(
                "opponent", opponent=opponent.name, version=version(_distribution(opponent.module)), operation=name,
                rows=rows, seconds=min(samples), our_seconds=our_seconds, ratio=min(samples) / our_seconds,
                is_on_device=opponent.is_on_device,
            )  # fmt: skip


def _compared_and_timed(query: Query, ours: Columns, who: str) -> float:
    theirs = query.columns(query.run())
    require_equal(ours[: len(theirs)], theirs, who=who)
    return _median(query.run)


def _median(work: Callable[[], object]) -> float:
    samples: list[float] = []
    while len(samples) < _LEAST_RUNS or (sum(samples) < _ENOUGH_SECONDS and len(samples) < _MOST_RUNS):
        start = perf_counter()
        answer = work()
        samples.append(perf_counter() - start)
        del answer
    return statistics.median(samples)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:400]


def _distribution(module: str) -> str:
    """The package that a module comes with: CuPy's are called by the version of CUDA."""
    from importlib.metadata import packages_distributions

    return packages_distributions().get(module, [module])[0]


# ---- array libraries ----------------------------------------------------------------------------------------------


class ArrayQuery(Query):
    """Expressions of an array library; done when the device is."""

    def columns(self, answer: Any) -> Columns:
        return tuple(np.atleast_1d(_on_host(array)) for array in answer)


def _on_host(array: Any) -> Any:
    if hasattr(array, "get"):
        return array.get()
    return array.cpu().numpy() if hasattr(array, "cpu") else np.asarray(array)


def array_queries(
    library: Any, expressions: Mapping[str, Sequence[Expression]], arrays: Arrays, wait: Callable[[], object]
) -> dict[str, list[Query]]:
    """Each expression, and a wait for the device."""

    def query(expression: Expression) -> Query:
        def run() -> tuple[Any, ...]:
            answer = expression(library, arrays)
            wait()
            return answer

        return ArrayQuery(run)

    return {name: [query(expression) for expression in ways] for name, ways in expressions.items()}


def cupy_queries(market: Market) -> dict[str, list[Query]]:
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()
    arrays = Arrays.of(market, cupy.asarray, lambda n, each: cupy.repeat(cupy.arange(n), each))
    return array_queries(cupy, ARRAYS, arrays, cupy.cuda.runtime.deviceSynchronize)


def torch_queries(market: Market, *, device: Literal["cuda", "cpu"] = "cuda") -> dict[str, list[Query]]:
    import torch

    wait: Callable[[], object] = torch.cuda.synchronize if device == "cuda" else lambda: None  # a CPU is done by itself
    torch.cuda.empty_cache()  # of CUDA's memory, if it is in use

    def to_device(values: Any) -> Any:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    arrays = Arrays.of(market, to_device, lambda n, each: torch.arange(n, device=device).repeat_interleave(each))
    return array_queries(torch, TORCH, arrays, wait)


def _one_way_each(queries: Callable[[Market], Mapping[str, Query]]) -> Queries:
    return lambda market: {name: (query,) for name, query in queries(market).items()}


OPPONENTS = (
    Opponent("CuPy", "cupy", cupy_queries, is_on_device=True),
    Opponent("torch", "torch", torch_queries, is_on_device=True),
    Opponent("DuckDB", "duckdb", _one_way_each(duckdb_queries)),
    Opponent("polars", "polars", _one_way_each(polars_queries)),
)
