"""CouchDB, real or embedded, as its administrator sees it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import aiohttp
from yarl import URL


class Couch:
    """Asks as administrator; remembers the databases it makes."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = URL(url)
        self.databases: list[str] = []
        #: Told of every database that is written to, as the worker tells of what it wrote.
        self.wrote: Callable[[str], None] = lambda _: None

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        url = f"{str(self.url).rstrip('/')}/{path}"
        # Or CouchDB sends a document with its attachments as multipart.
        async with self.session.request(method, url, json=body, headers={"Accept": "application/json"}) as response:
            answer = await response.json(content_type=None)
            assert response.status < 400, answer
            return answer

    async def create(self) -> str:
        name = f"test-{secrets.token_hex(16)}"
        await self.ask("PUT", f"{name}?q=1")
        self.databases.append(name)
        return name

    async def let_in(self, database: str, principal: str) -> None:
        """Only this principal, besides administrators."""
        members = {"names": [principal], "roles": []}
        admins = {"names": [], "roles": ["_admin"]}
        await self.ask("PUT", f"{database}/_security", {"admins": admins, "members": members})

    async def write(self, database: str, *documents: dict[str, Any]) -> list[Any]:
        answer: list[Any] = await self.ask("POST", f"{database}/_bulk_docs", {"docs": list(documents)})
        self.wrote(database)
        return answer
