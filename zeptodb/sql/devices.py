"""What runs on which device, as a table for the manual, made from what the backends themselves claim.

`python -m zeptodb.sql.devices docs/gpu.md` writes it anew between the marks in that page.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from zeptodb.backends.base import Aggregate, AggregateOp
from zeptodb.backends.cpu.backend import CpuBackend
from zeptodb.backends.cuda.lowering import lower_for_device
from zeptodb.backends.cuda.operands import MAX_REGISTERS, CannotRunError
from zeptodb.backends.cuda.runs import CHECKS
from zeptodb.backends.expression import ColumnRef
from zeptodb.sql.page_table import rewrite, with_table
from zeptodb.types import TRADES, ColumnType

BEGIN = "<!-- made by `python -m zeptodb.sql.devices docs/gpu.md`: change the backends, not this table -->"
END = "<!-- end of the table -->"

_HOST_ONLY = (
    "time ranges of symbols, by binary search",
    "ingest, late rows, snapshots",
    "HAVING, ORDER BY, LIMIT and expressions over an answer's rows",
    "what DuckDB runs",
)


def table() -> str:
    """The table in Markdown."""
    host = CpuBackend(threads=1)
    cpu = host.capabilities
    host.close()
    operators = sorted(cpu.operators | CHECKS.keys(), key=lambda operator: operator.__name__)
    rows = [
        (
            f"`{operator.__name__}`: {_words(operator)}",
            *("yes" if operator in found else "the CPU" for found in (cpu.operators, CHECKS)),
        )
        for operator in operators
    ]
    rows += [
        ("aggregate functions", _functions(cpu.aggregates), _functions(filter(_is_lowered, AggregateOp))),
        ("answers from block summaries", _functions(cpu.summarized), "likewise, from those that the device has made"),
        ("temporaries of an expression", "any number", f"at most {MAX_REGISTERS}; more: the CPU"),
        *((work, "yes", "the CPU") for work in _HOST_ONLY),
    ]
    lines = ["| what | CPU | CUDA |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in rows)])


def _is_lowered(op: AggregateOp) -> bool:
    """Whether the device's kernels take an aggregate of plain columns."""
    price, volume = (ColumnRef(k, ColumnType.INT64) for k in (1, 2))
    arguments = {AggregateOp.COUNT_ROWS: (), AggregateOp.VWAP: (price, volume)}.get(op, (price,))
    try:
        lower_for_device((Aggregate(op, arguments),), None, frozenset(), TRADES)
    except CannotRunError:
        return False
    return True


def _words(operator: type) -> str:
    """The first sentence of the operator's own description."""
    first = (inspect.getdoc(operator) or "").partition(".")[0]
    return first[:1].lower() + " ".join(first[1:].split())


def _functions(functions: Iterable[AggregateOp]) -> str:
    found = set(functions)
    if found == set(AggregateOp):
        return f"all {len(found)}"
    return ", ".join(op.value for op in AggregateOp if op in found) or "none"


def written(page: str) -> str:
    """The page with the table as it is now."""
    return with_table(page, BEGIN, table(), END)


if __name__ == "__main__":
    rewrite(BEGIN, table(), END)
