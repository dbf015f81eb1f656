"""Bodies made to cost more than they weigh: compressed, deep, of many small parts."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import pytest

from tests.support.api import PASSWORD, Api, Crowd

LIMIT = 64 * 1024
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"


async def sent(
    api: Api, path: str, body: bytes, kind: str, *, coding: str | None = None, chunked: bool = False
) -> tuple[int, str]:
    """The status and the code of the answer."""

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 8000):
            yield body[at : at + 8000]

    headers = {"Content-Type": kind} | ({} if coding is None else {"Content-Encoding": coding})
    async with api.session.post(
        api.url + path, data=pieces() if chunked else body, headers=headers, skip_auto_headers=["Accept-Encoding"]
    ) as answer:
        return answer.status, (await answer.json())["code"]


PART = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
FILE = PART.replace(b'"a"', b'"a"; filename="f"')


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity, gzip", "nothing"])
async def test_T31_a_compressed_body_is_refused_unread(api: Api, crowd: Crowd, coding: str, chunked: bool) -> None:
    """With a token and without: also one that would sign somebody in."""
    crowd.person("amina")
    form = f"grant_type=password&username=amina&password={PASSWORD}".encode()
    for token in (None, await api.token("amina")):
        if token:
            api.session.headers["Authorization"] = f"Bearer {token}"
        for path, body in (
            ("/oauth/token", gzip.compress(form)),
            ("/oauth/token", gzip.compress(bytes(30_000_000))),
            ("/password", gzip.compress(b"{}")),
            ("/nothing", b"x"),
        ):
            got = await sent(api, path, body, FORM, coding=coding, chunked=chunked)
            assert got == (415, "unsupported_encoding")


async def test_T31_a_body_that_is_as_it_is_is_taken(api: Api, crowd: Crowd) -> None:
    crowd.person("amina")
    form = {"grant_type": "password", "username": "amina", "password": PASSWORD}
    for coding in ("identity", ""):
        answer = await api.call("POST", "/oauth/token", form=form, headers={"Content-Encoding": coding})
        assert answer.status == 200


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/oauth/token", b"a&" * (LIMIT // 2), FORM),
        ("/oauth/token", b"a=1&" * (LIMIT // 4), FORM),
        ("/oauth/token", b"&" * LIMIT, FORM),
        ("/oauth/token", b"%" * LIMIT, FORM),
        ("/oauth/token", PART * 1_200, MULTIPART),
        ("/oauth/token", FILE * 900, MULTIPART),
        ("/password", b"[" * LIMIT, "application/json"),
        ("/password", b'{"current":' * 5_000, "application/json"),
        ("/password", b"[" * (LIMIT // 2) + b"]" * (LIMIT // 2), "application/json"),
        ("/password", b'{"current":"a","new":' + b"9" * 60_000 + b"}", "application/json"),
    ],
)
async def test_T31_a_body_of_many_parts_or_depths_is_the_sender_s_mistake(
    api: Api, crowd: Crowd, path: str, body: bytes, kind: str
) -> None:
    """Nothing breaks over it: no 500, which would be a defect of ours with a line in the log."""
    crowd.person("amina")
    api.session.headers["Authorization"] = f"Bearer {await api.token('amina')}"
    status, _ = await sent(api, path, body[:LIMIT], kind)
    assert status in (400, 422)
    assert (await api.call("GET", "/health/live")).status == 200
