"""Random statements in two spellings: with our words, and as DuckDB alone runs them on tables of its own."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal

from tests.sql.differential.tables import MINUTE_NS, START_NS

Kind = Literal["int", "big", "float", "text", "bool", "time"]


@dataclass(frozen=True)
class Column:
    """A column by the name that it has in a relation."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Relation:
    """A query or table in both spellings.

    Attributes:
        ours, plain: the text.
        columns: what it offers.
        is_ordered: whether the order of its rows is decided.
    """

    ours: str
    plain: str
    columns: tuple[Column, ...]
    is_ordered: bool = False


@dataclass(frozen=True)
class Piece:
    """An expression in both spellings."""

    ours: str
    plain: str
    kind: Kind

    @classmethod
    def same(cls, text: str, kind: Kind) -> Piece:
        return cls(text, text, kind)


TABLES = {
    "ticks": (
        Column("symbol", "text"), Column("timestamp", "time"), Column("price", "float"), Column("size", "int"),
        Column("big", "big"), Column("ratio", "float"), Column("side", "text"), Column("is_open", "bool"),
    ),
    "quotes": (
        Column("symbol", "text"), Column("timestamp", "time"), Column("bid", "float"), Column("depth", "int"),
    ),
    "fills": (
        Column("symbol", "int"), Column("timestamp", "time"), Column("price", "int"), Column("volume", "int"),
    ),
}  # fmt: skip
WIDTHS = (60_000_000_000, 300_000_000_000, 7_000_000_000)
TEXTS = ("'IBM'", "'AIG'", "'é'", "''", "'none'", "'B'", "'it''s'")


class Generator:
    """Builds statements from the choices of `chance`."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def statement(self) -> Relation:
        kinds = [self.rows, self.groups, self.nested, self.sets, self.subqueries, self.asof, self.joins, self.unnamed]
        return self.chance.choices([*kinds, self.windows], [3, 6, 6, 1, 2, 2, 1, 3, 3])[0]()

    # ---- choices ---------------------------------------------------------------------------------------------------

    def pick(self, *items: str) -> str:
        return self.chance.choice(items)

    def often(self, share: float) -> bool:
        return self.chance.random() < share

    def of_kind(self, columns: tuple[Column, ...], *kinds: Kind) -> Column | None:
        found = [c for c in columns if c.kind in kinds]
        return self.chance.choice(found) if found else None

    def table(self) -> Relation:
        name = self.pick("ticks", "ticks", "quotes", "fills")
        return Relation(name, name, TABLES[name])

    # ---- expressions -----------------------------------------------------------------------------------------------

    def value(self, columns: tuple[Column, ...], depth: int = 0) -> Piece:
        column = self.of_kind(columns, "int", "float", "big", "int", "float")
        if column is None:
            return Piece.same("1", "int")
        if column.kind == "big":
            return Piece.same(column.name, "big")
        if depth == 0 and self.often(0.35):
            op = self.pick("+", "-", "*")
            other = self.value(columns, 1)
            if other.kind == "big":
                return other
            kind: Kind = "float" if "float" in (column.kind, other.kind) else "int"
            return Piece.same(f"({column.name} {op} {other.ours})", kind)
        if self.often(0.15):
            form = self.pick("-{c}", "{c} * 2", "{c} + 1.5e0", "{c} / 4", "abs({c})")
            kind = "float" if form[4:] in ("+ 1.5e0", "/ 4") else column.kind
            return Piece.same(f"({form.format(c=column.name)})", kind)
        if column.kind == "int" and self.often(0.1):
            return Piece.same(f"({column.name} {self.pick('//', '%')} {self.pick('3', '-2', '7')})", "int")
        return Piece.same(column.name, column.kind)

    def literal(self, kind: Kind) -> str:
        if kind == "text":
            return self.pick(*TEXTS)
        if kind == "time":
            return str(START_NS + self.chance.randint(-5, 40) * MINUTE_NS)
        if kind == "big":
            return self.pick("0", "9007199254740993", "9223372036854775807", "-1", "2147483648", "-9007199254740993")
        if kind == "bool":
            return self.pick("true", "false")
        return self.pick("0", "1", "3", "-2", "25", "100") if kind == "int" else self.pick("0", "1e0", "2.5e0", "-3e0")

    def condition(self, columns: tuple[Column, ...], depth: int = 0) -> str:
        if depth < 2 and self.often(0.3):
            parts = [self.condition(columns, depth + 1) for _ in range(self.chance.randint(2, 3))]
            return "(" + f" {self.pick('AND', 'AND', 'OR')} ".join(parts) + ")"
        if depth < 2 and self.often(0.07):
            return f"NOT ({self.condition(columns, depth + 1)})"
        column = self.chance.choice(columns)
        name, literal = column.name, self.literal(column.kind)
        if self.often(0.08):
            return f"{name} IS {self.pick('', 'NOT ')}NULL"
        if column.kind == "bool":
            return self.pick(name, f"NOT {name}", f"{name} = {literal}")
        if column.kind == "text":
            many = ", ".join(self.literal("text") for _ in range(self.chance.randint(1, 3)))
            return self.pick(
                f"{name} = {literal}", f"{name} IN ({many})", f"{name} NOT IN ({many})", f"{name} <> {literal}",
                f"{name} LIKE '%B%'", f"{name} > {literal}",
            )  # fmt: skip
        if column.kind in ("int", "float") and self.often(0.2):
            return f"{self.value(columns).ours} {self.pick('<', '>=', '=', '<>')} {self.value(columns).ours}"
        low, high = sorted((self.literal(column.kind), self.literal(column.kind)), key=float)
        many = ", ".join(self.literal(column.kind) for _ in range(self.chance.randint(1, 3)))
        op = self.pick("<", "<=", ">", ">=", "=", "<>")
        return self.pick(
            f"{name} {op} {literal}", f"{literal} {op} {name}", f"{name} BETWEEN {low} AND {high}",
            f"{name} {op} {literal}", f"{name} IN ({many})",
        )  # fmt: skip

    def where(self, columns: tuple[Column, ...]) -> str:
        return f" WHERE {self.condition(columns)}" if self.often(0.6) else ""

    def aggregate(self, columns: tuple[Column, ...], *, in_time: bool) -> Piece:
        """An aggregate call; `in_time`: the rows are those of a table, with time and arrival."""
        if in_time and self.often(0.2):
            return self.end(columns)
        value, draw = self.value(columns), self.chance.random()
        if draw < 0.2:
            return self.filtered(Piece.same(self.pick("count(*)", f"count({value.ours})"), "int"), columns)
        if draw < 0.3:
            column = self.of_kind(columns, "time", "int", "big", "text", "bool")
            if column is not None and column.kind not in ("text", "bool"):
                return Piece.same(f"{self.pick('min', 'max')}({column.name})", column.kind)
            return Piece.same("count(*)", "int")
        if draw < 0.4 and value.kind != "big":
            name = self.pick("stddev", "variance", "var_pop", "stddev_pop")
            return Piece.same(f"{name}(CASE WHEN {value.ours} < 1e300 THEN {value.ours} END)", "float")
        if draw < 0.47 and value.kind != "big":
            return Piece.same(
                f"{self.pick('median', 'count(DISTINCT')}({value.ours})".replace("DISTINCT(", "DISTINCT "), "float"
            )
        if draw < 0.55 and in_time:
            pair = {c.name for c in columns}
            if {"price", "size"} <= pair or {"price", "volume"} <= pair:
                other = "size" if "size" in pair else "volume"
                plain = (
                    f"sum(price::DOUBLE * {other}) / nullif(sum(CASE WHEN price IS NOT NULL THEN {other} "
                    "END)::DOUBLE, "
                    "0)"
                )
                return Piece(f"vwap(price, {other})", f"({plain})", "float")
        name = self.pick("sum", "sum", "min", "max", "avg")
        if name == "sum" and value.kind == "big":
            return Piece.same(f"sum({value.ours})", "float")
        kind: Kind = "float" if name == "avg" or (name == "sum" and value.kind == "big") else value.kind
        return self.filtered(Piece.same(f"{name}({value.ours})", kind), columns)

    def filtered(self, call: Piece, columns: tuple[Column, ...]) -> Piece:
        if not self.often(0.15):
            return call
        text = f" FILTER (WHERE {self.condition(columns, 1)})"
        return Piece(call.ours + text, call.plain + text, call.kind)

    def end(self, columns: tuple[Column, ...]) -> Piece:
        column, name = self.chance.choice(columns), self.pick("first", "last")
        plain = f"{name}({column.name} ORDER BY timestamp, arrival)"
        return Piece(f"{name}({column.name})", plain, column.kind)

    def bucket(self) -> Piece:
        width = self.chance.choice(WIDTHS)
        plain = f"(timestamp - ((timestamp % {width}) + {width}) % {width})"
        ours = f"xbar(timestamp, {width})"
        if width == 60_000_000_000 and self.often(0.5):
            ours = "date_trunc('minute', timestamp)"
        return Piece(ours, plain, "time")

    # ---- statements ------------------------------------------------------------------------------------------------

    def rows(self, source: Relation | None = None, *, may_limit: bool = True) -> Relation:
        source = source or self.table()
        pieces = []
        for _ in range(self.chance.randint(1, 4)):
            column = self.chance.choice(source.columns)
            pieces.append(self.value(source.columns) if self.often(0.4) else Piece.same(column.name, column.kind))
        return self.select(source, pieces, self.where(source.columns), may_limit=may_limit)

    def groups(self, source: Relation | None = None, *, may_limit: bool = True) -> Relation:
        is_table = source is None
        source = source or self.table()
        keys: list[Piece] = []
        if is_table and self.often(0.6):
            keys.append(Piece.same("symbol", source.columns[0].kind))
        if is_table and self.often(0.4):
            keys.append(self.bucket())
        for _ in range(self.chance.choice([0, 0, 1, 1, 2] if is_table else [0, 1, 1])):
            column = self.of_kind(source.columns, "int", "text", "bool", "big")
            if column is not None:
                keys.append(Piece.same(column.name, column.kind))
        calls = [self.aggregate(source.columns, in_time=is_table) for _ in range(self.chance.randint(1, 3))]
        if self.often(0.2):
            call = next((c for c in calls if c.kind == "int"), None)
            if call is not None:
                form = self.pick("abs({})", "({} + 1)", "greatest({}, 0)", "coalesce({}, -1)")
                calls.append(Piece(form.format(call.ours), form.format(call.plain), "int"))
        by_alias = is_table and self.often(0.3)
        group = f" GROUP BY {', '.join(f'c{i}' if by_alias else str(i + 1) for i in range(len(keys)))}" if keys else ""
        if keys and self.often(0.15):
            group = " GROUP BY ALL"
        having = (
            f" HAVING {self.pick('count(*) > 1', 'count(*) >= 2 OR min(timestamp) IS NULL')}"
            if is_table and self.often(0.2)
            else ""
        )
        return self.select(source, [*keys, *calls], self.where(source.columns) + group + having, may_limit=may_limit)

    def select(self, source: Relation, pieces: list[Piece], tail: str, *, may_limit: bool = True) -> Relation:
        """The SELECT with every item named c0, c1, ..., now and then in a decided order."""
        columns = tuple(Column(f"c{i}", p.kind) for i, p in enumerate(pieces))
        ours = ", ".join(f"{p.ours} AS c{i}" for i, p in enumerate(pieces))
        plain = ", ".join(f"{p.plain} AS c{i}" for i, p in enumerate(pieces))
        made = Relation(f"SELECT {ours} FROM {source.ours}{tail}", f"SELECT {plain} FROM {source.plain}{tail}", columns)
        if may_limit and self.often(0.4) and all(p.kind != "float" or p.ours == p.plain for p in pieces):
            return self.ordered(made, pieces)
        return made

    def ordered(self, made: Relation, pieces: list[Piece]) -> Relation:
        """ORDER BY all outputs but computed floats, whose last bits may differ; LIMIT only when all are sorted by."""
        exact = [i for i, p in enumerate(pieces) if p.kind != "float" or p.ours.isidentifier()]
        self.chance.shuffle(exact)
        keys = ", ".join(f"{i + 1}{self.pick('', ' DESC')}{self.pick('', '', ' NULLS FIRST')}" for i in exact)
        if not keys:
            return made
        limit = self.pick("", " LIMIT 3", " LIMIT 5 OFFSET 2", " LIMIT 0") if len(exact) == len(pieces) else ""
        text = f" ORDER BY {keys}{limit}"
        return replace(made, ours=made.ours + text, plain=made.plain + text, is_ordered=len(exact) == len(pieces))

    def unnamed(self) -> Relation:
        """Items without aliases, which DuckDB names after their text; stars; DISTINCT."""
        source = self.table()
        if self.often(0.2):
            names = ", ".join(c.name for c in source.columns)
            tail = self.where(source.columns)
            star = Relation(
                f"SELECT * FROM {source.ours}{tail}", (f"SELECT {names} FROM {source.plain}{tail}"), source.columns
            )
            return replace(star, columns=source.columns)
        if self.often(0.25):
            columns = [self.chance.choice(source.columns) for _ in range(self.chance.randint(1, 2))]
            text = (
                f"SELECT DISTINCT {', '.join(c.name for c in columns)} FROM {source.ours}{self.where(source.columns)}"
            )
            return Relation(text, text, tuple(columns))
        keys = [c for c in (source.columns[0], self.of_kind(source.columns, "int", "text", "bool")) if c is not None]
        calls = [self.aggregate(source.columns, in_time=False).ours for _ in range(self.chance.randint(1, 3))]
        calls += (
            [f"{self.pick('round', 'abs', 'sqrt')}({self.pick('count(*)', 'max(timestamp)')})"]
            if self.often(0.2)
            else []
        )
        items = [*(c.name for c in keys), *calls]
        text = (
            f"SELECT {', '.join(items)} FROM {source.ours}{self.where(source.columns)} GROUP BY "
            f"{', '.join(c.name for c in keys)}"
        )
        return Relation(text, text, ())

    def nested(self, depth: int = 0) -> Relation:
        """Something over the rows of a query: a derived table, a common table expression, or two of them."""
        inner = self.pick("rows", "groups", "groups", "asof", "windows", *(["nested"] if depth < 2 else []))
        if inner == "nested":
            made = self.nested(depth + 1)
        else:
            kinds = {"rows": self.rows, "groups": self.groups, "asof": self.asof, "windows": self.windows}
            made = kinds[inner](may_limit=self.often(0.2))
        outer = self.chance.choice([self.rows, self.groups, self.ranked])
        if self.often(0.5):
            found = outer(Relation("r", "r", made.columns))
            return replace(
                found, ours=f"WITH r AS ({made.ours}) {found.ours}", plain=f"WITH r AS ({made.plain}) {found.plain}"
            )
        return outer(Relation(f"({made.ours}) r", f"({made.plain}) r", made.columns))

    def ranked(self, source: Relation | None = None) -> Relation:
        source = source or self.groups(may_limit=False)
        keys = [c for c in source.columns if c.kind != "float"]
        if not keys:
            return self.rows(source, may_limit=False)
        order = ", ".join(c.name for c in keys)
        partition = f"PARTITION BY {keys[0].name} " if self.often(0.5) else ""
        call = self.pick("rank()", "dense_rank()", "count(*)", f"max({keys[0].name})", f"first_value({keys[-1].name})")
        pieces = [
            Piece.same(keys[0].name, keys[0].kind),
            Piece.same(f"{call} OVER ({partition}ORDER BY {order})", "int"),
        ]
        return self.select(source, pieces, self.where(source.columns), may_limit=False)

    def windows(self, *, may_limit: bool = True) -> Relation:
        """Rows of a table with functions of the rows before them."""
        table = self.table()
        pieces = [Piece.same(c.name, c.kind) for c in self.chance.sample(table.columns, 2)]
        pieces += [self.window(table.columns) for _ in range(self.chance.randint(1, 3))]
        return self.select(table, pieces, self.where(table.columns), may_limit=may_limit and self.often(0.5))

    def window(self, columns: tuple[Column, ...]) -> Piece:
        """An aggregate over a frame: mostly by symbol in the order of time, over some rows up to the current one."""
        value, rows = self.value(columns), self.pick("0", "1", "2", "7", "100", "UNBOUNDED")
        partition = "PARTITION BY symbol " if self.often(0.9) else ""
        frame = f"ROWS BETWEEN {rows} PRECEDING AND {self.pick(*['CURRENT ROW'] * 6, '1 FOLLOWING')}"
        call, kind = self.windowed(value)
        ours = self.pick("ORDER BY timestamp ", "ORDER BY timestamp ", "ORDER BY timestamp, size ", "")
        if "size" in ours and all(c.name != "size" for c in columns):
            ours = "ORDER BY timestamp "
        plain = "ORDER BY timestamp, size, arrival " if "size" in ours else "ORDER BY timestamp, arrival "
        over = [f"{call} OVER ({partition}{order}{frame})" for order in (ours, plain)]
        return Piece(over[0], over[1], kind)

    def windowed(self, value: Piece) -> tuple[str, Kind]:
        """A call and what it gives."""
        if value.kind == "big":
            name = self.pick("min", "max", "count", "sum")
            kinds: dict[str, Kind] = {"count": "int", "sum": "float"}
            return f"{name}({value.ours})", kinds.get(name, "big")
        if self.often(0.2):
            return f"{self.pick('stddev', 'variance', 'var_pop', 'stddev_pop')}({value.ours})", "float"
        if self.often(0.2):
            return self.pick("count(*)", f"count({value.ours})"), "int"
        name = self.pick("sum", "avg", "min", "max")
        return f"{name}({value.ours})", "float" if name == "avg" else value.kind

    def sets(self) -> Relation:
        left = self.groups(may_limit=False) if self.often(0.6) else self.rows(may_limit=False)
        names = ", ".join(c.name for c in left.columns)
        word = self.pick("UNION ALL", "UNION", "EXCEPT", "INTERSECT")
        condition = self.condition(left.columns)
        right = [f"SELECT {names} FROM ({text}) s WHERE {condition}" for text in (left.ours, left.plain)]
        if any(c.kind == "float" for c in left.columns) and word != "UNION ALL":
            word = "UNION ALL"
        return Relation(f"{left.ours} {word} {right[0]}", f"{left.plain} {word} {right[1]}", left.columns)

    def subqueries(self) -> Relation:
        table = self.table()
        value = self.of_kind(table.columns, "int", "float")
        assert value is not None
        pieces = [Piece.same(c.name, c.kind) for c in table.columns[:3]]
        form = self.pick(
            f"{value.name} > (SELECT min({value.name}) FROM {table.ours}{self.where(table.columns)})",
            (
                f"symbol IN (SELECT symbol FROM {table.ours}{self.where(table.columns)} GROUP BY symbol HAVING "
                "count(*) > 2)"
            ),
            f"NOT EXISTS (SELECT max({value.name}) FROM {table.ours} GROUP BY symbol HAVING count(*) > 100)",
            f"{value.name} >= (SELECT avg(u.{value.name}) FROM {table.ours} u WHERE u.symbol = {table.ours}.symbol)",
        )
        return self.select(table, pieces, f" WHERE {form}", may_limit=False)

    def asof(self, *, may_limit: bool = False) -> Relation:
        op = self.pick(">=", ">=", ">", "<=", "<")
        kind = self.pick("ASOF JOIN", "ASOF LEFT JOIN")
        columns = (
            Column("t.symbol", "text"), Column("t.price", "float"), Column("q.bid", "float"), Column("q.depth", "int"),
            Column("t.size", "int"), Column("q.timestamp", "time"), Column("t.timestamp", "time"),
        )  # fmt: skip
        on = f" ON t.symbol = q.symbol AND t.timestamp {op} q.timestamp"
        last = (
            "(SELECT * FROM quotes QUALIFY row_number() OVER (PARTITION BY symbol, timestamp ORDER BY arrival "
            "DESC) = 1)"
        )
        source = Relation(f"ticks t {kind} quotes q{on}", f"ticks t {kind} {last} q{on}", columns)
        return self.rows(source, may_limit=may_limit) if self.often(0.6) else self.groups_of_join(source)

    def groups_of_join(self, source: Relation) -> Relation:
        keys = [Piece.same("t.symbol", "text")] if self.often(0.6) else []
        calls = [
            self.filtered(
                Piece.same(self.pick("count(*)", "count(q.bid)", "max(q.depth)", "sum(t.size)"), "int"), source.columns
            )
        ]
        calls += [Piece.same("avg(t.price - q.bid)", "float")] if self.often(0.5) else []
        group = " GROUP BY 1" if keys else ""
        return self.select(source, [*keys, *calls], self.where(source.columns) + group, may_limit=False)

    def joins(self) -> Relation:
        left, right = self.groups_by_symbol("a"), self.groups_by_symbol("b")
        kind = self.pick("JOIN", "LEFT JOIN", "FULL JOIN")
        columns = (Column("x.s", "text"), Column("x.a", "int"), Column("y.b", "int"))
        ours = f"({left.ours}) x {kind} ({right.ours}) y ON x.s = y.s"
        plain = f"({left.plain}) x {kind} ({right.plain}) y ON x.s = y.s"
        return self.rows(Relation(ours, plain, columns))

    def groups_by_symbol(self, name: str) -> Relation:
        table = self.pick("ticks", "quotes")
        column = {"ticks": "size", "quotes": "depth"}[table]
        call = self.pick("sum", "max", "count")
        text = f"SELECT symbol AS s, {call}({column}) AS {name} FROM {table}{self.where(TABLES[table])} GROUP BY symbol"
        return Relation(text, text, (Column("s", "text"), Column(name, "int")))
