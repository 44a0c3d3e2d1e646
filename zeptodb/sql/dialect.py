"""DuckDB's SQL with ZeptoDB's tick words, parsed by sqlglot; no exception of the parser leaves this module."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ParseError, SqlglotError, TokenError
from sqlglot.parsers.duckdb import DuckDBParser
from sqlglot.tokenizer_core import Token, TokenType

from zeptodb.errors import QueryError
from zeptodb.sql.limits import check_limits, room_for_depth
from zeptodb.sql.source_text import offset_of, query_error

TICK_JOINS = ("AJ0", "WINDOW", "UNION", "PLUS")
"""Words that make a tick join when they stand before JOIN; elsewhere they are what they are in DuckDB."""

_BEFORE_FRACTION = (
    TokenType.NUMBER,
    TokenType.DOT,
    TokenType.DASH,
    TokenType.PLUS,
    TokenType.PLACEHOLDER,
    TokenType.PARAMETER,
)
_GEO_FUNCTIONS = ("ST_DISTANCE", "ST_WITHIN")
"""Ours take numbers, four and five of them."""
_NAMES = (TokenType.VAR, TokenType.IDENTIFIER)

_CLAUSE_WORDS = (
    "SELECT", "FROM", "WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "JOIN", "BETWEEN", "INSERT", "UPDATE", "DELETE",
    "CREATE", "DROP", "TABLE", "VALUES", "DESCRIBE", "EXPLAIN", "INTERVAL", "BY",
)  # fmt: skip
_WORD = re.compile(r"[A-Za-z_]+")
_SHORT_TEXT = 200

_PARSER_SURPRISES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
)


class Explain(exp.Expression):
    """EXPLAIN [ANALYZE] of the statement `this`."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "analyze": False}


class SetTimeToLive(exp.Expression):
    """ALTER TABLE ... SET TTL `this`, a length of time as text or NONE."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True}


class SetAttribute(exp.Expression):
    """ALTER TABLE ... SET ATTRIBUTE `this` (a column) `attribute` (a word)."""

    arg_types: ClassVar[dict[str, bool]] = {"this": True, "attribute": True}


class _Tokenizer(DuckDB.Tokenizer):
    """EXPLAIN starts a statement instead of swallowing the rest of the text."""

    KEYWORDS: ClassVar = {**DuckDB.Tokenizer.KEYWORDS, "EXPLAIN": TokenType.DESCRIBE}


class _Parser(DuckDBParser):
    """Parses EXPLAIN, keeps the place of each `?`, and is quiet about statements that it hands on as a Command."""

    FUNCTIONS: ClassVar = {name: build for name, build in DuckDBParser.FUNCTIONS.items() if name not in _GEO_FUNCTIONS}

    PLACEHOLDER_PARSERS: ClassVar = {
        **DuckDBParser.PLACEHOLDER_PARSERS,
        TokenType.PLACEHOLDER: lambda self: self._parse_question_mark(),
    }

    STATEMENT_PARSERS: ClassVar = {
        **DuckDBParser.STATEMENT_PARSERS,
        TokenType.DESCRIBE: lambda self: self._parse_explain_or_describe(),
    }

    def _parse_table(self, *, joins: bool = False, **options: Any) -> exp.Expr | None:  # type: ignore[override]  # noqa: ANN401
        table = super()._parse_table(joins=joins, **options)
        if table is None or not self._is_at_sample():
            return table
        self._advance()
        table.set("fraction", self._parse_unary())
        if joins:
            for join in self._parse_joins():
                table.append("joins", join)
        return table

    def _parse_table_alias(self, *arguments: Any, **options: Any) -> exp.TableAlias | None:  # noqa: ANN401
        if self._is_at_tick_join() or self._is_at_sample():
            return None
        return super()._parse_table_alias(*arguments, **options)

    def _parse_set_operations(self, this: exp.Expr | None) -> exp.Expr | None:
        return this if self._is_at_tick_join() else super()._parse_set_operations(this)

    def _parse_join(  # type: ignore[override]
        self,
        skip_join_token: bool = False,  # noqa: FBT001, FBT002
        **options: Any,  # noqa: ANN401
    ) -> exp.Join | None:
        has_no_join = self._is_at_tick_join() and self._next.token_type is not TokenType.JOIN
        return super()._parse_join(skip_join_token=skip_join_token or has_no_join, **options)

    def _parse_join_parts(self) -> tuple[Token | None, Token | None, Token | None]:
        if not self._is_at_tick_join():
            return super()._parse_join_parts()
        self._advance()
        return self._prev, None, None

    def _parse_ddl_select(self) -> exp.Expr | None:
        start = self._curr
        query = super()._parse_ddl_select()
        if query is not None:
            query.meta["text"] = self._find_sql(start, self._prev)
        return query

    def _parse_alter_table_set(self) -> exp.Expr:  # type: ignore[override]
        if self._match_text_seq("TTL"):
            return self.expression(SetTimeToLive(this=exp.Literal.string(self._parse_length_of_time())))
        if self._match_text_seq("ATTRIBUTE"):
            column = self._parse_id_var()
            return self.expression(SetAttribute(this=column, attribute=self._parse_id_var()))
        return super()._parse_alter_table_set()

    def _parse_length_of_time(self) -> str:
        """`30 DAYS`, `'30 days'`, `INTERVAL '30 days'` or NONE, as text."""
        self._match(TokenType.INTERVAL)
        words = []
        while self._curr:
            self._advance()
            words.append(self._prev.text)
        return " ".join(words)

    def _is_at_tick_join(self) -> bool:
        """Whether AJ0, WINDOW, UNION or PLUS stands before JOIN here; after AJ0 the JOIN may be left out."""
        if not self._is_word(TICK_JOINS):
            return False
        if self._next.token_type is TokenType.JOIN:
            return True
        return self._curr.text.upper() == "AJ0" and self._next.token_type in _NAMES

    def _is_at_sample(self) -> bool:
        return self._is_word(("SAMPLE",)) and self._next.token_type in _BEFORE_FRACTION

    def _is_word(self, words: tuple[str, ...]) -> bool:
        is_quoted = self._curr.token_type in (TokenType.IDENTIFIER, TokenType.STRING)
        return not is_quoted and self._curr.text.upper() in words

    ALTER_RENAME_REQUIRES_COLUMN = False

    def _parse_question_mark(self) -> exp.Expr:
        start = self._prev.start
        placeholder = self.expression(exp.Placeholder())
        placeholder.meta["start"] = start
        return placeholder

    def _parse_explain_or_describe(self) -> exp.Expr:
        if self._prev.text.upper() != "EXPLAIN":
            return self._parse_describe()
        analyze = bool(self._match_text_seq("ANALYZE"))
        return self.expression(Explain(this=self._parse_statement(), analyze=analyze))

    def _warn_unsupported(self) -> None:
        """Stay silent: whoever runs the Command says what it cannot do."""


DIALECT = DuckDB()
"""DuckDB's dialect with tick words, in which EXPLAIN is a statement of its own and nothing is printed.

A class of its own would do as well, but sqlglot makes three tokenizers for each, which takes longer than to parse.
"""
DIALECT.tokenizer_class = _Tokenizer
DIALECT.parser_class = _Parser  # type: ignore[assignment]  # sqlglot's annotation says DuckDBParser itself


def parse(text: str) -> list[exp.Expr]:
    """The statements of `text`, in order, without empty ones; each `?` comes back as `$1`, `$2`, ...

    Raises QueryError with line, column and the offending line for text that is empty, too long, too deep or not SQL.
    """
    depth = check_limits(text)
    with _parser_errors(text):
        tokens = DIALECT.tokenize(text)
    with _parser_errors(text), room_for_depth(depth):
        statements = [s for s in DIALECT.parser().parse(tokens, text) if s is not None]
    statements = [s for s in statements if not isinstance(s, exp.Semicolon)]
    if not statements:
        raise QueryError("The statement is empty; give at least one SQL statement.")
    for statement in statements:
        _number_placeholders(statement)
    return statements


def _number_placeholders(statement: exp.Expr) -> None:
    """Turn each `?` into `$1`, `$2`, ... in the order of the text."""
    unnamed = [node for node in statement.find_all(exp.Placeholder) if node.args.get("this") is None]
    for number, node in enumerate(sorted(unnamed, key=lambda n: int(n.meta_get("start") or 0)), start=1):
        node.set("this", str(number))


@contextmanager
def _parser_errors(text: str) -> Iterator[None]:
    """Turn whatever the parser raises about `text` into a QueryError."""
    try:
        yield
    except ParseError as error:
        raise _parse_error(error, text) from None
    except TokenError as error:
        raise QueryError(f"Syntax error: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise QueryError("The statement is nested too deeply; flatten it.") from None
    except (SqlglotError, *_PARSER_SURPRISES) as error:
        raise QueryError(f"The statement cannot be parsed: {error}") from error


def _parse_error(error: ParseError, text: str) -> QueryError:
    details = error.errors[0] if error.errors else {}
    description = str(details.get("description") or error).split(" but got <Token")[0].rstrip(".")
    if description.startswith("Required keyword"):
        description = "something is missing here"
    elif description.startswith("Invalid expression"):
        description = "this was not expected here"
    line, column, highlight = details.get("line"), details.get("col"), str(details.get("highlight") or "")
    if line is None or column is None:
        return QueryError(f"The statement cannot be parsed: {description}.")
    end = min(offset_of(text, int(line), int(column)) + 1, len(text))
    start = end - len(highlight) if text[:end].endswith(highlight) else end - 1
    hint = _misspelt_keyword(text[:end])
    return query_error(f'Syntax error near "{highlight}": {description}.{hint}', text, max(0, start))


def _misspelt_keyword(before: str) -> str:
    """A hint when the first word, or one of the last before the error, looks like a keyword and is none."""
    words = [*_WORD.findall(before[:_SHORT_TEXT])[:1], *_WORD.findall(before[-_SHORT_TEXT:])[-3:]]
    for word in words:
        close = get_close_matches(word.upper(), _CLAUSE_WORDS, n=1, cutoff=0.75)
        if close and word.upper() not in _CLAUSE_WORDS:
            return f' Did you mean {close[0]} instead of "{word}"?'
    return ""
