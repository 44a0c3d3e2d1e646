"""What window functions have in common on every device."""

from __future__ import annotations

from zeptodb.backends.base import WindowFunction, WindowOp
from zeptodb.backends.expression import Expression, Kind, ToFloat


def without_idle(output: Expression | WindowFunction) -> Expression | WindowFunction:
    """An EMA that is its argument as that; others as they are."""
    if not isinstance(output, WindowFunction) or output.op is not WindowOp.EMA or output.alpha < 1:
        return output
    return ToFloat(output.argument) if output.argument.kind is Kind.INT else output.argument
