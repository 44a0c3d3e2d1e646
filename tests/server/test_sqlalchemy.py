"""clickhouse-connect's SQLAlchemy dialect, unmodified, and pandas on top of it."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from zeptodb.server.serve import BackgroundServer


@pytest.fixture
def engine(server: BackgroundServer) -> Iterator[Engine]:
    server.pipeline.execute("DROP TABLE IF EXISTS fills").raise_for_error()
    server.pipeline.execute("CREATE TABLE fills (symbol STRING, price DOUBLE, volume BIGINT)").raise_for_error()
    server.pipeline.append("fills", {"symbol": ["A", "B"], "price": [1.5, 2.5], "volume": [10, 20]})
    made = sa.create_engine(f"clickhousedb://default:@127.0.0.1:{server.port}/default")
    yield made
    made.dispose()


def test_read_sql_of_a_plain_statement(engine: Engine) -> None:
    frame = pd.read_sql("SELECT symbol, price FROM fills ORDER BY symbol", engine)
    assert frame.to_dict("list") == {"symbol": ["A", "B"], "price": [1.5, 2.5]}


def test_read_sql_of_text_with_parameters(engine: Engine) -> None:
    frame = pd.read_sql(sa.text("SELECT volume FROM fills WHERE symbol = :name"), engine, params={"name": "B"})
    assert frame["volume"].tolist() == [20]


def test_tables_and_columns_are_found(engine: Engine) -> None:
    inspector = sa.inspect(engine)
    assert "fills" in inspector.get_table_names()
    assert [column["name"] for column in inspector.get_columns("fills")] == ["symbol", "price", "volume"]
    table = sa.Table("fills", sa.MetaData(), autoload_with=engine)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(table.c.symbol).where(table.c.volume > 10)).fetchall()
    assert rows == [("B",)]


def test_to_sql_appends(engine: Engine) -> None:
    pd.DataFrame({"symbol": ["C", "D'x"], "price": [3.5, 4.5], "volume": [1, 2]}).to_sql(
        "fills", engine, if_exists="append", index=False
    )
    frame = pd.read_sql("SELECT symbol, volume FROM fills WHERE price > 3 ORDER BY symbol", engine)
    assert frame.to_dict("list") == {"symbol": ["C", "D'x"], "volume": [1, 2]}


def test_executemany_inserts(engine: Engine) -> None:
    table = sa.Table("fills", sa.MetaData(), autoload_with=engine)
    with engine.connect() as connection:
        connection.execute(sa.insert(table), [{"symbol": f"S{i}", "price": 9.0, "volume": i} for i in range(50)])
        count = connection.execute(sa.text("SELECT count(*) FROM fills WHERE price = 9")).scalar()
    assert count == 50


def test_an_unknown_table_is_an_error(engine: Engine) -> None:
    with pytest.raises(pd.errors.DatabaseError, match="UNKNOWN_TABLE"):
        pd.read_sql("SELECT * FROM nowhere", engine)
