"""Clients' pictures: files in the core's content folder, which the ledger only points to."""

from __future__ import annotations

from pathlib import Path

from projections.rows import Picture

_FILE_SYSTEM = 1

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


class Pictures:
    """Finds pictures below one folder, and nothing outside it.

    A picture that is missing, too large, stored elsewhere (object store) or of a kind that is no picture is left
    out: a client is not held back for it. `skipped` counts them.
    """

    def __init__(self, directory: Path | None, max_bytes: int) -> None:
        self._directory = directory.resolve() if directory else None
        self._max_bytes = max_bytes
        self.skipped = 0

    def find(self, location: str | None, storage: int | None) -> Picture | None:
        """The picture at `location` (`m_image.location`), or None."""
        if self._directory is None or not location:
            return None
        picture = self._read(location) if storage in (None, _FILE_SYSTEM) else None
        if picture is None:
            self.skipped += 1
        return picture

    def _read(self, location: str) -> Picture | None:
        assert self._directory is not None  # noqa: S101 - for the type checker; find() has looked
        try:
            # Fineract stores absolute paths of its own machine, or paths relative to its content folder.
            path = Path(location)
            if not path.is_absolute() or not path.resolve().is_relative_to(self._directory):
                path = self._directory / location.lstrip("/")
            path = path.resolve()
            if not path.is_relative_to(self._directory) or not path.is_file():
                return None
            if path.stat().st_size > self._max_bytes:
                return None
            data = path.read_bytes()
        except (OSError, ValueError):
            return None
        content_type = next((kind for start, kind in _SIGNATURES if data.startswith(start)), None)
        if content_type is None and data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            content_type = "image/webp"
        return Picture(content_type, data) if content_type else None
