"""PostgreSQL and MariaDB, however old: the same rows make the same documents, to the byte."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest

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


def test_the_institution_s_own_digits_and_signs_go_before_the_world_s(own: Ledger) -> None:
    own.change(
        "UPDATE m_currency SET decimal_places = 4, display_symbol = 'world' WHERE code IN ('USD', 'KWD')",
        "DELETE FROM m_organisation_currency WHERE code IN ('USD', 'KWD')",
        "INSERT INTO m_organisation_currency (code, decimal_places, name, internationalized_name_code,"
        " display_symbol) VALUES ('USD', 3, 'US Dollar', 'currency.USD', 'own')",
    )
    currencies = everything(own.url, own.institution)[1].currencies
    assert (currencies["USD"].digits, currencies["USD"].symbol) == (3, "own")
    assert (currencies["KWD"].digits, currencies["KWD"].symbol) == (4, "world"), "no longer the institution's"
    own.change("UPDATE m_organisation_currency SET display_symbol = NULL WHERE code = 'USD'")
    usd = everything(own.url, own.institution)[1].currencies["USD"]
    assert (usd.digits, usd.symbol) == (3, "world"), "where the institution has no sign of its own"


@pytest.mark.parametrize(("number", "mode"), [(4, "ROUND_HALF_UP"), (1, "ROUND_DOWN"), (99, "ROUND_HALF_EVEN")])
def test_the_rounding_mode_is_the_ledger_s(on_postgresql: Ledger, number: int, mode: str) -> None:
    on_postgresql.change(f"UPDATE c_configuration SET value = {number} WHERE name = 'rounding-mode'")
    assert everything(on_postgresql.url, on_postgresql.institution)[1].rounding == mode
    on_postgresql.change("UPDATE c_configuration SET enabled = FALSE WHERE name = 'rounding-mode'")
    assert everything(on_postgresql.url, on_postgresql.institution)[1].rounding == "ROUND_HALF_EVEN"
    on_postgresql.change("DELETE FROM c_configuration WHERE name = 'rounding-mode'")
    assert everything(on_postgresql.url, on_postgresql.institution)[1].rounding == "ROUND_HALF_EVEN"


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
