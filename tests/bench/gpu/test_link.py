"""The link is measured in both directions, of page-locked and of pageable memory."""

from __future__ import annotations

from bench.gpu import link
from zeptodb.backends.cuda.driver import DeviceError
from zeptodb.backends.cuda.memory import SLAB_BYTES


def measure(record, engines) -> None:
    link.measure(record, engines, sizes=(4096, 1 << 16), slabs=2, launches=20)


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
    assert not engines.driver.registered


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
    assert skipped() == {"copies of page-locked memory": "not permitted", "page-locking": "slab 0 of 2: not permitted"}
    assert {e["memory"] for e in found("copy")} == {"pageable"}
