"""The console command `zepto_server`: one Pipeline over HTTP, until it is told to stop."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from zeptodb import __version__
from zeptodb.errors import InvalidInputError, ZeptoError

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit status: 0, 1 for a failure, 2 for settings that make no sense."""
    given = {name: value for name, value in vars(_parser().parse_args(arguments)).items() if value is not None}
    config = given.pop("config", None)
    try:
        from zeptodb.server.logs import set_up_logs
        from zeptodb.server.serve import make_pipeline, make_server
        from zeptodb.server.settings import load_settings

        settings = load_settings(config, given)
        set_up_logs(settings.log_level)
        server = make_server(make_pipeline(settings), settings)
        server.run()
    except InvalidInputError as error:
        print(f"zepto_server: {error}", file=sys.stderr)  # noqa: T201 - the command line
        return EXIT_BAD_INPUT
    except (ZeptoError, OSError) as error:
        print(f"zepto_server: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_FAILED
    except ModuleNotFoundError as error:
        print(f'zepto_server: {error}; install the server with pip install "zeptodb[server]"', file=sys.stderr)  # noqa: T201
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 0
    return 0 if server.started else EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zepto_server", description="Serve one Pipeline over HTTP, as ClickHouse's clients expect it."
    )
    parser.add_argument("--version", action="version", version=f"zepto_server {__version__}")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with any of these settings and more")
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port (default 8123)")
    parser.add_argument("--backend", choices=("auto", "cpu", "cuda"), help="default auto, the best that is there")
    parser.add_argument(
        "--require-auth", action="store_true", default=None, help="refuse requests without a valid key; needs --keys"
    )
    parser.add_argument("--keys", type=Path, metavar="FILE", help="file that `zeptodb keys create` wrote")
    parser.add_argument(
        "--allow-open-bind",
        action="store_true",
        default=None,
        help="listen beyond loopback without keys: everybody who reaches the port may read and write",
    )
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE", help="PEM certificate chain, for HTTPS")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM key of the certificate")
    parser.add_argument(
        "--allow-directory",
        dest="allowed_directories",
        action="append",
        type=Path,
        metavar="DIR",
        help="let SQL read and write files there (may be repeated; default: nowhere)",
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="default info")
    return parser


if __name__ == "__main__":
    sys.exit(main())
