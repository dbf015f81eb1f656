"""gzip towards the device. CouchDB compresses no JSON, and JSON shrinks to about a sixth."""

from __future__ import annotations

import re
import zlib

LEVEL = 4  # beyond it the time doubles for a few per cent
SMALLEST = 400  # bytes; below, gzip gains nothing
_GZIP = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=\s*(\d(?:\.\d*)?))?\s*(?=,|$)", re.IGNORECASE)


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header admits gzip."""
    found = _GZIP.search(header)
    return found is not None and (found[1] is None or float(found[1]) > 0)


class Compressor:
    """Compresses a stream; with `live` every chunk can be read at once, since a feed may pause for minutes."""

    def __init__(self, *, live: bool) -> None:
        self._zlib = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        self._live = live

    def compress(self, chunk: bytes) -> bytes:
        out = self._zlib.compress(chunk)
        return out + self._zlib.flush(zlib.Z_SYNC_FLUSH) if self._live else out

    def finish(self) -> bytes:
        return self._zlib.flush()
