"""gzip. Towards the device: CouchDB compresses no JSON, and JSON shrinks to a sixth. From it: in bounded pieces."""

from __future__ import annotations

import struct
import zlib

from aiohttp import web

GZIP = "gzip"
#: How many bytes fewer an answer has become by compression so far.
SAVED = web.RequestKey("saved", int)
LEVEL = 4  # beyond it the time doubles for a few per cent
SMALLEST = 400  # bytes; below, gzip gains nothing
_NOT_AT_ALL = ("q=0", "q=0.0", "q=0.00", "q=0.000")

# RFC 1952: deflate, no name, no time, an unknown system. RFC 1951: an empty block that is the last one.
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_LAST_BLOCK = b"\x03\0"


def coding(request: web.Request) -> str:
    """How the body of a request is sent: empty if it is as it is."""
    given = ",".join(request.headers.getall("Content-Encoding", ())).lower().split(",")
    return ",".join(one for one in map(str.strip, given) if one not in ("", "identity"))


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header admits gzip."""
    for part in header.split(","):
        coding, _, weight = part.partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return weight.replace(" ", "").lower() not in _NOT_AT_ALL
    return False


def save(request: web.Request, count: int) -> None:
    """Note that an answer became so many bytes fewer."""
    request[SAVED] = request.get(SAVED, 0) + count


class NotGzip(Exception):
    """What was sent is not one whole gzip stream."""


class Unpacker:
    """Unpacks a body as it comes, never more of it than it may be: kilobytes can stand for gigabytes."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def unpack(self, chunk: bytes, most: int) -> bytes:
        """What the next piece stands for, up to `most` bytes, which is 1 at least; then nothing more may follow.

        Raises `NotGzip`.
        """
        if self._zlib.eof:
            raise NotGzip
        try:
            unpacked = self._zlib.decompress(chunk, most)
        except zlib.error:
            raise NotGzip from None
        if self._zlib.unused_data:
            raise NotGzip
        return unpacked

    def finish(self) -> None:
        """Raises `NotGzip` if something is missing."""
        if not self._zlib.eof:
            raise NotGzip


class Compressor:
    """Compresses an answer that comes to an end soon."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)

    def compress(self, chunk: bytes) -> bytes:
        return self._zlib.compress(chunk)

    def finish(self) -> bytes:
        return self._zlib.flush()


class LiveCompressor:
    """Compresses a feed: every chunk can be read at once, and while the feed pauses next to nothing is kept.

    A compressor of zlib's holds 260 KB, and ten thousand feeds wait at a time. So each chunk gets one of its own,
    whose blocks refer to nothing before them, and what is kept is what the end of the stream has to say.
    """

    def __init__(self) -> None:
        self._sum = 0
        self._length = 0
        self._begun = False

    def compress(self, chunk: bytes) -> bytes:
        self._sum = zlib.crc32(chunk, self._sum)
        self._length += len(chunk)
        return self._beginning() + (_stored(chunk) if len(chunk) < SMALLEST else _deflated(chunk))

    def finish(self) -> bytes:
        return self._beginning() + _LAST_BLOCK + struct.pack("<II", self._sum, self._length & 0xFFFFFFFF)

    def _beginning(self) -> bytes:
        begun, self._begun = self._begun, True
        return b"" if begun else _HEADER


def _stored(chunk: bytes) -> bytes:
    """A block that is not compressed, and not the last."""
    return struct.pack("<BHH", 0, len(chunk), len(chunk) ^ 0xFFFF) + chunk


def _deflated(chunk: bytes) -> bytes:
    """Blocks of which none is the last, up to a whole byte."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(chunk) + packer.flush(zlib.Z_SYNC_FLUSH)
