"""ClickHouse's functions of time, over our columns of int64 nanoseconds as well as over real timestamps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from sqlglot import exp

from zeptodb.server.clickhouse_words import Rewrite, arguments_of, function_name, template
from zeptodb.server.codes import Code, failure

NANOSECONDS = 1_000_000_000

_TO_MOMENT = template("make_timestamp_ns($1)")
_SECONDS_TO_MOMENT = template("make_timestamp(CAST($1 AS BIGINT) * 1000000)")
_TEXT_TO_MOMENT = template("CAST($1 AS TIMESTAMP_NS)")
_MILLIS_TO_MOMENT = template("CAST(make_timestamp(CAST($1 AS BIGINT) * 1000) AS TIMESTAMP_MS)")
_MICROS_TO_MOMENT = template("make_timestamp(CAST($1 AS BIGINT))")

_STARTS = {
    "tostartoffiveminutes": "5 minutes", "tostartoffiveminute": "5 minutes", "tostartoftenminutes": "10 minutes",
    "tostartoffifteenminutes": "15 minutes",
}  # fmt: skip

_PARTS = {
    "toyear": "year", "tomonth": "month", "todayofmonth": "day", "tohour": "hour",
    "tominute": "minute",
    "tosecond": "second", "toquarter": "quarter", "todayofyear": "doy", "dayofweekiso": "isodow",
}  # fmt: skip

_STEPS = ("second", "minute", "hour", "day", "week", "month", "quarter", "year")

_GIVES_TIME = frozenset(
    ("todatetime", "todatetime64", "todate", "todate32", "now", "now64", "today", "yesterday", "timestamptrunc",
     "datetrunc", "tostartofinterval", "tostartofweek", "fromunixtimestamp", "fromunixtimestamp64milli",
     "fromunixtimestamp64micro", "fromunixtimestamp64nano", "parsedatetimebesteffort", "currenttimestamp",
     "currentdate", "make_timestamp_ns", "unixtotime", "datebin", "dateadd", *_STARTS,
     *(f"add{step}s" for step in _STEPS), *(f"subtract{step}s" for step in _STEPS))
)  # fmt: skip


class TimeWords:
    """The functions of time for statements in which some columns hold nanoseconds."""

    def __init__(self, time_columns: frozenset[str]) -> None:
        """`time_columns`: names, in lower case, of columns of nanoseconds since 1970."""
        self._time_columns = time_columns

    def rewrite(self, node: exp.Expr) -> exp.Expr | None:
        """What stands for a function of time; None for other nodes."""
        if isinstance(node, (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.EQ, exp.NEQ)):
            return self._comparison(node)
        if isinstance(node, exp.Between):
            return self._between(node)
        if not isinstance(node, exp.Func):
            return None
        name, arguments = function_name(node), arguments_of(node)
        if isinstance(node, (exp.TimestampTrunc, exp.DateTrunc)):
            return self._truncated(node)
        rewrite = _WORDS.get(name)
        return rewrite(self, arguments) if rewrite is not None else None

    def moment(self, node: exp.Expr) -> exp.Expr:
        """An argument as a timestamp: our nanoseconds, text, or numbers, which are seconds."""
        inner = node.unnest()
        if self._is_time_column(inner):
            return _TO_MOMENT([node])
        if isinstance(inner, exp.Literal) and inner.is_string:
            return _TEXT_TO_MOMENT([node])
        if self._gives_time(inner):
            return node
        return _SECONDS_TO_MOMENT([node])

    def _is_time_column(self, node: exp.Expr) -> bool:
        return isinstance(node, exp.Column) and node.name.lower() in self._time_columns

    def _gives_time(self, node: exp.Expr) -> bool:
        if isinstance(node, exp.Cast):
            return bool(node.to.is_type(*exp.DataType.TEMPORAL_TYPES))
        if isinstance(node, exp.Func):
            return function_name(node) in _GIVES_TIME
        if isinstance(node, (exp.Add, exp.Sub)):
            return any(self._gives_time(part.unnest()) for part in (node.this, node.expression))
        return isinstance(node, exp.Column) and node.name.lower() not in self._time_columns

    # ---- comparisons of our nanoseconds with timestamps --------------------------------------------------------------

    def _comparison(self, node: exp.Expr) -> exp.Expr | None:
        for side, other in (("this", "expression"), ("expression", "this")):
            column, value = node.args[side], node.args[other]
            if self._is_time_column(column.unnest()) and self._gives_time(value.unnest()) and not _is_column(value):
                made = node.copy()
                made.set(other, _nanoseconds(value))
                return made
        return None

    def _between(self, node: exp.Expr) -> exp.Expr | None:
        low, high = node.args["low"], node.args["high"]
        if not self._is_time_column(node.this.unnest()) or not self._gives_time(low.unnest()) or _is_column(low):
            return None
        made = node.copy()
        made.set("low", _nanoseconds(low))
        made.set("high", _nanoseconds(high))
        return made

    # ---- functions ------------------------------------------------------------------------------------------------

    def _truncated(self, node: exp.Expr) -> exp.Expr | None:
        if not self._is_time_column(node.this.unnest()):
            return None
        made = node.copy()
        made.set("this", self.moment(node.this))
        return _narrow(made, "TIMESTAMP_S")

    def date_time(self, arguments: list[exp.Expr]) -> exp.Expr:
        """toDateTime."""
        return _narrow(self.moment(arguments[0]), "TIMESTAMP_S")

    def date_time_64(self, arguments: list[exp.Expr]) -> exp.Expr:
        """toDateTime64, of 3, 6 or 9 digits."""
        digits = int(arguments[1].name) if len(arguments) > 1 and arguments[1].name.isdecimal() else 3
        kind = "TIMESTAMP_MS" if digits <= 3 else "TIMESTAMP" if digits <= 6 else "TIMESTAMP_NS"
        return _narrow(self.moment(arguments[0]), kind)

    def date(self, arguments: list[exp.Expr]) -> exp.Expr:
        """toDate; small numbers are days."""
        argument = arguments[0].unnest()
        if isinstance(argument, exp.Literal) and not argument.is_string and len(argument.name) < 6:
            return template("DATE '1970-01-01' + CAST($1 AS INTEGER)")([argument])
        return exp.cast(self.moment(arguments[0]), "DATE", dialect="duckdb")

    def interval(self, arguments: list[exp.Expr]) -> exp.Expr:
        """toStartOfInterval: from 1970 on; weeks begin on Monday."""
        if len(arguments) < 2 or not isinstance(arguments[1], exp.Interval):
            raise failure(Code.BAD_ARGUMENTS, "toStartOfInterval takes a time and an INTERVAL 5 MINUTE or the like.")
        unit = str(arguments[1].args.get("unit") or "").lower().rstrip("s")
        origin = "TIMESTAMP '1970-01-05'" if unit == "week" else "TIMESTAMP '1970-01-01'"
        moment = exp.cast(self.moment(arguments[0]), "TIMESTAMP", dialect="duckdb")
        made = template(f"time_bucket($1, $2, {origin})")([arguments[1], moment])
        return exp.cast(made, "TIMESTAMP_S" if unit in _STEPS else "TIMESTAMP_MS", dialect="duckdb")

    def start(self, arguments: list[exp.Expr], width: str) -> exp.Expr:
        """toStartOfFiveMinutes and the like."""
        moment = exp.cast(self.moment(arguments[0]), "TIMESTAMP", dialect="duckdb")
        return template(f"CAST(time_bucket(INTERVAL '{width}', $1) AS TIMESTAMP_S)")([moment])

    def week(self, arguments: list[exp.Expr]) -> exp.Expr:
        """toStartOfWeek: Sunday, or Monday in mode 1."""
        moment = self.moment(arguments[0])
        if len(arguments) > 1 and arguments[1].name == "1":
            return template("CAST(date_trunc('week', $1) AS DATE)")([moment])
        return template("CAST(date_trunc('week', $1 + INTERVAL 1 DAY) AS DATE) - 1")([moment])

    def part(self, arguments: list[exp.Expr], part: str) -> exp.Expr:
        """toHour, toYear and the like."""
        return template(f"date_part('{part}', $1)")([self.moment(arguments[0])])

    def shifted(self, arguments: list[exp.Expr], step: str, sign: str) -> exp.Expr:
        """addDays, subtractHours and the like."""
        return template(f"$1 {sign} to_{step}s($2)")([self.moment(arguments[0]), *arguments[1:]])


def _narrow(node: exp.Expr, kind: str) -> exp.Expr:
    """A timestamp of another unit; DuckDB casts from nanoseconds only by way of microseconds."""
    if kind == "TIMESTAMP_NS":
        return exp.cast(node, kind, dialect="duckdb")
    micros = exp.cast(node, "TIMESTAMP", dialect="duckdb")
    return micros if kind == "TIMESTAMP" else exp.Cast(this=micros, to=exp.DataType.build(kind, dialect="duckdb"))


def _is_column(node: exp.Expr) -> bool:
    return isinstance(node.unnest(), exp.Column)


def _nanoseconds(node: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this="epoch_ns", expressions=[node.copy()])


_Word = Callable[[TimeWords, list[exp.Expr]], exp.Expr]


def _plain(rewrite: Rewrite) -> _Word:
    return lambda _, arguments: rewrite(arguments)


def _of_moment(sql: str) -> _Word:
    rewrite = template(sql)
    return lambda words, arguments: rewrite([words.moment(arguments[0]), *arguments[1:]])


_WORDS: Mapping[str, _Word] = {
    "todatetime": TimeWords.date_time,
    "todatetime64": TimeWords.date_time_64,
    "todate": TimeWords.date,
    "todate32": TimeWords.date,
    "tostartofinterval": TimeWords.interval,
    "tostartofweek": TimeWords.week,
    "parsedatetimebesteffort": TimeWords.date_time,
    "now": _plain(template("CAST(CAST(current_timestamp AT TIME ZONE 'UTC' AS TIMESTAMP) AS TIMESTAMP_S)")),
    "now64": _plain(template("CAST(CAST(current_timestamp AT TIME ZONE 'UTC' AS TIMESTAMP) AS TIMESTAMP_MS)")),
    "today": _plain(template("current_date")),
    "yesterday": _plain(template("current_date - 1")),
    "fromunixtimestamp": _plain(template("CAST(make_timestamp(CAST($1 AS BIGINT) * 1000000) AS TIMESTAMP_S)")),
    "fromunixtimestamp64milli": _plain(_MILLIS_TO_MOMENT),
    "fromunixtimestamp64micro": _plain(_MICROS_TO_MOMENT),
    "fromunixtimestamp64nano": _plain(template("make_timestamp_ns(CAST($1 AS BIGINT))")),
    "tounixtimestamp": _of_moment("CAST(floor(epoch($1)) AS BIGINT)"),
    "tounixtimestamp64milli": _of_moment("epoch_ms($1)"),
    "tounixtimestamp64micro": _of_moment("epoch_us($1)"),
    "tounixtimestamp64nano": _of_moment("epoch_ns($1)"),
    "toyyyymm": _of_moment("CAST(strftime($1, '%Y%m') AS INTEGER)"),
    "toyyyymmdd": _of_moment("CAST(strftime($1, '%Y%m%d') AS INTEGER)"),
    **{name: partial(TimeWords.start, width=width) for name, width in _STARTS.items()},
    **{name: partial(TimeWords.part, part=part) for name, part in _PARTS.items()},
    **{f"add{step}s": partial(TimeWords.shifted, step=step, sign="+") for step in _STEPS},
    **{f"subtract{step}s": partial(TimeWords.shifted, step=step, sign="-") for step in _STEPS},
}
