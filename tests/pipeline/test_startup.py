"""What a new process loads before it answers: little, and no compiler."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import zeptodb
from bench.startup import PACKAGES

OTHERS = {"numba", "pandas", "polars", "pyarrow", "duckdb", "plotly", "requests", "tqdm"}
RARE = {
    "fractions",
    "hashlib",
    "sqlglot.optimizer.simplify",
    "zeptodb.backends.cpu.warm_up",
    "zeptodb.backends.cpu.window",
    "zeptodb.ingest.sift",
    "zeptodb.sql.compose",
    "zeptodb.sql.fallback",
    "zeptodb.sql.relations",
    "zeptodb.sql.window_planner",
    "zeptodb.storage.late",
    "zeptodb.storage.ordering",
}
ANSWER = """
import zeptodb
pipeline = zeptodb.Pipeline(backend="cpu")
pipeline.ingest_batch([1, 2, 1], [15000, 15010, 15020], [10, 20, 30], [1, 2, 3])
assert pipeline.vwap(symbol=1) == 15015.0
assert pipeline.count(symbol=1) == 2
result = pipeline.execute("SELECT symbol, vwap(price, volume) FROM trades WHERE price > 1 GROUP BY symbol")
assert result.raise_for_error().rows == [[1, 15015.0], [2, 15010.0]]
assert list(result.to_numpy()) == ["symbol", "vwap(price, volume)"]
assert len(pipeline.execute("SELECT price FROM trades ORDER BY price DESC LIMIT 2").raise_for_error()) == 2
"""
LAST_TO_GO = """
import gc, os

def function(): pass

class LastToGo:
    def __call__(self): pass
    def __del__(self, get=gc.get_objects, write=os.write, len=len, str=str, type=type, function=type(function)):
        # Python's last collection is still to come; no module is left to import or to name anything.
        modules = [str(held.__module__) for held in get() if type(held) is function]
        write(1, str(len([name for name in modules if name.startswith("zeptodb")])).encode())

os.register_at_fork(before=LastToGo())
"""
REPORT = "import sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"


def packages_after(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", f"{code}\n{REPORT}"], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


def test_importing_zeptodb_imports_none_of_its_packages():
    assert packages_after("import zeptodb") & {*OTHERS, *PACKAGES} == set()


def test_with_kernels_in_the_cache_an_answer_needs_few_packages():
    zeptodb.Pipeline(backend="cpu").warm_up()
    assert packages_after(ANSWER) & {*OTHERS, *PACKAGES} == set(PACKAGES)


def test_an_answer_of_our_own_imports_no_module_that_only_other_statements_need():
    code = f"{ANSWER}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    imported = set(json.loads(done.stdout))
    assert imported & RARE == set()
    own = [name for name in imported if name.startswith("zeptodb")]
    assert len(own) < 125
    sources = {name: inspect.getsource(importlib.import_module(name)) for name in own}
    made_slowly = [name for name, source in sources.items() if re.search(r"^@dataclass\b", source, re.MULTILINE)]
    assert made_slowly == [], "take @record"


def test_nothing_but_forks_registers_what_is_called_at_forks():
    package = Path(zeptodb.__file__).parent
    users = {file.name for file in package.rglob("*.py") if "os.register_at_fork(" in file.read_text("utf-8")}
    assert users == {"forks.py"}


def test_the_garbage_collector_is_left_as_it_was():
    for switch in ("enable", "disable"):
        code = f"""
import gc
gc.{switch}()
gc.set_threshold(900, 8, 7)
{ANSWER}
assert gc.isenabled() is {switch == "enable"}
assert gc.get_threshold() == (900, 8, 7)
"""
        subprocess.run([sys.executable, "-c", code], check=True)


def test_at_exit_modules_are_emptied_before_the_last_collection():
    code = f"exec({LAST_TO_GO!r}, {{}})\n{ANSWER}"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 20, "more than the functions that are called at forks"


def test_after_the_imports_what_there_is_waits_for_a_full_collection():
    code = f"""
import gc
gc.callbacks.append(lambda phase, found: phase == "stop" and collected.append(found["generation"]))
collected = []
{ANSWER}
assert 2 not in collected
assert gc.get_freeze_count() == 0
assert len(gc.get_objects(generation=2)) > 10_000
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_the_program_has_frozen_stays_frozen():
    code = f"""
import gc
class Node: pass
gc.freeze()
frozen = gc.get_freeze_count()
{ANSWER}
assert frozen * 0.9 < gc.get_freeze_count() <= frozen
"""
    subprocess.run([sys.executable, "-c", code], check=True)
