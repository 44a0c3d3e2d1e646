"""Builds the kernels for the emulator: one shared library, kept under the user's cache directory."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from zeptodb.jit import cache_roots

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "kernels"
FLAGS = ("-std=c++17", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall", "-Wextra",
         "-Wno-unknown-pragmas", "-Wno-unused-parameter", "-Werror", "-Wno-array-bounds")  # fmt: skip
VARIANTS = {
    "plain": ("-O2",),
    "address": ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
    "thread": ("-O1", "-g", "-fsanitize=thread"),
}
_KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(')


class CannotBuildError(Exception):
    """There is no compiler, or it refused the kernels."""


def kernel_names(folder: Path = KERNELS) -> list[str]:
    """Names of all kernels."""
    return [name for path in sorted(folder.glob("*.cu")) for name in _KERNEL.findall(path.read_text())]


def unit(folder: Path = KERNELS) -> str:
    """The translation unit: shim, kernels, and the table of their names."""
    includes = "\n".join(f'#include "{path}"' for path in sorted(folder.glob("*.cu")))
    table = "\n".join(
        f'    {{"{name}", emulator::Launcher<&{name}>::parameters, emulator::Launcher<&{name}>::run}},'
        for name in kernel_names(folder)
    )
    return f"""#include "{HERE / "shim.hpp"}"
{includes}

static const emulator::Kernel KERNELS[] = {{
{table}
}};
static const int KERNEL_COUNT = sizeof KERNELS / sizeof KERNELS[0];

extern "C" int emulator_find(const char* name, int* parameters) {{
    for (int k = 0; k < KERNEL_COUNT; ++k) {{
        if (strcmp(KERNELS[k].name, name) == 0) {{ *parameters = KERNELS[k].parameters; return k; }}
    }}
    return -1;
}}

extern "C" int emulator_launch(
    int kernel, int64_t blocks, int64_t threads, void** arguments, const int64_t* extents, int64_t extent_count,
    uint64_t seed
) {{
    return emulator::launch(KERNELS[kernel], blocks, threads, arguments, extents, extent_count, seed);
}}

extern "C" void* emulator_allocate(uint64_t size) {{
    void* memory = nullptr;
    if (posix_memalign(&memory, 256, size) != 0) return nullptr;
    memset(memory, 0xA5, size);
    return memory;
}}

extern "C" void emulator_free(void* memory) {{ free(memory); }}

extern "C" const char* emulator_message() {{ return emulator::machine.message; }}
"""


def build(variant: str = "plain", folder: Path = KERNELS) -> Path:
    """The library, compiled if these sources have not been compiled before; raises CannotBuildError."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise CannotBuildError("g++ is not installed, which compiles the CUDA kernels for the emulator")
    flags = (*FLAGS, *VARIANTS[variant])
    digest = hashlib.sha256(repr((flags, _version(compiler))).encode())
    for path in (*sorted(folder.glob("*.cu*")), HERE / "shim.hpp", HERE / "build.py"):
        digest.update(path.read_bytes())
    target = _cache_folder() / f"kernels-{variant}-{digest.hexdigest()[:20]}.so"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        source, made = Path(scratch) / "unit.cpp", Path(scratch) / "unit.so"
        source.write_text(unit(folder))
        run = subprocess.run(
            [compiler, *flags, str(source), "-o", str(made)], capture_output=True, text=True, check=False
        )
        if run.returncode:
            raise CannotBuildError(f"{compiler} refuses the kernels:\n{run.stderr[:4000]}")
        made.replace(target)  # in one step, for whoever builds at the same time
    return target


def _version(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout


def _cache_folder() -> Path:
    for root in (*cache_roots(), Path(tempfile.gettempdir()) / "zeptodb"):
        folder = root / "emulator"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    raise CannotBuildError("no folder can be written for the emulator's library")
