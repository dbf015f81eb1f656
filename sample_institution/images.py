"""Photos: small valid PNG files, drawn from the client's id, at the places that m_image names."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from sqlalchemy import Engine, select

from sample_institution.canaries import PREFIX
from sample_institution.tables import table

_SIZE = 64  # pixels
_CELLS = 8  # a symmetric pattern of 8 x 8 cells
_FILE_SYSTEM = 1  # m_image.storage_type_enum


def write_images(engine: Engine, directory: Path) -> int:
    """Write the photos of all sample clients below `directory`; returns how many. Drawn anew they are equal."""
    images, clients = table("m_image").c, table("m_client").c
    wanted = (
        select(clients.id, images.location)
        .join_from(table("m_client"), table("m_image"), clients.image_id == images.id)
        .where(images.storage_type_enum == _FILE_SYSTEM, images.location.like(f"images/clients/%{PREFIX}%"))
    )
    with engine.connect() as connection:
        rows = connection.execute(wanted).all()
    for client_id, location in rows:
        path = directory / location
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(avatar(client_id))
    return len(rows)


def avatar(number: int) -> bytes:
    """A PNG of 64 x 64 pixels with a coloured pattern that is symmetric like a face."""
    bits = zlib.crc32(f"avatar {number}".encode())
    ink = bytes((64 + (bits >> shift & 0x7F)) for shift in (0, 8, 16))
    paper = bytes(255 - part // 3 for part in ink)
    scale = _SIZE // _CELLS
    lines = []
    for y in range(_CELLS):
        half = [ink if bits >> (y * 4 + x) % 31 & 1 else paper for x in range(_CELLS // 2)]
        line = b"".join(cell * scale for cell in (*half, *reversed(half)))
        lines += [b"\0" + line] * scale  # filter type 0 before every line
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _part(b"IHDR", struct.pack(">2I5B", _SIZE, _SIZE, 8, 2, 0, 0, 0)),  # 8 bits, RGB
            _part(b"IDAT", zlib.compress(b"".join(lines), 9)),
            _part(b"IEND", b""),
        )
    )


def _part(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
