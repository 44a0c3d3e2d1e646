"""One in-memory DuckDB per engine, made when first needed; a fresh cursor per statement; its errors in our words."""

from __future__ import annotations

import os
import re
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from zeptodb.backends import control
from zeptodb.errors import MemoryLimitError, QueryError, UnknownColumnError, ZeptoError, did_you_mean
from zeptodb.sql.engine import Engine
from zeptodb.sql.source_text import pointed

if TYPE_CHECKING:
    import duckdb

Answer = TypeVar("Answer")

EARTH_RADIUS_METRES = 6_371_008.8
_INTERRUPT_AGAIN_SECONDS = 0.05

_MACROS = (
    f"""CREATE MACRO haversine(lat1, lon1, lat2, lon2) AS 2 * {EARTH_RADIUS_METRES} * asin(sqrt(least(1.0,
        pow(sin(radians(lat2 - lat1) / 2), 2)
        + cos(radians(lat1)) * cos(radians(lat2)) * pow(sin(radians(lon2 - lon1) / 2), 2))))""",
    "CREATE MACRO st_distance(lat1, lon1, lat2, lon2) AS haversine(lat1, lon1, lat2, lon2)",
    """CREATE MACRO st_within(lat, lon, center_lat, center_lon, radius_metres) AS
        haversine(lat, lon, center_lat, center_lon) <= radius_metres""",
)

_lock = threading.Lock()
_connections: weakref.WeakKeyDictionary[Engine, tuple[int, duckdb.DuckDBPyConnection]] = weakref.WeakKeyDictionary()
_of_parent_process: list[duckdb.DuckDBPyConnection] = []


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - the parent may have held it when it forked
    _lock = threading.Lock()
    # Their threads do not exist here, and closing one, also one whose engine is garbage, would wait for them for ever.
    _of_parent_process.extend(connection for _, connection in _connections.values())


os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def cursor(engine: Engine) -> Iterator[duckdb.DuckDBPyConnection]:
    """A fresh cursor on the engine's DuckDB; what is registered on it is seen by nobody else and goes with it."""
    opened = _connection(engine).cursor()
    try:
        yield opened
    finally:
        opened.close()


def interruptible(opened: duckdb.DuckDBPyConnection, run: Callable[[], Answer]) -> Answer:
    """The result of `run`, which works on the cursor `opened`; an interrupt (Ctrl-C) ends it there and is raised here.

    So does the end of the statement's time, or its cancellation: QueryTimeoutError, QueryCancelledError.
    """
    limits = control.current()
    if limits is None:
        return _run_interruptible(opened, run)
    with limits.interrupting(opened.interrupt):
        return _run_interruptible(opened, run)


def _run_interruptible(opened: duckdb.DuckDBPyConnection, run: Callable[[], Answer]) -> Answer:
    """DuckDB does not look for signals, and Python delivers them to the main thread alone.

    While that waits, another thread runs the statement. Callers in other threads run it themselves.
    """
    if threading.current_thread() is not threading.main_thread():
        return run()
    outcome: Future[Answer] = Future()

    def work() -> None:
        try:
            outcome.set_result(run())
        except BaseException as error:  # noqa: BLE001 - the top of a thread; raised by the caller
            outcome.set_exception(error)

    worker = threading.Thread(target=work, name="zeptodb-duckdb", daemon=True)
    worker.start()
    try:
        return outcome.result()
    except KeyboardInterrupt:
        while worker.is_alive():  # an interrupt between two of DuckDB's statements is lost
            opened.interrupt()
            worker.join(_INTERRUPT_AGAIN_SECONDS)
        raise


def _connection(engine: Engine) -> duckdb.DuckDBPyConnection:
    process = os.getpid()
    with _lock:
        known = _connections.get(engine)
        if known is not None and known[0] == process:
            return known[1]
        connection = _open(engine)
        _connections[engine] = (process, connection)
        return connection


def _open(engine: Engine) -> duckdb.DuckDBPyConnection:
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "python_enable_replacements": False,  # else a table name could pick up a Python variable
        "error_on_division_by_zero": False,  # // and % by zero are NULL, as in the native engine
        "temp_directory": str(Path(tempfile.gettempdir()) / f"zeptodb-{os.getpid()}"),
    }
    if engine.config.num_threads is not None:
        config["threads"] = engine.config.num_threads
    if engine.config.memory_limit is not None:
        config["memory_limit"] = f"{engine.config.memory_limit}B"
    connection = duckdb.connect(":memory:", config=config)
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    for macro in _MACROS:
        connection.execute(macro)
    if engine.config.allowed_directories is not None:
        _lock_in(connection, engine.config.allowed_directories)
    return connection


def _lock_in(connection: duckdb.DuckDBPyConnection, directories: Sequence[str | Path]) -> None:
    """Let the connection touch files in these folders alone, load no extension, and change no setting any more."""
    allowed = ", ".join("'" + str(Path(d).resolve()).replace("'", "''") + "'" for d in directories)
    connection.execute(f"SET GLOBAL allowed_directories = [{allowed}]")
    connection.execute("SET GLOBAL enable_external_access = false")
    connection.execute("SET GLOBAL lock_configuration = true")


# ---- errors --------------------------------------------------------------------------------------------------------

_COLUMN_NOT_FOUND = (
    re.compile(r'Referenced column "(?P<column>[^"]+)" not found in FROM clause'),
    re.compile(r'(?:Table|Values list) "(?P<table>[^"]*)" does not have a column named "(?P<column>[^"]+)"'),
)
_NO_FUNCTION = re.compile(r"Function with name \"?(?P<name>\w+)\"? does not exist")
_SUGGESTED = re.compile(r'Did you mean "(\w+)"')
_NOT_CONVERTED = re.compile(r"Could not convert string '([^'\n]+)'")
_OUR_FUNCTIONS = (
    "xbar", "ema", "delta", "ratio", "vwap", "wavg", "percentile", "epoch_s", "epoch_ms", "haversine", "st_distance",
    "st_within", "wj_avg", "wj_sum", "wj_min", "wj_max", "wj_count", "wj_first", "wj_last", "now", "date_trunc",
)  # fmt: skip
_QUOTED = re.compile(r'"([^"\n]+)"')
_EXCERPT = re.compile(r"\n+LINE \d+:.*", re.DOTALL)
_HIDDEN = re.compile(r'(, )?"?(?:[\w.]+\.)?__row_\d+"?')


def query_error(error: Exception, columns: Iterable[str], text: str) -> ZeptoError:
    """An error of DuckDB as ours: what is wrong, where in `text`, and for a column the nearest of `columns`."""
    import duckdb

    message = _HIDDEN.sub("", _EXCERPT.sub("", str(error))).strip()
    for pattern in _COLUMN_NOT_FOUND:
        found = pattern.search(message)
        if found is not None:
            name = found.group("column")
            known = list(dict.fromkeys(columns))
            tail = did_you_mean(name, known) if known else ""
            return UnknownColumnError(pointed(f'There is no column "{name}" here.{tail}', text, place_of(name, text)))
    if isinstance(error, duckdb.OutOfMemoryException):
        return MemoryLimitError(f"The statement needs more memory than DuckDB may use (memory_limit). {message}")
    unknown = _NO_FUNCTION.search(message)
    if unknown is not None:
        return _unknown_function(unknown.group("name"), message, text)
    if "WHERE clause cannot contain aggregates" in message:
        message = "WHERE is decided row by row and cannot contain aggregates; use HAVING, or a subquery."
        return QueryError(pointed(message, text, place_of("WHERE", text)))
    quoted = _NOT_CONVERTED.search(message) or _QUOTED.search(message)
    return QueryError(pointed(message, text, place_of(quoted.group(1), text) if quoted is not None else None))


def _unknown_function(name: str, message: str, text: str) -> QueryError:
    nearest = get_close_matches(name.lower(), _OUR_FUNCTIONS, n=1, cutoff=0.75)
    suggested = _SUGGESTED.search(message)
    hint = nearest[0] if nearest else suggested.group(1) if suggested is not None else ""
    told = f' Did you mean "{hint}"?' if hint else ""
    return QueryError(pointed(f'There is no function "{name}".{told}', text, place_of(name, text)))


def place_of(name: str, text: str) -> int | None:
    """The offset of the first occurrence of a name in the text, None when it does not occur."""
    found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE)
    return None if found is None else found.start()
