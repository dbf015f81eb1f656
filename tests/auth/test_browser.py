"""Signing in from a page in a real browser, of another origin than the auth service's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.conftest import PARTS
from tests.support.api import PASSWORD, Crowd, serving
from tests.support.browser import browser, found

pytestmark = pytest.mark.skipif(found() is None, reason="needs a browser: Debian's chromium")
if found() is not None:
    PARTS["browser"] = "real (chromium)"

#: All that an app sends which a browser asks about first: methods and headers.
APP = """
(async (service, username, password) => {
  const answers = {};
  const ask = async (name, path, options) => {
    try {
      const answer = await fetch(service + path, options);
      answers[name] = { status: answer.status, id: Boolean(answer.headers.get('X-Request-Id')) };
      return await answer.json();
    } catch (error) {
      answers[name] = error.name;
      return {};
    }
  };
  const key = { 'Installation-Key': crypto.randomUUID() };
  const basic = { Authorization: 'Basic ' + btoa(username + ':' + password) };
  await ask('authentication', '/authentication', { method: 'POST', headers: { ...basic, ...key } });
  const form = new URLSearchParams({ grant_type: 'password', username, password });
  const tokens = await ask('token', '/oauth/token', { method: 'POST', body: form });
  const bearer = { Authorization: `Bearer ${tokens.access_token}` };
  await ask('me', '/me', { headers: bearer });
  const headers = { ...bearer, 'Content-Type': 'application/json', 'Idempotency-Key': crypto.randomUUID() };
  const body = JSON.stringify({ name: 'browser' });
  const device = await ask('devices', '/devices', { method: 'POST', headers, body });
  await ask('end', `/devices/${device.device}`, { method: 'DELETE', headers: bearer });
  return answers;
})
"""


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    """Where the app comes from."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>app</title>", content_type="text/html")

    application = web.Application()
    application.router.add_get("/", page)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_page_of_an_allowed_origin_signs_in_and_registers_a_device(
    origin: str, service_url: str, crowd: Crowd, tmp_path: Path
) -> None:
    crowd.person("amina")
    settings = {"PASSBOOK_CORS_ORIGINS": origin, "PASSBOOK_PUBLIC_URL": "https://passbook.example.org/passbook"}
    async with serving(service_url, settings) as api, browser(tmp_path / "profile") as page:
        call = f"{APP}({json.dumps(api.url)}, 'amina', {json.dumps(PASSWORD)})"
        await page.open(f"{origin}/")
        answers = await page.evaluate(call)
        expected = {"authentication": 200, "token": 200, "me": 200, "devices": 201, "end": 200}
        assert answers == {name: {"status": status, "id": True} for name, status in expected.items()}
        await page.open(origin.replace("127.0.0.1", "localhost") + "/")
        assert set((await page.evaluate(call)).values()) == {"TypeError"}
