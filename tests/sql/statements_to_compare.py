"""Random statements of the native surface over the tables of `tables_to_compare`, from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

START_NS = 1_700_000_000_000_000_000
MINUTE_NS = 60_000_000_000


@dataclass(frozen=True)
class Statement:
    """A statement, whether its order is fully decided, and whether DuckDB can run it as it is written."""

    sql: str
    is_ordered: bool
    is_plain: bool
    has_open_limit: bool = False


class Generator:
    """Builds statements; each method draws from `random`."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.is_plain = True

    def statement(self) -> Statement:
        self.is_plain = True
        kind = self.random.choices(["rows", "groups", "join"], [4, 6, 2])[0]
        return {"rows": self.rows, "groups": self.groups, "join": self.join}[kind]()

    def pick(self, *items: str) -> str:
        return self.random.choice(items)

    def some(self, items: list[str], low: int, high: int) -> list[str]:
        return [self.random.choice(items) for _ in range(self.random.randint(low, high))]

    def number(self) -> str:
        return self.pick("0", "1", "3", "7", "-2", "25", "1.5", "-0.5", "10.0", "1e1", "100", "2.5e0")

    def moment(self) -> str:
        ns = START_NS + self.random.randint(-2, 20) * MINUTE_NS
        return str(ns)

    # ---- expressions over the rows of a table --------------------------------------------------------------------

    def integer(self, table: str) -> str:
        columns = {"trades": ["price", "volume"], "ticks": ["amount"], "quotes": ["depth"]}[table]
        column = self.random.choice(columns)
        return self.pick(
            column, column, f"{column} * 2", f"{column} + {columns[-1]}", f"-{column}",
            f"({column} - 3) * {columns[0]}",
            f"{column} // 3", f"{column} % 7", f"{column} // {columns[-1]}", f"3 - {column}",
        )  # fmt: skip

    def real(self, table: str) -> str:
        if table == "trades":
            return self.pick("price / 2", "price * 1e0", "volume / 3 + price", "price / 1.5")
        if table == "quotes":
            return self.pick("bid", "ask", "bid * 2", "(bid + ask) / 2", "ask - bid", "depth / 2")
        return self.pick("price", "price * 2", "price / 4", "-price", "price + amount", "price * 0.5", "price - size")

    def value(self, table: str) -> str:
        return self.real(table) if self.random.random() < 0.4 else self.integer(table)

    def condition(self, table: str, depth: int = 0) -> str:
        draw = self.random.random()
        if depth < 2 and draw < 0.35:
            word = self.pick("AND", "OR", "AND")
            parts = [self.condition(table, depth + 1) for _ in range(self.random.randint(2, 3))]
            return "(" + f" {word} ".join(parts) + ")"
        if depth < 2 and draw < 0.42:
            return f"NOT ({self.condition(table, depth + 1)})"
        return self.random.choice([self.symbols, self.times, self.numbers, self.numbers, self.others])(table)

    def symbols(self, table: str) -> str:
        names = ["'AIG'", "'BAC'", "'none'", "'IBM'"] if table == "ticks" else ["1", "2", "3", "99"]
        name = self.random.choice(names)
        forms = [f"symbol = {name}", f"symbol IN ({', '.join(self.some(names, 1, 3))})", f"symbol != {name}"]
        if table != "ticks":
            forms += [f"symbol > {name}", f"symbol BETWEEN 2 AND {name}"]
        return self.random.choice(forms)

    def times(self, table: str) -> str:
        low, high = self.moment(), self.moment()
        op = self.pick("<", "<=", ">", ">=", "=", "!=")
        return self.pick(
            f"timestamp {op} {low}", f"timestamp BETWEEN {low} AND {high}", f"{low} {op} timestamp",
            f"timestamp >= {low} AND timestamp < {high}",
        )  # fmt: skip

    def numbers(self, table: str) -> str:
        op = self.pick("<", "<=", ">", ">=", "=", "!=", "<>")
        plain = {
            "trades": ["price", "volume"],
            "ticks": ["price", "amount", "size", "ratio"],
            "quotes": ["bid", "depth"],
        }
        column = self.random.choice(plain[table])
        fraction_free = self.pick("0", "1", "3", "7", "-2", "25", "100")
        forms = [
            f"{column} {op} {fraction_free}", f"{column} {self.pick('<', '>=')} {self.number()}",
            f"{column} BETWEEN {self.pick('0', '-3')} AND {self.pick('10', '500')}", f"{column} IN (1, 2, 7, 100)",
            f"{column} NOT IN (1, 100)", f"{self.value(table)} {op} {self.value(table)}",
            f"{column} NOT BETWEEN 1 AND 50",
        ]  # fmt: skip
        return self.random.choice(forms)

    def others(self, table: str) -> str:
        if table == "trades":
            return self.pick("price IS NOT NULL", "1 = 1", "true", "price > 0 OR false")
        if table == "quotes":
            return self.pick("bid IS NULL", "ask IS NOT NULL")
        return self.pick(
            "is_open", "NOT is_open", "is_open = true", "side = 'B'", "side != 'S'", "side IN ('B', 'x')",
            "side IS NULL", "amount IS NULL", "price IS NOT NULL", "side = 'never'", "size IS NULL", "is_open IS NULL",
        )  # fmt: skip

    def where(self, table: str) -> str:
        return f" WHERE {self.condition(table)}" if self.random.random() < 0.7 else ""

    # ---- statements ------------------------------------------------------------------------------------------------

    def rows(self) -> Statement:
        table = self.pick("trades", "ticks", "quotes")
        plain = {
            "trades": ["symbol", "price", "volume", "timestamp", "*"],
            "ticks": ["symbol", "price", "amount", "size", "ratio", "side", "is_open", "timestamp", "*"],
            "quotes": ["symbol", "bid", "ask", "timestamp"],
        }[table]
        items = self.some(plain, 1, 3) + [self.value(table) for _ in range(self.random.randint(0, 2))]
        items = [
            f"{item} AS c{i}" if item != "*" and self.random.random() < 0.3 else item for i, item in enumerate(items)
        ]
        sql = f"SELECT {', '.join(items)} FROM {table}{self.where(table)}"
        if self.random.random() < 0.4 or "*" in items:
            return Statement(sql, is_ordered=False, is_plain=True)
        keys = [f"{i + 1}{self.direction()}" for i in range(len(items))]
        self.random.shuffle(keys)
        limit = self.pick("", " LIMIT 5", " LIMIT 10 OFFSET 3", " LIMIT 0", " OFFSET 4")
        return Statement(f"{sql} ORDER BY {', '.join(keys)}{limit}", is_ordered=True, is_plain=True)

    def direction(self) -> str:
        return self.pick("", " ASC", " DESC") + self.pick("", "", " NULLS FIRST", " NULLS LAST")

    def aggregate(self, table: str, *, by_symbol: bool) -> str:
        value = self.value(table)
        forms = [
            "count(*)", f"count({value})", f"sum({value})", f"avg({value})", f"min({value})", f"max({value})",
            f"sum({self.integer(table)})", f"max({value}) - min({value})", f"sum({value}) / count(*)",
            f"sum({self.integer(table)}) * 2", "count(*) * 3 - 1", f"-sum({self.integer(table)})",
        ]  # fmt: skip
        plain = {"trades": "price", "ticks": "size", "quotes": "bid"}[table]
        forms += [
            f"stddev({plain})", f"variance({plain})", f"var_pop({plain})", f"stddev_pop({plain})",
            f"stddev_samp({plain})",
            f"var_samp({plain})", f"mean({plain})", f"avg({plain})", f"min({plain})", "max(timestamp)",
            "min(timestamp)",
            "sum(timestamp) // 2", "COUNT( * )",
        ]  # fmt: skip
        call = self.random.choice(forms)
        if self.random.random() < (0.25 if by_symbol else 0.1):
            self.is_plain = False
            column = {"trades": "price", "ticks": self.pick("side", "price", "is_open"), "quotes": "ask"}[table]
            call = self.pick(f"first({column})", f"last({column})")
        elif self.random.random() < 0.1:
            self.is_plain = False
            call = {"trades": "vwap(price, volume)", "ticks": "vwap(price, size)", "quotes": "vwap(bid, depth)"}[table]
        if self.random.random() < 0.2 and call.endswith(")") and not any(c in call for c in "/-") and "// " not in call:
            call = f"{call} FILTER (WHERE {self.condition(table, 1)})"
        return call

    def groups(self) -> Statement:
        table = self.pick("trades", "ticks", "quotes")
        by_symbol = self.random.random() < 0.6
        keys = ["symbol"] if by_symbol else []
        if self.random.random() < 0.45:
            self.is_plain = False
            keys.append(self.pick(
                "xbar(timestamp, 60000000000)", "xbar(timestamp, INTERVAL '5 minutes')",
                "date_trunc('minute', timestamp)",
                "date_trunc('hour', timestamp)", "xbar(timestamp, 7000000000)", "date_trunc('week', timestamp)",
            ))  # fmt: skip
        if self.random.random() < 0.4:
            more = {
                "trades": ["price", "price % 5", "volume // 10", "price > 20"],
                "ticks": ["side", "is_open", "size", "amount % 3", "side = 'B'"],
                "quotes": ["depth", "depth * 2 - 1", "bid IS NULL"],
            }
            keys += [f"{key} AS k{i}" for i, key in enumerate(self.some(more[table], 1, 2))]
        aggregates = [self.aggregate(table, by_symbol=by_symbol) for _ in range(self.random.randint(1, 3))]
        selected = [*keys, *(f"{a} AS a{i}" if self.random.random() < 0.4 else a for i, a in enumerate(aggregates))]
        # A bucket needs a name: DuckDB sees the rewritten expression.
        selected = [f"{s} AS bucket" if s.startswith(("xbar", "date_trunc")) else s for s in selected]
        by = [str(i + 1) if self.random.random() < 0.5 or k != "symbol" else k for i, k in enumerate(keys)]
        sql = f"SELECT {', '.join(selected)} FROM {table}{self.where(table)}"
        sql += f" GROUP BY {', '.join(by)}" if by else ""
        if self.random.random() < 0.3:
            having = ["count(*) > 3", "count(*) >= 1 AND min(timestamp) > 0", "count(*) > 2.5"]
            sql += f" HAVING {self.pick(*having, f'sum({self.integer(table)}) > 100')}"
        if self.random.random() < 0.5:
            order = [f"{i + 1}{self.direction()}" for i in range(len(selected))]
            self.random.shuffle(order)
            sql += f" ORDER BY {', '.join(order)}{self.pick('', ' LIMIT 3', ' LIMIT 4 OFFSET 1')}"
            return Statement(sql, is_ordered=True, is_plain=self.is_plain)
        return Statement(sql, is_ordered=False, is_plain=self.is_plain)

    def join(self) -> Statement:
        op = self.pick(">=", ">", "<=", "<", ">=")
        kind = self.pick("ASOF JOIN", "ASOF LEFT JOIN")
        columns = ["t.symbol", "t.price", "q.bid", "q.ask", "t.timestamp", "q.timestamp", "q.symbol", "volume", "bid"]
        columns += ["ask - bid", "t.price * 2", "t.price / bid", "price > ask", "bid * 2 + price"]
        items, groups = self.some(columns, 1, 4), ""
        if self.random.random() < 0.4:
            aggregates = [
                "count(*)", "count(bid)", "avg(t.price - q.bid)", "sum(CASE WHEN price > ask THEN 1 ELSE 0 END)",
                "count(*) FILTER (WHERE t.price BETWEEN q.bid AND q.ask)", "max(q.timestamp)", "min(ask)",
                "sum(volume)", "sum(t.price * volume) / sum(volume)", "round(avg(bid), 3)", "median(price)",
            ]  # fmt: skip
            keys = self.random.choice([[], ["t.symbol"], ["q.symbol"], ["xbar(t.timestamp, 60000000000) AS bucket"]])
            items = [*keys, *self.some(aggregates, 1, 3)]
            groups = f" GROUP BY {self.pick('1', 'ALL')}" if keys else ""
        elif self.random.random() < 0.2:
            items = [*items, "CASE WHEN price > ask THEN 'over' WHEN price < bid THEN 'under' END AS place"]
        sql = f"SELECT {', '.join(items)} FROM trades t {kind} quotes q"
        sql += f" ON t.symbol = q.symbol AND t.timestamp {op} q.timestamp"
        conditions = [
            f"t.{self.symbols('trades')}", "t.price > 10", "q.bid > 3", "t.price BETWEEN q.bid AND q.ask",
            "bid IS NULL",
            "volume < 20 AND ask IS NOT NULL", f"t.timestamp > {self.moment()}", "t.price > 5 OR q.ask < 4",
        ]  # fmt: skip
        if self.random.random() < 0.6:
            sql += f" WHERE {' AND '.join(self.some(conditions, 1, 2))}"
        return Statement(sql + groups, is_ordered=False, is_plain=False)
