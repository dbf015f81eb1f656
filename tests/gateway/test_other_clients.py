"""Clients that are not PouchDB read through the gateway with the same credential."""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from typing import Any

import pytest

from tests.gateway.conftest import Device
from tests.support.couch import Couch

DOCUMENTS = [{"_id": f"loan:{n}", "n": n} for n in range(20)]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="CouchDB-Python needs the module cgi")
async def test_couchdb_python(device: Device, couch: Couch) -> None:
    await couch.write(device.database, *DOCUMENTS)

    def read() -> tuple[int, Any, list[str], list[str]]:
        import couchdb

        resource = couchdb.http.Resource(device.url, couchdb.http.Session())
        resource.credentials = (device.id, device.secret)
        database = couchdb.Database(resource, name="passbook")
        assert "loan:7" in database
        changes = database.changes()["results"]
        result = (
            len(database),
            database["loan:7"]["n"],
            [row.id for row in database.view("_all_docs", startkey="loan:5", endkey="loan:7")],
            sorted(row["id"] for row in changes),
        )
        with pytest.raises(couchdb.http.ResourceNotFound):
            database["loan:7"] = {"n": 0}
        return result

    def quietly() -> tuple[int, Any, list[str], list[str]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is of 2018, and leaves its sockets to the garbage collector
            result = read()
            gc.collect()
        return result

    count, seven, some, changed = await asyncio.to_thread(quietly)
    assert (count, seven, some) == (20, 7, ["loan:5", "loan:6", "loan:7"])
    assert changed == sorted(str(document["_id"]) for document in DOCUMENTS)


async def test_ibmcloudant(device: Device, couch: Couch, gateway: str) -> None:
    await couch.write(device.database, *DOCUMENTS)

    def read() -> tuple[int, Any, list[str], list[Any], str]:
        from ibm_cloud_sdk_core.authenticators import BasicAuthenticator
        from ibmcloudant import ApiException
        from ibmcloudant.cloudant_v1 import BulkGetQueryDocument, CloudantV1

        client = CloudantV1(authenticator=BasicAuthenticator(device.id, device.secret))
        client.set_service_url(gateway)
        info = client.get_database_information(db="passbook").get_result()
        document = client.get_document(db="passbook", doc_id="loan:7").get_result()
        rows = client.post_all_docs(db="passbook", start_key="loan:5", end_key="loan:7").get_result()["rows"]
        wanted = [BulkGetQueryDocument(id="loan:3"), BulkGetQueryDocument(id="loan:4")]
        bulk = client.post_bulk_get(db="passbook", docs=wanted).get_result()["results"]
        changes = client.post_changes(db="passbook").get_result()["results"]
        assert len(changes) == 20
        with pytest.raises(ApiException) as refused:
            client.get_security(db="passbook")
        client.http_client.close()
        return (
            info["doc_count"],
            document["n"],
            [row["id"] for row in rows],
            [result["docs"][0]["ok"]["n"] for result in bulk],
            str(refused.value.status_code),
        )

    assert await asyncio.to_thread(read) == (20, 7, ["loan:5", "loan:6", "loan:7"], [3, 4], "404")
