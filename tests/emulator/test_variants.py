"""How `ci/sanitize` and `ci/planted_bugs` learn what they cannot run, and who found a fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulator.variants import judged, missing


@pytest.mark.parametrize(("variant", "library"), [("address", "libasan.so"), ("thread", "libtsan.so")])
def test_a_compiler_without_a_sanitizer_is_named(variant, library, tmp_path: Path, monkeypatch) -> None:
    compiler = tmp_path / "bare-g++"
    compiler.write_text('#!/bin/sh\necho "${1#-print-file-name=}"\n', encoding="utf-8")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert f"{compiler} has no {library}" in missing(variant)
    assert missing("plain") == ""


def test_without_a_compiler_nothing_can_be_run(monkeypatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "not installed" in missing("plain")


@pytest.mark.parametrize(
    ("code", "output", "catcher"),
    [
        (0, "3 passed in 1.2s", None),
        (0, "3 skipped in 1.2s", "answers"),
        (1, "FAILED tests/x.py::test_y\n1 failed, 2 passed", "answers"),
        (1, "E   tests.emulator.driver.EmulatorError: kernel k, block 0, thread 3: waits for ever", "emulator"),
        (1, "==7==ERROR: AddressSanitizer: heap-buffer-overflow", "address"),
        (1, "kernels/asof.cu:18:11: runtime error: signed integer overflow", "address"),
        (66, "WARNING: ThreadSanitizer: data race (pid=7)", "thread"),
        (-11, "tests/x.py::test_y ", "crash"),
    ],
)
def test_who_found_a_fault_is_read_from_what_was_said(code: int, output: str, catcher: str | None) -> None:
    assert judged(code, output, 0.0).caught_by == catcher
