"""The auth service as apps and administrators see it: over HTTP, and in no other way."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from passbook.errors import Refused, Unavailable


class AuthClient:
    """Signs people and administrators in."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    @classmethod
    @contextlib.asynccontextmanager
    async def at(cls, url: str) -> AsyncIterator[AuthClient]:
        """A client of the service at `url`, until the block ends."""
        async with aiohttp.ClientSession() as session:
            yield cls(url, session)

    async def sign_in(self, username: str, password: str, *, administrator: bool = False) -> SignedIn:
        """POST /oauth/token, or its like for administrators. Raises `Refused` with the service's code."""
        form = {"grant_type": "password", "username": username, "password": password}
        tokens = await self.send("POST", "/admin/oauth/token" if administrator else "/oauth/token", form=form)
        return SignedIn(self, tokens["access_token"], tokens["must_change_password"])

    async def activate(self, username: str, code: str, password: str) -> None:
        """POST /activation: the person chooses the password."""
        await self.send("POST", "/activation", {"username": username, "code": code, "password": password})

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """What the service answers. Raises `Refused` or `Unavailable` with its words and its code."""
        try:
            async with self._session.request(
                method, self._url + path, json=body, data=form, headers=headers
            ) as answer:
                said: Any = None if answer.status == 204 else await answer.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"The auth service at {self._url} does not answer: {error}.") from None
        if answer.status < 400:
            return said
        kind = Unavailable if answer.status == 429 or answer.status >= 500 else Refused
        raise kind(said["message"], code=said["code"])


class SignedIn:
    """A person or an administrator with an access token."""

    def __init__(self, client: AuthClient, token: str, must_change_password: bool) -> None:
        self._client = client
        self._token = token
        self.must_change_password = must_change_password

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """As `AuthClient.send`, with the token. `if_match=…` sends If-Match."""
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        return await self._client.send(
            method, path, body, headers={"Authorization": f"Bearer {self._token}", **named}
        )
