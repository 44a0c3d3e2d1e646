"""Tables and numbers as terminals show them."""

from __future__ import annotations

from collections.abc import Sequence


def format_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> str:
    """Columns under their headers, two spaces apart; the first `text_columns` are flush left, numbers flush right."""
    lines = [list(headers), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]

    def joined(line: Sequence[str]) -> str:
        cells = (
            cell.ljust(width) if i < text_columns else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([joined(lines[0]), rule, *map(joined, lines[1:])])


def format_seconds(seconds: float) -> str:
    """A duration with three significant digits and the unit that suits it, from ns to s.

    >>> format_seconds(0.00123)
    '1.23 ms'
    """
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 0.9995:
            return f"{_three_digits(seconds * factor)} {unit}"
    return f"{_three_digits(seconds * 1e9)} ns"


def format_ratio(ratio: float) -> str:
    """How many times faster.

    >>> format_ratio(12.3456)
    '12.3x'
    """
    return f"{_three_digits(ratio)}x"


def _three_digits(value: float) -> str:
    decimals = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:,.{decimals}f}"
