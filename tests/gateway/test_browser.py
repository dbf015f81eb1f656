"""PouchDB in a real browser, in a page of another origin than the gateway's."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web

from passbook.embedded import node
from passbook.servicedb import tables
from sample_institution.pouch import CLIENTS
from tests.conftest import PARTS
from tests.gateway.conftest import NOW, Device, People
from tests.gateway.gateways import GatewayProcess, device_of, gateway_process
from tests.support.browser import Page, browser, found
from tests.support.couch import Couch

pytestmark = pytest.mark.skipif(found() is None, reason="needs a browser: Debian's chromium")
PARTS["browser"] = "skipped: no chromium installed" if found() is None else "real (chromium)"

PAGE = "<!doctype html><meta charset=utf-8><title>app</title><script src=/pouchdb.js></script>"
#: What a page does with PouchDB: `app.events` is what it was told.
APP = """
window.app = {
  events: [],
  open(url, auth) {
    this.local = new PouchDB('copy' + Math.random());
    this.reopen = () => { this.remote = new PouchDB(url, { skip_setup: true, ...(auth ? { auth } : {}) }); };
    this.reopen();
  },
  plain(error) { return JSON.parse(JSON.stringify({ ...error, status: error.status, message: error.message })); },
  watch(replication) {
    for (const name of ['change', 'paused', 'active', 'denied', 'complete', 'error']) {
      replication.on(name, (value) => this.events.push({ event: name, value: value ? this.plain(value) : null }));
    }
    return replication;
  },
  once() { return this.watch(this.local.replicate.from(this.remote)).then(this.plain, this.plain); },
  sync() { return this.watch(PouchDB.sync(this.local, this.remote)).then(this.plain, this.plain); },
  live() { this.watch(this.local.replicate.from(this.remote, { live: true, retry: true })).catch(() => {}); },
};
true
"""


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    """Where the app comes from."""
    await asyncio.to_thread(node.ensure_packages, CLIENTS)
    application = web.Application()

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def script(_: web.Request) -> web.Response:
        text = (CLIENTS / "node_modules" / "pouchdb" / "dist" / "pouchdb.min.js").read_text()
        return web.Response(text=text, content_type="text/javascript")

    application.router.add_get("/", page)
    application.router.add_get("/pouchdb.js", script)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def gateway_for_it(
    origin: str, service_url: str, couch_url: str, tmp_path: Path
) -> AsyncIterator[GatewayProcess]:
    """A gateway that lets this origin's pages in."""
    directory = tmp_path / "gateway"
    directory.mkdir()
    with gateway_process(service_url, couch_url, directory, PASSBOOK_CORS_ORIGINS=origin) as process:
        yield process


@contextlib.asynccontextmanager
async def app(origin: str, directory: Path) -> AsyncIterator[Page]:
    async with browser(directory) as page:
        await page.open(f"{origin}/")
        await page.evaluate(APP)
        yield page


async def opened(page: Page, device: Device, *, in_url: bool) -> None:
    if in_url:
        url = device.url.replace("://", f"://{quote(device.id)}:{quote(device.secret)}@")
        await page.evaluate(f"app.open({json.dumps(url)})")
    else:
        auth = {"username": device.id, "password": device.secret}
        await page.evaluate(f"app.open({json.dumps(device.url)}, {json.dumps(auth)})")


@pytest.mark.parametrize("in_url", [False, True], ids=["auth option", "credentials in the URL"])
async def test_a_page_of_an_allowed_origin(
    origin: str, gateway_for_it: GatewayProcess, couch: Couch, people: People, tmp_path: Path, in_url: bool
) -> None:
    device = await device_of(gateway_for_it, couch, people)
    await couch.write(device.database, *({"_id": f"loan:{n:04}", "n": n} for n in range(150)))
    picture = {"image": {"content_type": "image/png", "data": "aGVsbG8="}}
    await couch.write(device.database, {"_id": "client:1:image", "_attachments": picture})
    async with app(origin, tmp_path / "profile") as page:
        await opened(page, device, in_url=in_url)
        done = await page.evaluate("app.once()")
        assert (done["ok"], done["docs_written"]) == (True, 151)
        image = await page.evaluate(
            "app.local.getAttachment('client:1:image', 'image').then((blob) => blob.text())"
        )
        assert image == "hello"
        # Both ways: what was written here is denied.
        await page.evaluate("app.local.put({ _id: 'loan:mine' })")
        assert (await page.evaluate("app.sync()"))["push"]["doc_write_failures"] == 1
        assert await page.evaluate("app.events.filter((one) => one.event === 'denied').length") == 1
        # By itself: refused, and the page may read why.
        for attempt in ("put({ _id: 'loan:mine' })", "remove('loan:0001', '1-a')", "destroy()"):
            error = await page.evaluate(f"app.remote.{attempt}.catch((error) => app.plain(error))")
            assert (error["status"], error["error"]) == (403, "forbidden")
            await page.evaluate("app.reopen()")
        # Live.
        await page.evaluate("app.events.length = 0; app.live()")
        await page.until("app.events.some((one) => one.event === 'paused')")
        await couch.write(device.database, {"_id": "loan:new"})
        await page.until("app.local.get('loan:new').then(() => true, () => false)", within=5)
        # Revoked: one error, whose code can be read.
        people.change(tables.device, device.id, revoked_at=NOW)
        error = await page.until("app.events.find((one) => one.event === 'error')?.value")
        assert (error["status"], error["code"]) == (401, "revoked")
        await asyncio.sleep(1)
        assert await page.evaluate("app.events.filter((one) => one.event === 'error').length") == 1
        assert await page.evaluate("document.cookie") == ""


async def test_a_page_of_another_origin_reads_nothing(
    origin: str, gateway_for_it: GatewayProcess, couch: Couch, people: People, tmp_path: Path
) -> None:
    device = await device_of(gateway_for_it, couch, people)
    await couch.write(device.database, {"_id": "loan:1"})
    elsewhere = origin.replace("127.0.0.1", "localhost")
    async with app(elsewhere, tmp_path / "profile") as page:
        await opened(page, device, in_url=False)
        failed = await page.evaluate("app.once()")
        assert "docs_written" not in failed or failed["docs_written"] == 0
        assert failed.get("ok") is not True
        told = await page.evaluate(
            f"fetch({json.dumps(device.url)}).then((answer) => answer.status, (error) => error.name)"
        )
        assert told == "TypeError"
    # The browser does not tell the app why. The log does, once.
    (line,) = gateway_for_it.said("origin_not_listed")
    assert (line["origin"], line["setting"]) == (elsewhere, "PASSBOOK_CORS_ORIGINS")
    async with aiohttp.ClientSession() as http:
        preflight = {"Origin": elsewhere, "Access-Control-Request-Method": "GET"}
        async with http.options(f"{device.url}/_changes", headers=preflight) as response:
            assert "Access-Control-Allow-Origin" not in response.headers
