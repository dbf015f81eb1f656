"""Pictures are found below one folder and nowhere else; what is wrong with one is counted and holds nobody back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sample_institution.images import avatar, write_images
from sync_worker.ledger.pictures import Pictures
from sync_worker.ledger.reader import LedgerReader
from tests.ledger.conftest import Ledger
from tests.ledger.reading import ledger, reader

PNG = avatar(7)
FILE_SYSTEM, OBJECT_STORE = 1, 2


@pytest.fixture
def content(tmp_path: Path) -> Path:
    folder = tmp_path / "content"
    (folder / "images" / "clients").mkdir(parents=True)
    (folder / "images" / "clients" / "7.png").write_bytes(PNG)
    (tmp_path / "outside.png").write_bytes(PNG)
    (tmp_path / "content-of-others").mkdir()
    (tmp_path / "content-of-others" / "x.png").write_bytes(PNG)
    return folder


@pytest.mark.parametrize("storage", [None, FILE_SYSTEM])
def test_a_picture_is_found_by_its_place(content: Path, storage: int | None) -> None:
    pictures = Pictures(content, 1_000_000)
    for location in ("images/clients/7.png", "/images/clients/7.png", str(content / "images/clients/7.png")):
        picture = pictures.find(location, storage)
        assert picture is not None
        assert (picture.content_type, picture.data) == ("image/png", PNG)
    assert pictures.skipped == 0


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
    ],
)
def test_the_kind_is_told_by_the_first_bytes_and_not_by_the_name(content: Path, start: bytes, kind: str) -> None:
    (content / "photo.txt").write_bytes(start + b"rest")
    picture = Pictures(content, 1000).find("photo.txt", FILE_SYSTEM)
    assert picture is not None
    assert picture.content_type == kind


OUTSIDE = [
    "../outside.png",
    "images/../../outside.png",
    "/../outside.png",
    "../../../../../../etc/passwd",
    "/etc/passwd",
    "//etc/passwd",
    "{tmp}/outside.png",
    "{tmp}/content/../outside.png",
    "{tmp}/content-of-others/x.png",
    "../content-of-others/x.png",
    "link.png",
    "folder/outside.png",
]


@pytest.mark.parametrize("location", OUTSIDE)
def test_nothing_outside_is_read(content: Path, tmp_path: Path, location: str) -> None:
    (content / "link.png").symlink_to(tmp_path / "outside.png")
    (content / "folder").symlink_to(tmp_path)
    pictures = Pictures(content, 1_000_000)
    assert pictures.find(location.format(tmp=tmp_path), FILE_SYSTEM) is None
    assert pictures.skipped == 1


def test_a_link_that_stays_inside_is_followed(content: Path) -> None:
    (content / "current.png").symlink_to(content / "images" / "clients" / "7.png")
    assert Pictures(content, 1_000_000).find("current.png", FILE_SYSTEM) is not None


def test_the_folder_itself_may_be_a_link(content: Path, tmp_path: Path) -> None:
    (tmp_path / "mounted").symlink_to(content)
    pictures = Pictures(tmp_path / "mounted", 1_000_000)
    assert pictures.find("images/clients/7.png", FILE_SYSTEM) is not None
    assert pictures.find(str(tmp_path / "mounted" / "images" / "clients" / "7.png"), FILE_SYSTEM) is not None


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", b"%PDF-1.7", b"\x89PNG", b"RIFF", b"RIFF\0\0\0\0WAVE", b"<svg onload='alert(1)'>", b"MZ\x90"],
)
def test_what_is_no_picture_is_left_out(content: Path, data: bytes) -> None:
    (content / "x.png").write_bytes(data)
    pictures = Pictures(content, 1_000_000)
    assert pictures.find("x.png", FILE_SYSTEM) is None
    assert pictures.skipped == 1


def test_what_is_too_large_missing_or_no_file_is_left_out(content: Path) -> None:
    os.mkfifo(content / "pipe")
    (content / "locked.png").write_bytes(PNG)
    pictures = Pictures(content, len(PNG) - 1)
    for location in ("images/clients/7.png", "missing.png", "images", "pipe", "bad\0name", "x" * 5000, "."):
        before = pictures.skipped
        assert pictures.find(location, FILE_SYSTEM) is None
        assert pictures.skipped == before + 1, location
    assert Pictures(content, len(PNG)).find("images/clients/7.png", FILE_SYSTEM) is not None


def test_an_object_store_is_not_looked_at(content: Path) -> None:
    pictures = Pictures(content, 1_000_000)
    assert pictures.find("images/clients/7.png", OBJECT_STORE) is None
    assert pictures.skipped == 1


def test_without_a_folder_or_without_a_picture_nothing_is_counted(content: Path) -> None:
    pictures = Pictures(None, 1_000_000)
    assert pictures.find("images/clients/7.png", FILE_SYSTEM) is None
    assert pictures.skipped == 0
    pictures = Pictures(content, 1_000_000)
    assert pictures.find(None, None) is None
    assert pictures.find("", FILE_SYSTEM) is None
    assert pictures.skipped == 0


def test_clients_come_with_their_pictures_and_without_the_wrong_ones(on_postgresql: Ledger, tmp_path: Path) -> None:
    folder = tmp_path / "content"
    written = write_images(on_postgresql.engine, folder)
    with reader(on_postgresql.url, pictures=folder) as one:
        batch = one.read(on_postgresql.clients)
    pictured = [aggregate for aggregate in batch.aggregates if aggregate.picture]
    assert len(pictured) == written > 3
    for aggregate in pictured:
        assert aggregate.picture is not None
        assert aggregate.picture.data == avatar(aggregate.client.id)

    on_postgresql.change("UPDATE m_image SET location = '../../etc/passwd'")
    pictures = Pictures(folder, 1_000_000)
    with ledger(on_postgresql.url) as connection:
        batch = LedgerReader(connection, pictures).read(on_postgresql.clients)
    assert batch.failures == []
    assert len(batch.aggregates) == len(on_postgresql.clients)
    assert not any(aggregate.picture for aggregate in batch.aggregates)
    assert pictures.skipped >= written
