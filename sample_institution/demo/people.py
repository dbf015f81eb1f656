"""The sample people and their administrator: made over HTTP, and put back in order at every start."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from passbook.errors import Refused
from passbook.scope import PERMISSIONS
from sample_institution.demo import children
from sample_institution.demo.auth_client import AuthClient, SignedIn
from sample_institution.demo.memory import Login, Memory

_PHONE = "demo phone"
_WHY = "the demo starts"


async def arrange(auth: AuthClient, memory: Memory, made: Any, env: Mapping[str, str]) -> SignedIn:
    """Everybody has the remembered password and what the story needs; the administrator, signed in.

    `made` is what `passbook init` said of the first administrator.
    """
    administrator = await _administrator(auth, memory.administrator, made, env)
    for login in (memory.customer, memory.agent):
        await _person(auth, administrator, login)
    return administrator


async def find(administrator: SignedIn, username: str) -> dict[str, Any] | None:
    """The person of that name, as administrators see them."""
    page = await administrator.send("GET", f"/admin/people?text={username}")
    return next((one for one in page["items"] if one["username"] == username), None)


async def register(person: SignedIn, login: Login, save: Callable[[], None]) -> dict[str, Any]:
    """The credential of the login's phone: the one it has, for a day; then another instead.

    The key is kept before it is sent. So whatever gets lost on the way, there is one phone.
    """
    if not login.device_key:
        login.device_key = str(uuid.uuid4())
        save()
    try:
        return await _device(person, login.device_key)
    except Refused as error:
        if error.code != "idempotency_key_used":
            raise
    for device in (await person.send("GET", "/devices"))["items"]:
        if device["name"] == _PHONE and device["state"] == "active":
            await person.send("DELETE", f"/devices/{device['device']}")
    login.device_key = str(uuid.uuid4())
    save()
    return await _device(person, login.device_key)


async def _device(person: SignedIn, key: str) -> dict[str, Any]:
    credential: dict[str, Any] = await person.send("POST", "/devices", {"name": _PHONE}, idempotency_key=key)
    return credential


async def _administrator(auth: AuthClient, login: Login, made: Any, env: Mapping[str, str]) -> SignedIn:
    if isinstance(made, dict):
        initial = made["initial_password"]
    else:
        known = await _known(auth, login, administrator=True)
        if known:
            return known
        initial = await _another_password(login.username, env)
    signed_in = await auth.sign_in(login.username, initial, administrator=True)
    await signed_in.send("POST", "/admin/password", {"current": initial, "new": login.password})
    return signed_in


async def _another_password(administrator: str, env: Mapping[str, str]) -> str:
    """For when nobody knows it: from the command line, where an operator may."""
    there = await children.command(["administrator", "list"], env)
    if any(one["username"] == administrator for one in there):
        made = await children.command(["administrator", "reset-password", administrator, "--reason", _WHY], env)
    else:
        made = await children.command(
            ["administrator", "add", "--username", administrator, "--role", "owner", "--reason", _WHY], env
        )
    return str(made["initial_password"])


async def _person(auth: AuthClient, administrator: SignedIn, login: Login) -> None:
    person = await find(administrator, login.username)
    if person is None:
        wanted = {"username": login.username, "kind": login.kind, "clients": login.clients}
        made = await administrator.send("POST", "/admin/people", wanted)
    else:
        await _put_back(administrator, person, login)
        if await _known(auth, login):
            return
        path = f"/admin/people/{person['person']}/reset-password"
        made = await administrator.send("POST", path, {"reason": _WHY})
    await auth.activate(login.username, made["activation"]["code"], login.password)


async def _put_back(administrator: SignedIn, person: dict[str, Any], login: Login) -> None:
    """Give back what the story or a visitor took away."""
    path = f"/admin/people/{person['person']}"
    if person["state"] != "active":
        await administrator.send("POST", f"{path}/restore", {"reason": _WHY})
    missing = sorted(set(login.clients) - set(person["clients"]))
    if missing:
        await administrator.send("POST", f"{path}/clients", {"clients": missing, "reason": _WHY}, if_match="*")
    window = person["history_from"] or person["history_months"]
    if window or set(person["permissions"]) != set(PERMISSIONS):
        wanted = {"permissions": list(PERMISSIONS), "reason": _WHY}
        await administrator.send("PUT", f"{path}/permissions", wanted, if_match="*")


async def _known(auth: AuthClient, login: Login, *, administrator: bool = False) -> SignedIn | None:
    """Signed in with the remembered password, if it is the one."""
    try:
        signed_in = await auth.sign_in(login.username, login.password, administrator=administrator)
    except Refused as error:
        if error.code != "unknown":
            raise
        return None
    return None if signed_in.must_change_password else signed_in
