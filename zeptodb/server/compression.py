"""Compression of bodies: whole bodies in, with a limit on what they become; streams out."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import lz4.block
import lz4.frame
from clickhouse_cityhash import cityhash

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from zeptodb.server.codes import Code, failure

_STEP = 1 << 20


class Compressor(Protocol):
    """Compresses a stream."""

    def compress(self, data: bytes | memoryview) -> bytes:
        """The next piece."""
        ...

    def flush(self) -> bytes:
        """What is left, and the end of the stream."""
        ...


class _Lz4:
    def __init__(self) -> None:
        self._context = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def compress(self, data: bytes | memoryview) -> bytes:
        head = b"" if self._begun else self._context.begin()
        self._begun = True
        return bytes(head + self._context.compress(data))

    def flush(self) -> bytes:
        head = b"" if self._begun else self._context.begin()
        return bytes(head + self._context.flush())


_COMPRESSORS: dict[str, Callable[[], Compressor]] = {
    "lz4": _Lz4,
    "zstd": lambda: zstd.ZstdCompressor(1),
    "gzip": lambda: zlib.compressobj(1, wbits=31),
    "deflate": lambda: zlib.compressobj(1),
}


def chosen_encoding(accepted: str) -> str | None:
    """The first encoding of an Accept-Encoding header that we have; None for none.

    >>> chosen_encoding("br, zstd;q=0.9, gzip")
    'zstd'
    """
    for item in accepted.split(","):
        name, _, parameters = item.strip().partition(";")
        if name.strip().lower() in _COMPRESSORS and parameters.replace(" ", "") not in ("q=0", "q=0.0"):
            return name.strip().lower()
    return None


def compressed(pieces: Iterable[bytes | memoryview], encoding: str) -> Iterator[bytes]:
    """A stream compressed, with its end."""
    compressor = _COMPRESSORS[encoding]()
    for piece in pieces:
        out = compressor.compress(piece)
        if out:
            yield out
    yield compressor.flush()


# ---- request bodies ------------------------------------------------------------------------------------------------


def decompressed(data: bytes, encoding: str, limit_bytes: int) -> bytes:
    """A whole body decompressed; raises when it is broken, truncated, or becomes longer than the limit."""
    for name in reversed([part.strip().lower() for part in encoding.split(",")]):
        if name in ("", "identity"):
            continue
        decompress = _DECOMPRESS.get(name)
        if decompress is None:
            raise failure(
                Code.UNKNOWN_COMPRESSION_METHOD,
                f"Content-Encoding is {name[:40]!r}; known are {', '.join(sorted(_DECOMPRESS))}.",
            )
        data = decompress(data, limit_bytes)
    return data


def _broken(name: str, reason: object) -> Exception:
    code = Code.ZLIB_INFLATE_FAILED if name in ("gzip", "deflate") else Code.CANNOT_DECOMPRESS
    return failure(code, f"The body is not valid {name}, or ends too early ({reason}); nothing was stored.")


def too_large(limit_bytes: int) -> Exception:
    """The error for a body that is too long."""
    return failure(
        Code.QUERY_IS_TOO_LARGE,
        f"The body is longer than the {limit_bytes:,} bytes that this server takes (max_body_bytes, also after "
        "decompression); send it in parts.",
    )


def _inflate(name: str, wbits: int) -> Callable[[bytes, int], bytes]:
    def decompress(data: bytes, limit_bytes: int) -> bytes:
        out: list[bytes] = []
        size = 0
        while data:
            stream = zlib.decompressobj(wbits)
            pending = data
            while not stream.eof:
                try:
                    piece = stream.decompress(pending, _STEP)
                except zlib.error as error:
                    raise _broken(name, error) from error
                pending = stream.unconsumed_tail
                size += len(piece)
                if size > limit_bytes:
                    raise too_large(limit_bytes)
                out.append(piece)
                if not piece and not pending and not stream.eof:
                    raise _broken(name, "no end of the stream")
            data = stream.unused_data
        return b"".join(out)

    return decompress


class _Decompressor(Protocol):
    """Decompresses one frame in steps."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _frames(name: str, make: Callable[[], _Decompressor]) -> Callable[[bytes, int], bytes]:
    """Decompresses frames one behind the other until the end of the input."""

    def decompress(data: bytes, limit_bytes: int) -> bytes:
        out: list[bytes] = []
        size = 0
        while data:
            stream = make()
            pending = data
            while not stream.eof:
                try:
                    piece = stream.decompress(pending, max_length=_STEP)
                except (RuntimeError, zstd.ZstdError) as error:
                    raise _broken(name, error) from error
                pending = b""
                size += len(piece)
                if size > limit_bytes:
                    raise too_large(limit_bytes)
                out.append(piece)
                if not stream.eof and (stream.needs_input or not piece):  # type: ignore[redundant-expr]
                    raise _broken(name, "no end of the frame")
            data = stream.unused_data or b""
        return b"".join(out)

    return decompress


_DECOMPRESS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _inflate("gzip", 31),
    "x-gzip": _inflate("gzip", 31),
    "deflate": _inflate("deflate", 15),
    "zstd": _frames("zstd", zstd.ZstdDecompressor),
    "lz4": _frames("lz4", lz4.frame.LZ4FrameDecompressor),
}


# ---- blocks of ClickHouse (compress=1, decompress=1) ---------------------------------------------------------------

_LZ4, _ZSTD, _NONE = 0x82, 0x90, 0x02
_HEAD = 9
_CHECKSUM = 16
_BLOCK_BYTES = 1 << 20


def _checksum(block: bytes) -> bytes:
    value: int = cityhash.CityHash128(block)
    return (value >> 64).to_bytes(8, "little") + (value & (2**64 - 1)).to_bytes(8, "little")


def framed(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """A stream as blocks of LZ4 with a checksum each."""
    for piece in pieces:
        for start in range(0, len(piece), _BLOCK_BYTES):
            part = piece[start : start + _BLOCK_BYTES]
            payload = lz4.block.compress(part, store_size=False)
            head = bytes([_LZ4]) + (len(payload) + _HEAD).to_bytes(4, "little") + len(part).to_bytes(4, "little")
            yield _checksum(head + payload) + head + payload


def unframed(data: bytes, limit_bytes: int) -> bytes:
    """A whole body out of blocks; raises for wrong checksums, sizes and methods."""
    out: list[bytes] = []
    size = position = 0
    while position < len(data):
        head = data[position + _CHECKSUM : position + _CHECKSUM + _HEAD]
        if len(head) < _HEAD:
            raise _broken("block", "a block's head is cut off")
        length, whole = int.from_bytes(head[1:5], "little"), int.from_bytes(head[5:9], "little")
        block = data[position + _CHECKSUM : position + _CHECKSUM + length]
        if length < _HEAD or len(block) < length:
            raise _broken("block", "a block is cut off")
        if _checksum(block) != data[position : position + _CHECKSUM]:
            raise failure(
                Code.CHECKSUM_DOESNT_MATCH, "A block's checksum does not match its contents; nothing was stored."
            )
        size += whole
        if size > limit_bytes:
            raise too_large(limit_bytes)
        out.append(_block(head[0], block[_HEAD:], whole))
        position += _CHECKSUM + length
    return b"".join(out)


def _block(method: int, payload: bytes, size: int) -> bytes:
    try:
        if method == _LZ4:
            part = lz4.block.decompress(payload, uncompressed_size=size)
        elif method == _ZSTD:
            part = zstd.ZstdDecompressor().decompress(payload, max_length=size)
        elif method == _NONE:
            part = payload
        else:
            raise failure(Code.UNKNOWN_COMPRESSION_METHOD, f"A block has the unknown method {method:#x}.")
    except (lz4.block.LZ4BlockError, zstd.ZstdError) as error:
        raise _broken("block", error) from error
    if len(part) != size:
        raise _broken("block", "a block has another size than it says")
    return bytes(part)
