"""`python -m bench.gpu.part NAME --out FILE --seconds N`: one part, in a process of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from bench.gpu.record import Record

PARTS = {"machine": 20.0, "conformance": 110.0, "link": 40.0, "operations": 150.0, "opponents": 80.0, "sanitizer": 70.0}
"""Seconds of each part, in their order; with what comes before and after, 8 minutes. Each is a module of its name."""

ON_DEVICE = frozenset({"link", "operations", "opponents"})
"""Parts that are handed the engines; the others find for themselves what they need."""


def main(arguments: Sequence[str] | None = None) -> int:
    line = argparse.ArgumentParser(prog="python -m bench.gpu.part", description=__doc__)
    line.add_argument("name", choices=PARTS)
    line.add_argument("--out", type=Path, required=True)
    line.add_argument("--seconds", type=float, required=True)
    options = line.parse_args(arguments)
    record = Record(options.out, options.seconds)
    measure = import_module(f"bench.gpu.{options.name}").measure
    if options.name not in ON_DEVICE:
        measure(record)
        return 0
    from bench.gpu.engines import real_engines

    with real_engines() as engines:
        engines.device.warm_up()
        measure(record, engines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
