"""The link is measured in both directions, of page-locked and of pageable memory."""

from __future__ import annotations

from bench.gpu import link, overlap
from zeptodb.backends.cuda.driver import DeviceError
from zeptodb.backends.cuda.memory import SLAB_BYTES
from zeptodb.backends.cuda.staging import SLOT_BYTES, SLOTS


def measure(record, engines) -> None:
    link.measure(
        record, engines, sizes=(4096, 1 << 16), slabs=2, launches=20, overlap_rows=3_000, overlap_bytes=1 << 16
    )


def test_copies_both_ways(record, engines, found, skipped):
    measure(record, engines)
    assert {(e["direction"], e["memory"], e["bytes"]) for e in found("copy")} == {
        (direction, memory, size)
        for direction in ("to device", "to host")
        for memory in ("page-locked", "pageable")
        for size in (4096, 1 << 16)
    }
    assert all(e["bytes_per_second"] > 0 for e in found("copy"))
    assert not skipped()
    # Only the buffers through which the backend brings up short ranges stay.
    assert list(engines.driver.registered.values()) == [SLOTS * SLOT_BYTES]


def test_page_locking_slab_by_slab(record, engines, found):
    measure(record, engines)
    assert [(e["touched_before"], e["slabs"], e["slab_bytes"]) for e in found("page-lock")] == [
        (False, 2, SLAB_BYTES),
        (True, 2, SLAB_BYTES),
    ]


def test_launches_and_round_trips(record, engines, found):
    measure(record, engines)
    assert found("launch")[0]["host_seconds"] > 0
    assert found("round trip")[0]["seconds"] > 0


def test_a_system_that_locks_no_pages_is_noted(record, engines, found, skipped, monkeypatch):
    def refuse(*_: int) -> None:
        raise DeviceError("not permitted")

    monkeypatch.setattr(engines.driver.driver, "register", refuse)
    measure(record, engines)
    assert skipped() == {
        "copies of page-locked memory": "not permitted",
        "page-locking": "slab 0 of 2: not permitted",
        "copies beside queries": "not permitted",
    }
    assert {e["memory"] for e in found("copy")} == {"pageable"}


def test_copies_beside_queries(record, engines, found):
    measure(record, engines)
    (entry,) = found("overlap")
    assert entry["bytes"] == 32 << 16
    assert entry["queries"] >= 1
    assert all(entry[name] > 0 for name in ("bytes_per_second", "bytes_per_second_beside", "query_seconds_beside"))


def test_copies_beside_queries_are_left_out_when_the_host_runs_these(record, make_engines, skipped):
    engines = make_engines(memory_limit=1 << 12)
    overlap.measure_overlap(record, engines, rows=3_000, copy_bytes=1 << 16)
    assert "the host ran the query" in skipped()["copies beside queries"]
