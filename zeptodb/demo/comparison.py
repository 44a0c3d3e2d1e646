"""Several engines at the same work: answers compared first, then the work timed in turns.

The demo and the benchmarks share this. A contender's answer is anything that polars can read as a frame.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol

from zeptodb.errors import InvalidInputError, ZeptoError
from zeptodb.record import record

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

FLOAT_TOLERANCE = 1e-9
SHORTEST_SAMPLE_NS = 20_000_000  # shorter calls are repeated within one sample


class Answer(Protocol):
    """An Arrow table, a polars or pandas frame, a QueryResult: whatever speaks Arrow's stream interface."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The columns as an Arrow stream."""
        ...


class AnswersDifferError(ZeptoError):
    """Two engines gave different answers to the same question, so that their times mean nothing."""


@record
class Contender:
    """One engine's way of doing the work.

    Attributes:
        name: of the engine, as tables print it.
        call: does the work and returns the answer with all its columns in memory.
        prepare: runs before each call, untimed; such a call changes something and is never repeated in a sample.
    """

    name: str
    call: Callable[[], Answer]
    prepare: Callable[[], object] | None = None


@record
class Timing:
    """Seconds that one call took, one entry per run."""

    name: str
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median seconds per call."""
        return statistics.median(self.samples)


def first_answers(contenders: Sequence[Contender], *, keys: Sequence[str], work: str) -> Answer:
    """Each contender's answer from an untimed run, compared with the first one's, which is returned.

    Raises AnswersDifferError; see `require_equal`.
    """
    if not contenders:
        raise InvalidInputError(f"{work}: give at least one contender.")
    first, *others = contenders
    answer = _run(first)
    for other in others:
        require_equal({first.name: answer, other.name: _run(other)}, keys=keys, work=work)
    return answer


def time_in_turns(contenders: Sequence[Contender], *, repeat: int) -> list[Timing]:
    """Time the contenders `repeat` times, taking turns, so that a slow moment of the machine hits all of them.

    A turn begins with an untimed call (where calls change nothing), so that none pays for the memory and the caches
    that the one before it has left.
    """
    if repeat < 1:
        raise InvalidInputError(f"repeat is {repeat}; it must be at least 1.")
    calls = [_calls_per_sample(contender) for contender in contenders]
    samples: list[list[float]] = [[] for _ in contenders]
    for _ in range(repeat):
        for contender, count, taken in zip(contenders, calls, samples, strict=True):
            if contender.prepare is None:
                contender.call()
            taken.append(_timed(contender, count))
    return [Timing(c.name, tuple(taken)) for c, taken in zip(contenders, samples, strict=True)]


def fastest(candidates: Iterable[Callable[[], Answer]]) -> Callable[[], Answer]:
    """The candidate that takes least time on its second call; for engines that offer several ways."""

    def second_call(candidate: Callable[[], Answer]) -> float:
        contender = Contender("", candidate)
        _run(contender)
        return _timed(contender, 1)

    return min(candidates, key=second_call)


def require_equal(answers: Mapping[str, Answer], *, keys: Sequence[str], work: str) -> None:
    """Raise AnswersDifferError unless all answers hold the same rows, whatever their order.

    Rows are matched after sorting by `keys`. Names of columns, counts of rows, NULLs, integers and strings must be
    equal, floats within 1e-9 of each other relative to the larger; NaN equals NaN.
    """
    (first_name, first), *others = ((name, _sorted_frame(answer, keys)) for name, answer in answers.items())
    for name, other in others:
        pair = f"{work}: {first_name} and {name}"
        if first.columns != other.columns:
            raise AnswersDifferError(f"{pair} answer with different columns: {first.columns} and {other.columns}.")
        if first.height != other.height:
            raise AnswersDifferError(f"{pair} answer with {first.height:,} and {other.height:,} rows.")
        for column in first.columns:
            difference = _first_difference(first[column], other[column])
            if difference is not None:
                at = ", ".join(f"{key}={first[key][difference]}" for key in keys)
                raise AnswersDifferError(
                    f"{pair} differ in column {column}, first at {at or f'row {difference}'}: "
                    f"{first[column][difference]!r} ({first[column].dtype}) and "
                    f"{other[column][difference]!r} ({other[column].dtype})."
                )


def _run(contender: Contender) -> Answer:
    if contender.prepare is not None:
        contender.prepare()
    return contender.call()


def _timed(contender: Contender, calls: int) -> float:
    """Seconds per call over so many calls; freeing the last answer is not counted."""
    if contender.prepare is not None:
        contender.prepare()
    call = contender.call
    start = perf_counter_ns()
    for _ in range(calls - 1):
        call()
    answer = call()
    elapsed = perf_counter_ns() - start
    del answer
    return elapsed / calls / 1e9


def _calls_per_sample(contender: Contender) -> int:
    if contender.prepare is not None:
        return 1
    return max(1, round(SHORTEST_SAMPLE_NS / 1e9 / max(_timed(contender, 1), 1e-8)))


def _sorted_frame(answer: Answer, keys: Sequence[str]) -> pl.DataFrame:
    import polars as pl

    frame = pl.DataFrame(answer)
    return frame.sort(keys, nulls_last=True) if keys else frame


def _first_difference(left: pl.Series, right: pl.Series) -> int | None:
    """Index of the first row in which two columns differ, None if they are equal."""
    import numpy as np

    if len(left) == 0:
        return None
    if _kind(left) != _kind(right):
        return 0
    nulls = left.is_null().to_numpy()
    null_in_one = nulls != right.is_null().to_numpy()
    if null_in_one.any():
        return int(np.argmax(null_in_one))
    unequal = _unequal_values(left.drop_nulls(), right.drop_nulls())
    return int(np.flatnonzero(~nulls)[np.argmax(unequal)]) if unequal.any() else None


def _unequal_values(left: pl.Series, right: pl.Series) -> npt.NDArray[np.bool_]:
    """Per row whether two columns of the same kind and without NULL differ."""
    import numpy as np
    import polars as pl

    kind = _kind(left)
    if kind == "integer":
        unequal: Any = (left.cast(pl.Int128) != right.cast(pl.Int128)).to_numpy()
    elif kind == "float":
        a, b = (column.cast(pl.Float64).to_numpy() for column in (left, right))
        with np.errstate(invalid="ignore"):  # infinities subtract to NaN
            close = np.abs(a - b) <= FLOAT_TOLERANCE * np.maximum(np.abs(a), np.abs(b))
        unequal = ~(close | (a == b) | (np.isnan(a) & np.isnan(b)))
    else:
        unequal = (left.cast(pl.String) != right.cast(pl.String)).to_numpy()
    return np.asarray(unequal, dtype=np.bool_)


def _kind(column: pl.Series) -> str:
    """What an engine's type means; each has its own idea of how wide a sum or how named a string is."""
    dtype = column.dtype
    if dtype.is_integer() or (dtype.is_decimal() and getattr(dtype, "scale", None) == 0):
        return "integer"
    if dtype.is_float():
        return "float"
    return str(dtype) if dtype.is_temporal() or dtype.is_nested() else "text"
