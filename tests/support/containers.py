"""Real servers in containers, where a Docker engine runs; nothing where none does."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

_WITHIN = 120.0


def engine_runs() -> bool:
    """Whether a Docker engine answers."""
    if os.environ.get("DOCKER_HOST"):
        return True
    with socket.socket(socket.AF_UNIX) as engine:
        engine.settimeout(2)
        try:
            engine.connect("/var/run/docker.sock")
        except OSError:
            return False
    return True


@contextlib.contextmanager
def couchdb() -> Iterator[str | None]:
    """The address of a CouchDB 3.5 in a container, or None where it cannot be had."""
    with _container(
        "couchdb:3.5", 5984, {"COUCHDB_USER": "admin", "COUCHDB_PASSWORD": "test"}, _answers
    ) as address:
        yield f"http://admin:test@{address}" if address else None


@contextlib.contextmanager
def mariadb() -> Iterator[str | None]:
    """The address of a MariaDB in a container, or None where it cannot be had."""
    with _container("mariadb:10.11", 3306, {"MARIADB_ROOT_PASSWORD": "test"}, _accepts) as address:
        yield f"mysql://root:test@{address}/" if address else None


@contextlib.contextmanager
def _container(
    image: str, port: int, environment: dict[str, str], ready: Callable[[str], bool]
) -> Iterator[str | None]:
    if not engine_runs():
        yield None
        return
    from testcontainers.core.container import DockerContainer

    container: Any = DockerContainer(image).with_exposed_ports(port)
    for name, value in environment.items():
        container.with_env(name, value)
    try:
        container.start()
        address = f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"
        end = time.monotonic() + _WITHIN
        while not ready(address):
            if time.monotonic() > end:
                raise TimeoutError(image)
            time.sleep(0.2)
    except Exception as error:
        print(f"no container of {image}: {error}")
        address = None
    try:
        yield address
    finally:
        with contextlib.suppress(Exception):
            container.stop()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/_up", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _accepts(address: str) -> bool:
    import pymysql

    host, _, port = address.rpartition(":")
    try:
        pymysql.connect(host=host, port=int(port), user="root", password="test", connect_timeout=2).close()
    except pymysql.err.OperationalError:
        return False
    return True
