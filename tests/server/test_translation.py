"""ClickHouse's words, told by their answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.http import Http
from zeptodb.server.serve import BackgroundServer
from zeptodb.server.settings import ServerSettings

START = 1_700_000_000_000_000_000  # 2023-11-14 22:13:20 UTC, a Tuesday
STEP = 40_000_000_000


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    with BackgroundServer(ServerSettings(port=0, backend="cpu")) as running:
        running.pipeline.ingest_batch(
            [1, 1, 2, 2], [100, 110, 200, 210], [1, 2, 3, 4], [START + STEP * i for i in range(4)]
        )
        yield running


def _pairs() -> list[tuple[str, str]]:
    text = (Path(__file__).parent / "clickhouse_words.txt").read_text(encoding="utf-8")
    pairs = []
    for part in text.split("\n\n")[1:]:
        statement, *answers = part.strip().splitlines()
        pairs.append((statement, "".join(a.removeprefix("-> ").replace(" | ", "\t") + "\n" for a in answers)))
    return pairs


@pytest.mark.parametrize(("sql", "expected"), _pairs(), ids=lambda value: value[:60])
def test_words_of_clickhouse(http: Http, sql: str, expected: str) -> None:
    assert http.text(sql) == expected


def test_columns_have_clickhouses_names_and_types(http: Http) -> None:
    text = http.text("SELECT displayName(), version(), revision(), timezone() FORMAT TSVWithNamesAndTypes")
    assert text.splitlines()[:2] == [
        "displayName()\tversion()\trevision()\ttimezone()",
        "String\tString\tUInt32\tString",
    ]
    sql = "SELECT countIf(price > 100), toStartOfMinute(min(timestamp)) AS t FROM trades"
    text = http.text(f"{sql} FORMAT TSVWithNamesAndTypes")
    assert text.splitlines()[0] == "countIf(price > 100)\tt"
    text = http.text("SELECT toStartOfMinute(timestamp) AS t FROM trades FORMAT TSVWithNamesAndTypes")
    assert text.splitlines()[1] == "DateTime"


def test_tick_words_stay_native(http: Http, server: BackgroundServer) -> None:
    sql = "SELECT xbar(timestamp, INTERVAL '1 minute') AS bar, vwap(price, volume) AS vwap FROM trades GROUP BY bar"
    assert server.pipeline.execute(sql).engine == "native:cpu"
    assert http.text(f"{sql} ORDER BY bar").startswith("1699999980000000000\t100\n")


def test_tables_of_clickhouse_are_made_in_our_types(http: Http) -> None:
    http.text(
        "CREATE TABLE IF NOT EXISTS default.made (id UInt32, s LowCardinality(String), n Nullable(Float64), "
        "t DateTime64(9, 'UTC'), b Bool) ENGINE = MergeTree PARTITION BY toYYYYMM(t) ORDER BY (id, t)"
    )
    described = [line.split("\t")[:2] for line in http.text("DESCRIBE TABLE made").splitlines()]
    assert described == [["id", "Int64"], ["s", "String"], ["n", "Nullable(Float64)"], ["t", "Int64"], ["b", "Bool"]]
    assert http.text("SHOW CREATE TABLE made").startswith("CREATE TABLE made (id INT64 NOT NULL")
    http.text("DROP TABLE made")


def test_describe_has_the_seven_columns_that_clients_expect(http: Http) -> None:
    names = http.text("DESCRIBE TABLE `trades` FORMAT TSVWithNames").splitlines()[0].split("\t")
    wanted = "name type default_type default_expression comment codec_expression ttl_expression"
    assert names == wanted.split()
    assert http.text('DESC TABLE "default"."trades" FORMAT TSKV').startswith("name=symbol\ttype=Int64\t")


def test_views_are_listed_and_described(http: Http) -> None:
    http.text("CREATE VIEW bars AS SELECT symbol, max(price) AS high FROM trades GROUP BY symbol")
    assert http.text("SHOW TABLES") == "trades\nbars\n"
    assert http.text("EXISTS TABLE bars") == "1\n"
    described = [line.split("\t")[:2] for line in http.text("DESCRIBE TABLE bars").splitlines()]
    assert described == [["symbol", "Int64"], ["high", "Int64"]]
    assert http.text("SELECT engine FROM system.tables WHERE name = 'bars'") == "View\n"
    http.text("DROP VIEW bars")


@pytest.mark.parametrize(
    "sql",
    [
        "DESC (SELECT symbol, countIf(price > 1) AS n FROM trades GROUP BY (symbol))",
        "DESCRIBE SELECT 1 AS symbol, 2 AS n",
    ],
)
def test_queries_are_described(http: Http, sql: str) -> None:
    text = http.text(f"{sql} FORMAT TSKV")
    assert text.startswith("name=symbol\ttype=Int")
    assert "\nname=n\ttype=Int" in text


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SHOW DATABASES", "default\nsystem\n"),
        ("SHOW TABLES", "trades\n"),
        ("SHOW TABLES FROM `default`", "trades\n"),
        ("EXISTS TABLE `trades`", "1\n"),
        ("EXISTS `SELECT 1`", "0\n"),
        ("EXISTS TABLE SELECT 1", "0\n"),
        ('EXISTS TABLE "default"."trades"', "1\n"),
        ("EXISTS TABLE other.trades", "0\n"),
        ("EXISTS DATABASE default", "1\n"),
    ],
)
def test_catalog_statements(http: Http, sql: str, expected: str) -> None:
    assert http.text(sql) == expected


@pytest.mark.parametrize("depth", [300, 20_000])
@pytest.mark.parametrize("words", ["countIf(", "(", "SELECT * FROM (", "version() + ("])
def test_hostile_nesting_is_an_error(http: Http, depth: int, words: str) -> None:
    answer = http.post("SELECT version(), " + words * depth)
    assert answer.status in (400, 413), answer.data[:200]


def test_a_statement_that_is_too_long_is_refused(http: Http) -> None:
    answer = http.post("SELECT 1 + " + "1 + " * 200_000 + "1")
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (413, "223")


@pytest.mark.parametrize(
    ("sql", "options", "expected"),
    [
        (
            "SELECT toStartOfHour(timestamp) AS t, max(price) FROM trades WHERE symbol = {symbol:Int64} GROUP BY t",
            {"symbol": "1"},
            "2023-11-14 22:00:00\t110\n",
        ),
        ("SELECT toYear(timestamp), '$x' FROM trades LIMIT {n:UInt8}", {"n": "1"}, "2023\t$x\n"),
        ("SELECT count() FROM trades WHERE toDate(timestamp) = {day:Date}", {"day": "2023-11-14"}, "4\n"),
        ("SELECT count() FROM trades WHERE timestamp > {at:DateTime}", {"at": "2023-11-14 22:13:59"}, "3\n"),
        ("SELECT name FROM system.tables WHERE name = {name:String}", {"name": "trades"}, "trades\n"),
        ("SELECT {a:String}, version() FROM {t:Identifier} LIMIT 1", {"a": "x", "t": "trades"}, "x\t26.1.1.1\n"),
        ("SELECT quantileExact(0.5)(price) FROM trades WHERE price IN {p:Array(Int64)}", {"p": "[100]"}, "100\n"),
    ],
)
def test_words_of_clickhouse_with_parameters(http: Http, sql: str, options: dict[str, str], expected: str) -> None:
    assert http.text(sql, **{f"param_{name}": value for name, value in options.items()}) == expected
