"""The manifest tells of the institution, and with it a phone finds what is overdue, as the ledger counts it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from tests.support.stage import Stage

MANIFEST = "~passbook"


async def _institution(stage: Stage, username: str) -> dict[str, Any]:
    found: dict[str, Any] = (await stage.copies(username))[MANIFEST]["institution"]
    return found


async def test_a_change_of_the_institution_reaches_everybody_and_nothing_else(stage: Stage) -> None:
    stage.add("asha", [stage.institution.customer])
    stage.add("nobody", [])
    await stage.run()
    before = {name: await stage.revisions(name) for name in ("asha", "nobody")}
    assert set(await _institution(stage, "asha")) == {"time_zone", "business_date"}, "what is not set is not there"
    stage.set(
        tenant_timezone=ZoneInfo("Africa/Nairobi"),
        institution_name="Umoja Savings",
        institution_phone="+254 700 000000",
        institution_languages="sw, en-KE",
    )
    assert (await stage.run()).documents_written == 2
    for name, revisions in before.items():
        told = await _institution(stage, name)
        assert told.pop("business_date")["rule"] == "ledger"
        assert told == {
            "time_zone": "Africa/Nairobi",
            "name": "Umoja Savings",
            "phone": "+254 700 000000",
            "languages": ["sw", "en-KE"],
        }
        after = await stage.revisions(name)
        assert {key for key in after if after[key] != revisions[key]} == {MANIFEST}
    assert (await stage.verify()).ok
    assert (await stage.run()).documents_written == 0


async def test_the_business_date_is_told_where_the_ledger_keeps_one(stage: Stage) -> None:
    stage.add("asha", [stage.institution.customer])
    await stage.run()
    day = stage.ask("SELECT date FROM m_business_date WHERE type = 'BUSINESS_DATE'")
    assert (await _institution(stage, "asha"))["business_date"] == {"rule": "ledger", "date": day.isoformat()}
    stage.change("UPDATE m_business_date SET date = :day WHERE type = 'BUSINESS_DATE'", day=date(2026, 7, 15))
    summary = await stage.run()
    assert summary.documents_written == 1, "a day that passes writes the manifest and nothing else"
    assert (await _institution(stage, "asha"))["business_date"]["date"] == "2026-07-15"

    stage.change("UPDATE c_configuration SET enabled = false WHERE name = 'enable-business-date'")
    await stage.run()
    assert (await _institution(stage, "asha"))["business_date"] == {"rule": "calendar"}
    stage.change("UPDATE m_business_date SET date = :day WHERE type = 'BUSINESS_DATE'", day=date(2026, 7, 16))
    assert (await stage.run()).documents_written == 0
    stage.change("DELETE FROM m_business_date")
    stage.change("UPDATE c_configuration SET enabled = true WHERE name = 'enable-business-date'")
    assert (await stage.run()).documents_written == 0, "switched on without a date: the calendar's"
    assert (await stage.verify()).ok


def _overdue(loan: dict[str, Any], schedule: dict[str, Any] | None, today: str) -> tuple[str, Decimal] | None:
    """The rule of docs/app-developers.md: since when, how much."""
    if loan["status"] != "active" or schedule is None:
        return None
    late = [line for line in schedule["instalments"] if not line["complete"] and line["due_on"] < today]
    if not late:
        return None
    return late[0]["due_on"], sum((Decimal(line["total"]["outstanding"]) for line in late), Decimal(0))


async def test_what_is_overdue_by_the_documents_is_what_the_ledger_counts(stage: Stage) -> None:
    stage.add("agent", stage.institution.active_clients)
    # A late loan on its way to another office: the core's job counts active loans alone.
    moving = stage.ask(
        "SELECT min(a.loan_id) FROM m_loan_arrears_aging a JOIN m_loan l ON l.id = a.loan_id"
        " JOIN m_client c ON c.id = l.client_id WHERE c.status_enum = 300"
    )
    stage.change("UPDATE m_loan SET loan_status_id = 303 WHERE id = :id", id=moving)
    stage.change("DELETE FROM m_loan_arrears_aging WHERE loan_id = :id", id=moving)
    await stage.run()
    copies = await stage.copies("agent")
    today = copies[MANIFEST]["institution"]["business_date"]["date"]
    loans = {key: one for key, one in copies.items() if one["type"] == "loan"}
    found = {
        one["loan_id"]: late
        for key, one in loans.items()
        if (late := _overdue(one, copies.get(f"{key}:schedule"), today))
    }
    with stage.ledger.begin() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT a.loan_id, a.overdue_since_date_derived, a.total_overdue_derived"
                " FROM m_loan_arrears_aging a JOIN m_loan l ON l.id = a.loan_id"
                " JOIN m_client c ON c.id = l.client_id WHERE c.status_enum = 300"
            )
        ).all()
    assert found == {row[0]: (row[1].isoformat(), row[2].normalize() + 0) for row in rows}
    assert len(found) > 3
    statuses = {one["status"] for one in loans.values()}
    assert statuses > {"active", "in_transfer", "approved", "repaid", "written_off"}
    assert _overdue(loans[f"loan:{moving}"] | {"status": "active"}, copies[f"loan:{moving}:schedule"], today)


async def test_the_next_due_instalment_is_told_without_the_schedule(stage: Stage) -> None:
    stage.add("agent", stage.institution.active_clients)
    stage.add("without", stage.institution.active_clients, ["profile", "loans"])
    await stage.run()
    copies, without = await stage.copies("agent"), await stage.copies("without")
    assert not any(key.endswith(":schedule") for key in without)
    today = copies[MANIFEST]["institution"]["business_date"]["date"]
    seen = set()
    for key, loan in _of_type(without.items(), "loan"):
        lines = copies.get(f"{key}:schedule", {}).get("instalments", ())
        open_lines = [line for line in lines if Decimal(line["total"]["outstanding"])]
        if loan["status"] != "active" or not open_lines:
            assert "next_due" not in loan
            continue
        first = open_lines[0]
        assert loan["next_due"] == {"on": first["due_on"], "amount": first["total"]["outstanding"]}
        seen.add(loan["next_due"]["on"] < today)
    assert seen == {True, False}, "some are late, some are not"


def _of_type(copies: Iterable[tuple[str, dict[str, Any]]], kind: str) -> list[tuple[str, dict[str, Any]]]:
    return [(key, one) for key, one in copies if one["type"] == kind]
