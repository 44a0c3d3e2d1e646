"""What runs natively, as a table for the manual, made from the tables that the planner itself looks things up in.

`python -m zeptodb.sql.surface docs/sql.md` writes it anew between the marks in that page.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from zeptodb.sql import aggregates, binder, compose, predicates, tick_words
from zeptodb.sql.aggregate_planner import KEY_TYPES
from zeptodb.sql.page_table import rewrite, with_table
from zeptodb.sql.select_statement import CLAUSES
from zeptodb.sql.window_functions import FRAMED

BEGIN = "<!-- made by `python -m zeptodb.sql.surface docs/sql.md`: change the planner, not this table -->"
END = "<!-- end of the table -->"

_SPELLED: dict[type[exp.Expr], str] = {
    exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.IntDiv: "//", exp.Mod: "%", exp.EQ: "=",
    exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=", exp.Neg: "-x", exp.Paren: "( )",
    exp.And: "AND", exp.Or: "OR", exp.Not: "NOT", exp.Is: "IS NULL", exp.In: "IN (list)", exp.Between: "BETWEEN",
    exp.Column: "columns", exp.Literal: "literals", exp.Boolean: "true, false", exp.Cast: "CAST of an ISO string",
    exp.Interval: "INTERVAL", exp.CurrentTimestamp: "now()", exp.TimestampTrunc: "date_trunc",
    exp.DateTrunc: "date_trunc", exp.Anonymous: "xbar",
}  # fmt: skip


def table() -> str:
    """The table in Markdown."""
    rows = (
        ("expressions, WHERE", _spelled([*binder.ARITHMETIC, *binder.COMPARISONS, *binder.HANDLERS])),
        ("aggregates, with FILTER", _functions([exp.Count, *aggregates.OPERATIONS]) + ", vwap, mean"),
        ("clauses of a SELECT over one table", ", ".join(sorted(_clause(name) for name in CLAUSES - {"joins"}))),
        ("keys of GROUP BY", ", ".join(sorted(kind.value for kind in KEY_TYPES)) + "; symbol, time buckets"),
        ("windows by symbol, in the order of time", f"`ema(x, n)`; {_functions(FRAMED)} over ROWS n PRECEDING"),
        ("looked up, not scanned", ", ".join(predicates.LOOKED_UP)),
        ("joins", "ASOF [LEFT] JOIN on the symbol and one comparison of times"),
        ("parts of any other statement", ", ".join(compose.LEAVES)),
        ("made native by rewriting", ", ".join(f"`{rewrite.__name__}`" for rewrite in compose.REWRITES)),
        ("words expanded for DuckDB", ", ".join(f"`{name}`" for name in sorted(tick_words.BY_NAME) if name in _OURS)),
        ("everything else", "DuckDB, over symbols and times pruned by us"),
    )
    lines = ["| what | runs natively |", "|---|---|"]
    return "\n".join([*lines, *(f"| {what} | {native} |" for what, native in rows)])


_OURS = frozenset(("xbar", "vwap", "percentile", "epoch_s", "epoch_ns"))


def _spelled(nodes: Iterable[type[exp.Expr]]) -> str:
    return ", ".join(dict.fromkeys(f"`{_SPELLED[node]}`" for node in nodes))


def _functions(nodes: Iterable[type[exp.Expr]]) -> str:
    return ", ".join(dict.fromkeys(node.sql_name().lower() for node in nodes if issubclass(node, exp.Func)))


def _clause(name: str) -> str:
    return {"expressions": "SELECT list", "from_": "FROM"}.get(name, name.upper())


def written(page: str) -> str:
    """The page with the table as it is now."""
    return with_table(page, BEGIN, table(), END)


if __name__ == "__main__":
    rewrite(BEGIN, table(), END)
