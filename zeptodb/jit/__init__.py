"""The one place where numba is applied to kernels, and the policy of their disk cache.

`@kernel` compiles for release of the GIL, on a kernel's first call, to object code that needs neither numba nor this
source to run: a later process loads it with llvmlite alone, in a fraction of the time that importing numba takes. The
disk cache lives in `$ZEPTODB_CACHE_DIR`, else in the user's cache directory, in a folder named after a digest of all
kernel sources (every file of the package that names `zeptodb.jit`), of the versions that decide what the code compiles
to, and of the processor. What a kernel uses, constants too, must therefore stand in such a file. A note beside that
folder spares reading these files as long as none has changed. Where no folder can be written, kernels are compiled in
memory for this process.

`load_*` and `store_*` read and write memory by address; `pointer_*` turns an address into something indexable;
`float64_of_bits` and `bits_of_float64` are the same bits under another type; `claim` hands out the work items that
threads share.
"""

from __future__ import annotations

from zeptodb.jit.cache import cache_directory, cache_roots, compiled_kernels, modules_with_kernels, source_digest
from zeptodb.jit.intrinsics import (
    bits_of_float64,
    claim,
    copy_bytes,
    float64_of_bits,
    intrinsic,
    load_float32,
    load_float64,
    load_int32,
    load_int64,
    load_uint8,
    pointer_float32,
    pointer_float64,
    pointer_int32,
    pointer_int64,
    pointer_uint8,
    prefetch,
    store_float32,
    store_float64,
    store_int32,
    store_int64,
    store_uint8,
)
from zeptodb.jit.kernels import KERNELS, Kernel, address_of_kernel, inline, kernel, kernel_with_address

__all__ = [
    "KERNELS",
    "Kernel",
    "address_of_kernel",
    "bits_of_float64",
    "cache_directory",
    "cache_roots",
    "claim",
    "compiled_kernels",
    "copy_bytes",
    "float64_of_bits",
    "inline",
    "intrinsic",
    "kernel",
    "kernel_with_address",
    "load_float32",
    "load_float64",
    "load_int32",
    "load_int64",
    "load_uint8",
    "modules_with_kernels",
    "pointer_float32",
    "pointer_float64",
    "pointer_int32",
    "pointer_int64",
    "pointer_uint8",
    "prefetch",
    "source_digest",
    "store_float32",
    "store_float64",
    "store_int32",
    "store_int64",
    "store_uint8",
]
