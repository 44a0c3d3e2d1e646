"""SQL over HTTP reaches no file, and only those of a directory that was allowed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from tests.server.http import Http
from zeptodb import ConfigError, Pipeline
from zeptodb.server.app import make_app
from zeptodb.server.serve import BackgroundServer
from zeptodb.server.settings import ServerSettings


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    (folder / "ticks.csv").write_text("symbol,price\nA,1.5\n")
    (folder.parent / "outside.csv").write_text("symbol,price\nSECRET,1\n")
    return folder


@pytest.fixture(scope="module")
def allowed(shared: Path) -> Iterator[Http]:
    settings = ServerSettings(port=0, backend="cpu", allowed_directories=(shared,))
    with BackgroundServer(settings) as server, urllib3.PoolManager(retries=False) as pool:
        yield Http(pool, server.url)


WAYS = [
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM read_text('{file}')",
    "SELECT * FROM read_blob('{file}')",
    "SELECT * FROM read_json('{file}')",
    "SELECT * FROM read_parquet('{file}')",
    "SELECT * FROM parquet_scan('{file}')",
    "SELECT * FROM glob('{file}')",
    "SELECT * FROM '{file}'",
    "SELECT * FROM sniff_csv('{file}')",
    "SELECT * FROM duckdb('{file}')",
    "SELECT * FROM query('SELECT * FROM read_csv(''{file}'')')",
    "COPY trades FROM '{file}'",
    "COPY trades TO '{file}.parquet'",
    "COPY (SELECT 1) TO '{file}.copy.csv'",
    "CREATE TABLE stolen AS SELECT * FROM read_csv('{file}')",
    "INSERT INTO trades SELECT * FROM read_csv('{file}')",
    "WITH x AS (SELECT * FROM read_csv('{file}')) SELECT * FROM x",
    "SELECT (SELECT count(*) FROM read_csv('{file}'))",
    "EXPLAIN ANALYZE SELECT * FROM read_csv('{file}')",
    "DESCRIBE SELECT * FROM read_csv('{file}')",
    "SUMMARIZE SELECT * FROM read_csv('{file}')",
    "ATTACH '{file}.db'",
    "EXPORT DATABASE '{file}.d'",
    "IMPORT DATABASE '{file}.d'",
    "SELECT * FROM file('{file}')",
    "SELECT 1 INTO OUTFILE '{file}.out'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "SELECT * FROM read_csv('https://127.0.0.1:1/x.csv')",
    "SELECT * FROM read_csv('{folder}/../outside.csv')",
]


@pytest.mark.parametrize("way", WAYS)
def test_no_statement_reaches_a_file(http: Http, shared: Path, way: str) -> None:
    before = {path.name for path in shared.iterdir()}
    answer = http.post(way.format(file=shared / "ticks.csv", folder=shared))
    assert 400 <= answer.status <= 501, answer.data
    assert b"SECRET" not in answer.data
    assert {path.name for path in shared.iterdir()} == before


@pytest.mark.parametrize(
    "setting", ["enable_external_access = true", "allowed_directories = ['/']", "lock_configuration = false"]
)
def test_settings_that_open_files_have_no_effect(http: Http, shared: Path, setting: str) -> None:
    http.post(f"SET {setting}", session_id="s")
    assert http.post(f"SELECT * FROM read_csv('{shared / 'ticks.csv'}')", session_id="s").status == 403


def test_an_allowed_directory_can_be_read_and_written(allowed: Http, shared: Path) -> None:
    assert allowed.text(f"SELECT * FROM read_csv('{shared / 'ticks.csv'}')") == "A\t1.5\n"
    allowed.text(f"COPY (SELECT 1 AS x) TO '{shared / 'made.csv'}'")
    assert (shared / "made.csv").read_text() == "x\n1\n"


@pytest.mark.parametrize("path", ["../outside.csv", "../shared0/../outside.csv", "/etc/hostname"])
def test_nothing_outside_an_allowed_directory(allowed: Http, shared: Path, path: str) -> None:
    answer = allowed.post(f"SELECT * FROM read_text('{shared / path}')")
    assert answer.status == 403, answer.data


def test_a_pipeline_whose_sql_may_read_files_is_not_served() -> None:
    with pytest.raises(ConfigError, match="allowed_directories"):
        make_app(Pipeline(backend="cpu"), ServerSettings())
