"""PostgreSQL and MariaDB, however old: the same rows make the same documents, to the byte."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

from sync_worker.ledger.reader import STATEMENTS
from tests.ledger.conftest import Ledger
from tests.ledger.reading import bodies, everything
from tests.projections.promises import broken


def test_the_same_ledger_on_both_engines_gives_the_same_bytes(on_postgresql: Ledger, on_mariadb: Ledger) -> None:
    assert on_mariadb.institution == on_postgresql.institution
    ours, theirs = (bodies(one.url, one.clients) for one in (on_postgresql, on_mariadb))
    assert theirs.keys() == ours.keys()
    assert {key: (ours[key], theirs[key]) for key in ours if ours[key] != theirs[key]} == {}
    assert len(ours) > 500


def test_lookups_are_the_same(on_postgresql: Ledger, on_mariadb: Ledger) -> None:
    contexts = [everything(one.url, one.institution)[1] for one in (on_postgresql, on_mariadb)]
    assert contexts[0] == contexts[1]
    assert "USD" in contexts[0].currencies


#: What the same columns are on databases upgraded from releases before 1.6.
OLD_BOOLEANS = ("BIT(1)", "TINYINT(4)", "INT", "SMALLINT(5)", "BIT(1)")


def booleans() -> Iterator[tuple[str, str]]:
    seen = {(one.table, one.column) for statement in STATEMENTS for one in statement.fields if one.kind is bool}
    yield from sorted(seen)


def test_booleans_of_upgraded_databases(own_mariadb: Ledger) -> None:
    before = bodies(own_mariadb.url, own_mariadb.clients)
    for first in range(2):
        kinds = itertools.islice(itertools.cycle(OLD_BOOLEANS), first, None)
        changed = [
            f"ALTER TABLE {table} MODIFY {column} {kind}"
            for (table, column), kind in zip(booleans(), kinds, strict=False)
        ]
        assert any("m_loan_repayment_schedule MODIFY completed_derived" in one for one in changed)
        own_mariadb.change(*changed)
        assert bodies(own_mariadb.url, own_mariadb.clients) == before


def test_every_boolean_as_a_bit(own_mariadb: Ledger) -> None:
    before = bodies(own_mariadb.url, own_mariadb.clients)
    own_mariadb.change(*(f"ALTER TABLE {table} MODIFY {column} BIT(1)" for table, column in booleans()))
    after = bodies(own_mariadb.url, own_mariadb.clients)
    assert after == before
    text = b"".join(after.values())
    for field in ("reversed", "complete", "penalty", "active"):
        for value in ("true", "false"):
            assert f'"{field}":{value}'.encode() in text, "or the comparison says little"


def test_documents_read_from_mariadb_keep_their_promises(on_mariadb: Ledger) -> None:
    documents = {key: json.loads(body) for key, body in bodies(on_mariadb.url, on_mariadb.clients).items()}
    assert broken(documents) == []
