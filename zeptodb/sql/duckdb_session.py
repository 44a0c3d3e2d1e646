"""One in-memory DuckDB per engine, made when first needed; a fresh cursor per statement."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from zeptodb.backends import control
from zeptodb.forks import at_fork
from zeptodb.sql.engine import Engine

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


at_fork(after_in_child=_after_fork)


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
