"""The console command `zeptodb`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from zeptodb import __version__
from zeptodb.errors import InvalidInputError, InvalidTypeError, ZeptoError
from zeptodb.server.keys_command import add_keys

DEFAULT_ROWS = 1_000_000
DEFAULT_SYMBOLS = 100
DEFAULT_CHART = Path("zeptodb_candles.html")

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 for a failure, 2 for bad input, 130 after Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except (InvalidInputError, InvalidTypeError) as error:
        print(f"zeptodb: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except (ZeptoError, OSError) as error:
        print(f"zeptodb: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("zeptodb: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zeptodb", description="Tick analytics in a Python process.")
    parser.add_argument("--version", action="version", version=f"zeptodb {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_info(commands)
    _add_warmup(commands)
    add_keys(commands)
    return parser


def _add_info(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    info = commands.add_parser(
        "info",
        help="versions, backend, memory and kernel cache of this installation",
        description="Say what is installed and what it runs on, for instance for a bug report.",
    )
    info.add_argument("--json", action="store_true", help="as JSON")
    info.set_defaults(run=_info)


def _add_warmup(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    warmup = commands.add_parser(
        "warmup",
        help="compile every kernel now, so that nothing waits for it later",
        description="Compile every kernel into the cache directory, or load it from there. Worth running while an "
        "image or a CI cache is built: $ZEPTODB_CACHE_DIR names the directory.",
    )
    _add_backend(warmup)
    warmup.set_defaults(run=_warmup)


def _add_backend(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--backend",
        choices=("auto", "cpu", "cuda"),
        help="default: $ZEPTODB_BACKEND, else auto, the best that is there",
    )


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser(
        "demo",
        help="VWAP, bars and an as-of join, timed beside DuckDB and polars, and a chart",
        description="Ingest ticks, ask for VWAP, five-minute bars and the share of trades inside the quote in force, "
        "compare answers and times with DuckDB and polars, and draw candles. Generated ticks unless files are given.",
    )
    demo.add_argument(
        "--trades", type=Path, metavar="FILE", help="Parquet with columns timestamp (int64 ns UTC), symbol, price, size"
    )
    demo.add_argument("--quotes", type=Path, metavar="FILE", help="Parquet with columns timestamp, symbol, bid, ask")
    demo.add_argument(
        "--rows",
        type=_count,
        metavar="N",
        help=f"generated trades, with twice as many quotes (default {DEFAULT_ROWS:,})",
    )
    demo.add_argument("--symbols", type=_count, metavar="N", help=f"generated symbols (default {DEFAULT_SYMBOLS})")
    demo.add_argument("--repeat", type=_count, default=5, metavar="N", help="timed runs per engine (default 5)")
    demo.add_argument(
        "--chart",
        type=Path,
        default=DEFAULT_CHART,
        metavar="FILE",
        help=f"HTML file to write (default {DEFAULT_CHART})",
    )
    demo.add_argument("--no-chart", action="store_const", const=None, dest="chart", help="draw no chart")
    _add_backend(demo)
    demo.set_defaults(run=_demo)


def _count(text: str) -> int:
    try:
        value = int(text.replace("_", "").replace(",", ""))
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def _demo(options: argparse.Namespace) -> int:
    from zeptodb.demo import ticks
    from zeptodb.demo.run import DemoOptions, run_demo

    if options.chart is not None and not options.chart.parent.is_dir():
        raise InvalidInputError(f"--chart: there is no folder {options.chart.parent}; make it first.")
    if options.trades is None:
        if options.quotes is not None:
            raise InvalidInputError("--quotes was given without --trades; give both, or --trades alone.")
        chosen = ticks.generated(rows=options.rows or DEFAULT_ROWS, symbols=options.symbols or DEFAULT_SYMBOLS)
    else:
        if options.rows is not None or options.symbols is not None:
            raise InvalidInputError("--rows and --symbols are for generated ticks; leave them out with --trades.")
        chosen = ticks.read_files(options.trades, options.quotes)
    run_demo(DemoOptions(ticks=chosen, chart=options.chart, backend=options.backend, repeat=options.repeat))
    return 0


def _info(options: argparse.Namespace) -> int:
    from zeptodb.installation import as_json, as_text, find_installation

    print((as_json if options.json else as_text)(find_installation()))
    return 0


def _warmup(options: argparse.Namespace) -> int:
    from zeptodb.demo.warm_up import warm_up
    from zeptodb.installation import find_kernel_cache, format_bytes
    from zeptodb.pipeline import Pipeline

    print(warm_up(Pipeline(backend=options.backend)))
    cache = find_kernel_cache()
    if cache.directory is None:
        print(
            "zeptodb: nothing was kept, as no cache directory can be written; name one in $ZEPTODB_CACHE_DIR.",
            file=sys.stderr,
        )
        return EXIT_FAILED
    print(f"They take {format_bytes(cache.size_bytes)} in {cache.directory}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
