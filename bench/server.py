"""`python -m bench.server`: the server over the loopback, in a process of its own, beside baselines in the same run."""

from __future__ import annotations

import argparse
import http.client
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from zepto_py import ApexConnection
from zeptodb.demo import environment
from zeptodb.demo.text_table import format_table

SMALL = b"SELECT vwap(price, volume) AS vwap, count(*) AS n FROM trades WHERE symbol = %d"
SYMBOLS = 100
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Line:
    """One line of the report."""

    work: str
    reached: str
    baseline: str
    wanted: str
    holds: bool

    @property
    def cells(self) -> tuple[str, ...]:
        return self.work, self.reached, self.baseline, self.wanted, "yes" if self.holds else "NO"


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    port: int

    def memory(self) -> int:
        """Resident bytes of its process."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="utf-8").split()[1]) * PAGE


@contextmanager
def running() -> Iterator[Server]:
    """A server in a process of its own."""
    command = [sys.executable, "-m", "zeptodb.server", "--port", "0", "--backend", "cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = None
        for line in process.stderr:
            found = re.search(r"running on http://127\.0\.0\.1:(\d+)", line)
            if found:
                break
        if found is None:
            raise RuntimeError("the server did not start")
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        drain.start()
        try:
            yield Server(process, int(found[1]))
        finally:
            process.terminate()
            process.wait(60)


def ticks(rows: int, seed: int = 7) -> pd.DataFrame:
    """Ticks in order of time."""
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "symbol": random.integers(0, SYMBOLS, rows),
            "price": 15_000 + random.integers(-500, 500, rows),
            "volume": random.integers(1, 1_000, rows),
            "timestamp": 1_700_000_000_000_000_000 + np.arange(rows, dtype=np.int64) * 1_000_000,
        }
    )


# ---- small queries -------------------------------------------------------------------------------------------------


def timed_requests(port: int, make: Callable[[int], tuple[str, str, bytes | None]], count: int) -> list[float]:
    """Seconds of each of so many requests on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times = []
    for number in range(count + 100):
        method, path, body = make(number)
        began = time.perf_counter()
        connection.request(method, path, body)
        answer = connection.getresponse()
        answer.read()
        if number >= 100:
            times.append(time.perf_counter() - began)
        if answer.status != 200:
            raise RuntimeError(answer.status)
    connection.close()
    return sorted(times)


def small_queries(server: Server, count: int) -> Line:
    """One client, one query after the other."""
    ping = timed_requests(server.port, lambda _: ("GET", "/ping", None), count)
    query = timed_requests(server.port, lambda i: ("POST", "/", SMALL % (i % SYMBOLS)), count)
    p50, p99 = query[len(query) // 2] * 1e3, query[len(query) * 99 // 100] * 1e3
    return Line(
        "small query, p50 / p99",
        f"{p50:.2f} / {p99:.2f} ms",
        f"/ping {ping[len(ping) // 2] * 1e3:.2f} / {ping[len(ping) * 99 // 100] * 1e3:.2f} ms",
        "2 / 10 ms",
        p50 < 2 and p99 < 10,
    )


# ---- many clients --------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What one client did."""

    requests: int = 0
    rows: int = 0
    errors: list[str] = field(default_factory=list)


def _client(port: int, number: int, ends: float) -> Tally:
    tally = Tally()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    step = 0
    while time.monotonic() < ends:
        step += 1
        if step % 10 == 0:
            body = b"INSERT INTO trades (symbol, price, volume) VALUES (%d, 15000, 1), (%d, 15001, 2)" % (
                1_000 + number,
                1_000 + number,
            )
        else:
            body = SMALL % (step % SYMBOLS)
        try:
            connection.request("POST", "/", body)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            tally.errors.append(repr(error))
            connection.close()
            continue
        if answer.status != 200:
            tally.errors.append(text.decode()[:200])
        elif step % 10 == 0:
            tally.rows += 2
        tally.requests += 1
    connection.close()
    return tally


def many_clients(server: Server, clients: int, seconds: float) -> Line:
    """90 % small queries, 10 % inserts."""
    ends = time.monotonic() + seconds
    with ThreadPoolExecutor(clients) as threads:
        tallies = list(threads.map(lambda number: _client(server.port, number, ends), range(clients)))
    requests = sum(tally.requests for tally in tallies)
    rows = sum(tally.rows for tally in tallies)
    errors = [error for tally in tallies for error in tally.errors]
    with ApexConnection("127.0.0.1", server.port) as db:
        stored = db.execute("SELECT count(*) FROM trades WHERE symbol >= 1000")[0][0]
    if errors:
        print(f"bench.server: {errors[0]}", file=sys.stderr)
    return Line(
        f"{clients} clients, 10 % inserts, {seconds:.0f} s",
        f"{requests / seconds:,.0f}/s, {len(errors)} errors, {rows - stored} rows lost",
        "",
        "500/s, none, none",
        requests / seconds >= 500 and not errors and rows == stored,
    )


# ---- frames --------------------------------------------------------------------------------------------------------


def _median(run: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def ingest(server: Server, frame: pd.DataFrame, repeat: int) -> Iterator[Line]:
    """DataFrames into a table; the baseline is writing the same rows as a local Arrow IPC file."""
    rows = len(frame)
    with ApexConnection("127.0.0.1", server.port) as db, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ticks.arrow"
        local = _median(lambda: _write_file(pa.Table.from_pandas(frame), file), repeat)
        db.ingest_pandas(frame.head(1_000), table_name="trades")  # kernels are loaded, connections open
        db.execute("DELETE FROM trades")
        for name, data in (("pandas", frame), ("polars", pl.from_pandas(frame))):
            db.execute("DROP TABLE IF EXISTS loaded")
            send = db.ingest_pandas if name == "pandas" else db.ingest_polars
            times = []
            for _ in range(repeat):
                db.execute("CREATE TABLE loaded (symbol INT64, price INT64, volume INT64, timestamp TIMESTAMP_NS)")
                began = time.perf_counter()
                send(data, table_name="loaded")
                times.append(time.perf_counter() - began)
                if db.execute("SELECT count(*) FROM loaded") != [(rows,)]:
                    raise RuntimeError("rows were lost")
                db.execute("DROP TABLE loaded")
            rate = rows / statistics.median(times) / 1e6
            yield Line(
                f"ingest_{name}, {rows:,} rows",
                f"{rate:.1f} M rows/s",
                f"to a file {rows / local / 1e6:.1f} M rows/s",
                "5 M rows/s",
                rate >= 5,
            )


def _write_file(table: pa.Table, file: Path) -> None:
    with pa.ipc.new_file(str(file), table.schema) as writer:
        writer.write_table(table)


def query_frame(server: Server, rows: int, repeat: int) -> Line:
    """A whole table as a DataFrame; the baseline reads the same rows from a local Arrow IPC file.

    Beside it stands what a bare socket takes for as many bytes as the answer has, between two processes.
    """
    sql = f"SELECT symbol, price, volume, timestamp FROM trades WHERE symbol < {SYMBOLS}"
    with ApexConnection("127.0.0.1", server.port) as db, tempfile.TemporaryDirectory() as folder:
        table = db.query_arrow(sql)
        if table.num_rows != rows:
            raise RuntimeError(f"{table.num_rows} rows instead of {rows}")
        file = Path(folder) / "ticks.arrow"
        _write_file(table, file)
        del table
        over_http: list[float] = []
        from_file: list[float] = []
        over_socket: list[float] = []
        with bare_socket() as receive:
            for _ in range(repeat):  # in turns, so that all see the same machine
                over_http.append(_median(lambda: db.query_pandas(sql), 1))
                from_file.append(_median(lambda: _read_file(file), 1))
                over_socket.append(_median(lambda: receive(rows * 8 * 3), 1))  # symbols come as runs
    ours, local, bare = (statistics.median(times) for times in (over_http, from_file, over_socket))
    return Line(
        f"query_pandas, {rows:,} rows x 4",
        f"{ours * 1e3:.0f} ms",
        f"Arrow file {local * 1e3:.0f} ms ({ours / local:.2f}x), bare socket {bare * 1e3:.0f} ms",
        "2x",
        ours <= 2 * local,
    )


SENDER = """
import socket, sys
import numpy as np
source = memoryview(np.ones(1 << 28, dtype=np.uint8))
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    while wanted := int(connection.recv(20) or 0):
        for start in range(0, wanted, 1 << 22):
            connection.sendall(source[start : min(start + (1 << 22), wanted)])
"""


@contextmanager
def bare_socket() -> Iterator[Callable[[int], None]]:
    """Receives so many bytes (256 MiB at most) from another process over the loopback, into memory of their own."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [sys.executable, "-c", SENDER, str(listening.getsockname()[1])]
        with subprocess.Popen(command), listening.accept()[0] as connection:

            def receive(size: int) -> None:
                connection.send(b"%d" % size)
                view = memoryview(pa.allocate_buffer(size)).cast("B")
                position = 0
                while position < size:
                    position += connection.recv_into(view[position : position + (1 << 20)])

            yield receive
            connection.shutdown(socket.SHUT_RDWR)


def _read_file(file: Path) -> pd.DataFrame:
    with pa.OSFile(str(file)) as source, pa.ipc.open_file(source) as reader:
        return reader.read_all().to_pandas()


def slow_client(server: Server, rows: int) -> Line:
    """A client that reads an answer of so many rows slowly."""
    sql = f"SELECT symbol, price, volume, timestamp FROM trades LIMIT {rows} FORMAT TSV".encode()
    with ApexConnection("127.0.0.1", server.port) as db:
        db.execute("SELECT count(*) FROM trades")
    idle = most = server.memory()
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
    connection.sendall(b"POST / HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(sql) + sql)
    lines = 0
    while part := connection.recv(1 << 20):
        lines += part.count(b"\n")
        most = max(most, server.memory())
        time.sleep(0.01)
    connection.close()
    if lines < rows:
        raise RuntimeError(f"{lines} lines instead of {rows}")
    more = (most - idle) / 1e6
    return Line(f"memory, slow client, {rows:,} rows", f"{more:.0f} MB above idle", "", "200 MB", more < 200)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns 1 when something falls short."""
    line = argparse.ArgumentParser(prog="python -m bench.server", description=__doc__)
    line.add_argument("--rows", type=int, default=5_000_000, help="rows of frames (default 5,000,000)")
    line.add_argument("--seconds", type=float, default=60.0, help="how long many clients go on (default 60)")
    line.add_argument("--clients", type=int, default=32, help="how many (default 32)")
    line.add_argument("--requests", type=int, default=3_000, help="small queries of the single client (default 3,000)")
    line.add_argument("--repeat", type=int, default=5, help="timed runs of frames (default 5)")
    options = line.parse_args(arguments)
    print(environment.machine(), flush=True)
    lines: list[Line] = []
    frame = ticks(options.rows)
    with running() as server:
        lines.extend(ingest(server, frame, options.repeat))
        with ApexConnection("127.0.0.1", server.port) as db:
            db.ingest_pandas(frame)
        lines.append(small_queries(server, options.requests))
        lines.append(query_frame(server, options.rows, options.repeat))
        lines.append(slow_client(server, min(2_000_000, options.rows)))
        if options.seconds > 0:
            lines.append(many_clients(server, options.clients, options.seconds))
    print(
        format_table(
            ("work", "reached", "baseline", "must reach", "holds"), [one.cells for one in lines], text_columns=5
        )
    )
    return 0 if all(one.holds for one in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
