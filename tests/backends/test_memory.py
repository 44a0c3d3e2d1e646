"""Anonymous memory: zeroed, aligned, and given back when its owner is gone."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import pytest

from zeptodb.backends.cpu.memory import AnonymousMemory


@pytest.mark.parametrize("size_bytes", [1, 4096, 2**21, 2**21 + 1, 2**25])
def test_memory_is_zeroed_aligned_and_writable_to_its_end(size_bytes: int) -> None:
    mapping = AnonymousMemory().map(size_bytes)
    assert mapping.size_bytes >= size_bytes
    assert mapping.address % (2**21 if size_bytes >= 2**21 else 64) == 0
    view = (ctypes.c_uint8 * mapping.size_bytes).from_address(mapping.address)
    assert view[0] == view[mapping.size_bytes - 1] == 0
    view[0] = view[mapping.size_bytes - 1] = 255


def test_memory_goes_back_with_its_owner() -> None:
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("no /proc on this system")
    mapping = AnonymousMemory().map(2**31)
    inside = mapping.address + 2**30

    def is_mapped() -> bool:
        spans = (line.split()[0].split("-") for line in maps.read_text().splitlines())
        return any(int(low, 16) <= inside < int(high, 16) for low, high in spans)

    assert is_mapped()
    del mapping
    gc.collect()
    assert not is_mapped()


def test_impossible_size_is_a_memory_error_that_says_so() -> None:
    with pytest.raises(MemoryError, match="bytes"):
        AnonymousMemory().map(2**60)
