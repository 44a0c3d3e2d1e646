"""Builds the kernels for the emulator: one shared library, kept under the user's cache directory.

Two environment variables are for `ci/sanitize` and `ci/planted_bugs`: ZEPTODB_EMULATOR names a variant of VARIANTS,
ZEPTODB_KERNELS another folder of kernels. A sanitized library needs the sanitizer's own in LD_PRELOAD.
"""

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
VARIANT = os.environ.get("ZEPTODB_EMULATOR", "plain")
PROBES = "probes.cu"
KERNELS = Path(os.environ.get("ZEPTODB_KERNELS", HERE.parents[1] / "kernels"))
FLAGS = ("-std=c++17", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall", "-Wextra",
         "-Wno-unknown-pragmas", "-Wno-unused-parameter", "-Werror", "-Wno-array-bounds")  # fmt: skip
VARIANTS = {
    "plain": ("-O2",),
    "address": ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
    "thread": ("-O1", "-g", "-fsanitize=thread"),
}
"""How the kernels are compiled."""
MACHINE = {"plain": ("-O2",), "address": ("-O2", "-DEMULATOR_ADDRESS"), "thread": ("-O2", "-DEMULATOR_THREAD")}
"""How what runs them is: sanitizers are told of it (sanitizers.hpp) and do not look at it."""
_KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(')


class CannotBuildError(Exception):
    """There is nothing to build with."""


class RefusedError(Exception):
    """The compiler refused the kernels."""


def sources(folder: Path = KERNELS) -> list[Path]:
    """The kernels, and those of the emulator's own tests unless the folder has its own copy of them."""
    found = sorted(folder.glob("*.cu"))
    return found if folder / PROBES in found else [*found, HERE / PROBES]


def kernel_names(folder: Path = KERNELS) -> list[str]:
    """Names of all kernels."""
    return [name for path in sources(folder) for name in _KERNEL.findall(path.read_text())]


def unit(folder: Path = KERNELS) -> str:
    """The translation unit: shim, kernels, and the table of their names."""
    includes = "\n".join(f'#include "{path}"' for path in sources(folder))
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
    int kernel, int64_t blocks, int64_t first, int64_t count, int64_t threads, void** arguments,
    const int64_t* extents, int64_t extent_count, uint64_t seed
) {{
    return emulator::launch(
        KERNELS[kernel], blocks, first, count, threads, arguments, extents, extent_count, seed);
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


def build(variant: str = VARIANT, folder: Path = KERNELS) -> Path:
    """The library, compiled if these sources have not been compiled before; raises CannotBuildError or RefusedError."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise CannotBuildError("g++ is not installed, which compiles the CUDA kernels for the emulator")
    digest = hashlib.sha256(repr((FLAGS, VARIANTS[variant], MACHINE[variant], _version(compiler))).encode())
    for path in (*sources(folder), *sorted(folder.glob("*.cuh")), *sorted(HERE.glob("*.?pp")), HERE / "build.py"):
        digest.update(path.read_bytes())
    target = _cache_folder() / f"kernels-{variant}-{digest.hexdigest()[:20]}.so"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        names = ("unit.cpp", "machine.o", "unit.o", "unit.so")
        source, machine, kernels, made = (Path(scratch) / name for name in names)
        source.write_text(unit(folder))
        _run(compiler, *FLAGS, *MACHINE[variant], "-c", str(HERE / "machine.cpp"), "-o", str(machine))
        _run(compiler, *FLAGS, *VARIANTS[variant], "-c", str(source), "-o", str(kernels))
        _run(compiler, *VARIANTS[variant], "-shared", str(machine), str(kernels), "-o", str(made))
        made.replace(target)  # in one step, for whoever builds at the same time
    return target


def _run(compiler: str, *arguments: str) -> None:
    run = subprocess.run([compiler, *arguments], capture_output=True, text=True, check=False)
    if run.returncode:
        raise RefusedError(f"{compiler} refuses the kernels:\n{run.stderr[:4000]}")


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
