"""The console command `zepto_server`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one Pipeline over HTTP until SIGINT or SIGTERM; returns the exit status."""
    import uvicorn

    from zeptodb.config import PipelineConfig
    from zeptodb.pipeline import Pipeline
    from zeptodb.server.app import make_app
    from zeptodb.server.settings import load_settings

    parser = argparse.ArgumentParser(prog="zepto_server")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--backend")
    parser.add_argument("--config", type=Path)
    options = vars(parser.parse_args(arguments))
    settings = load_settings(options.pop("config"), {k: v for k, v in options.items() if v is not None})
    pipeline = Pipeline(PipelineConfig(), backend=settings.backend)
    uvicorn.run(
        make_app(pipeline, settings), host=settings.host, port=settings.port, log_level="info", access_log=False
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
