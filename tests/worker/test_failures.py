"""What cannot be projected is named and left as it was; everybody else goes on; nothing is lost."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from passbook.servicedb import tables
from tests.support.stage import Stage

GARBAGE = {
    "NULL where Fineract never puts one": "UPDATE m_loan_transaction SET amount = NULL WHERE loan_id = :loan",
    "NULL in the account": "UPDATE m_loan SET currency_digits = NULL WHERE id = :loan",
    "absurd digits": "UPDATE m_loan SET currency_digits = 99 WHERE id = :loan",
    "not a number": "UPDATE m_loan SET principal_disbursed_derived = 'NaN' WHERE id = :loan",
    "beyond range": "UPDATE m_loan SET total_outstanding_derived = 1e15 WHERE id = :loan",
    "a date no computer holds": "UPDATE m_loan SET maturedon_date = 'infinity' WHERE id = :loan",
    "a date before our era": "UPDATE m_loan_repayment_schedule SET duedate = '0044-03-15 BC' WHERE loan_id = :loan",
}


@pytest.mark.parametrize("garbage", sorted(GARBAGE))
async def test_garbage_in_one_client_is_named_and_leaves_the_others_going(stage: Stage, garbage: str) -> None:
    victim, *others = stage.institution.active_clients[:20]
    loan = stage.ask("SELECT min(id) FROM m_loan WHERE client_id = :id AND loan_status_id = 300", id=victim)
    assert loan is not None
    stage.add("victim", [victim])
    stage.add("others", [victim, *others])
    await stage.run()
    before = await stage.copies("others")

    for table, column, kind in (
        ("m_loan_transaction", "amount", "numeric"),
        ("m_loan", "currency_digits", "smallint"),
        ("m_loan", "total_outstanding_derived", "numeric"),
    ):
        stage.change(f"ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL")
        stage.change(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE {kind}")
    stage.change(GARBAGE[garbage], loan=loan)
    stage.change("UPDATE m_client SET mobile_no = '+1 555 0100' WHERE id = :id", id=others[0])

    summary = await stage.run()
    assert summary.failures == 1
    (failure,) = stage.failed
    assert (failure.client_id, failure.code) == (victim, "ledger_value")
    assert failure.detail
    after = await stage.copies("others")
    assert after.keys() == before.keys(), "nothing of the client that failed is taken away"
    assert after[f"client:{others[0]}"]["mobile_no"] == "+1 555 0100"
    assert {client["id"] for client in after["~passbook"]["clients"]} == {victim, *others}
    assert after["~passbook"]["counts"] == before["~passbook"]["counts"]
    report = await stage.verify(only="person-victim")
    assert [finding.kind for finding in report.findings] == ["unreadable"]
    with stage.database.begin() as connection:
        (letter,) = connection.execute(sa.select(tables.dead_letter)).all()
    assert (letter.client_id, letter.code) == (victim, "ledger_value")


async def test_a_dead_letter_is_struck_when_its_client_is_well_again(stage: Stage) -> None:
    victim = stage.institution.customer
    stage.add("customer", [victim])
    digits = stage.ask("SELECT currency_digits FROM m_loan WHERE client_id = :id LIMIT 1", id=victim)
    stage.change("UPDATE m_loan SET currency_digits = 77 WHERE client_id = :id", id=victim)
    for attempt in (1, 2):
        assert (await stage.run()).failures == 1
        with stage.database.begin() as connection:
            assert connection.execute(sa.select(tables.dead_letter.c.attempts)).scalar_one() == attempt
    stage.change("UPDATE m_loan SET currency_digits = :digits WHERE client_id = :id", digits=digits, id=victim)
    summary = await stage.run()
    assert summary.failures == 0
    assert summary.documents_written > 5
    with stage.database.begin() as connection:
        assert connection.execute(sa.select(tables.dead_letter)).all() == []


async def test_a_client_that_the_ledger_does_not_hold_is_reported(stage: Stage) -> None:
    stage.add("agent", [stage.institution.customer, 999_999_999])
    summary = await stage.run()
    assert summary.failures == 1
    assert stage.failed[0].code == "client_unknown"
    assert "999999999" in stage.failed[0].detail
    copies = await stage.copies("agent")
    assert [client["id"] for client in copies["~passbook"]["clients"]] == [stage.institution.customer]


async def test_an_unknown_code_becomes_the_word_unknown(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    client = stage.institution.customer
    stage.add("customer", [client])
    stage.change("UPDATE m_loan SET amortization_method_enum = 42 WHERE client_id = :id", id=client)
    stage.change(
        "UPDATE m_loan_transaction SET transaction_type_enum = 99 WHERE id ="
        " (SELECT min(t.id) FROM m_loan_transaction t JOIN m_loan l ON l.id = t.loan_id"
        "  WHERE l.client_id = :id AND l.loan_status_id = 300 AND t.transaction_type_enum = 2)",
        id=client,
    )
    assert (await stage.run()).failures == 0
    copies = await stage.copies("customer")
    loans = [document for document in copies.values() if document["type"] == "loan"]
    assert {loan["terms"]["amortization"] for loan in loans} == {"unknown"}
    kinds = {row["type"] for key, doc in copies.items() if ":transactions:" in key for row in doc["transactions"]}
    assert "unknown" in kinds
    told = capsys.readouterr()
    assert "m_loan.amortization_method_enum" in told.err + told.out


async def test_a_document_too_large_for_couchdb_fails_its_client_alone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_worker.projecting.LARGEST_DOCUMENT_BYTES", 3000)
    stage.add("agent", stage.institution.active_clients[:5])
    summary = await stage.run()
    assert summary.failures > 0
    assert {failure.code for failure in stage.failed} == {"document_too_large"}


async def test_a_defect_in_a_projection_fails_its_client_alone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sync_worker.projecting

    real = sync_worker.projecting.project
    victim = stage.institution.active_clients[1]

    def broken(aggregate, since, context):  # type: ignore[no-untyped-def]
        if aggregate.client.id == victim:
            raise ZeroDivisionError
        return real(aggregate, since, context)

    monkeypatch.setattr(sync_worker.projecting, "project", broken)
    stage.add("agent", stage.institution.active_clients[:4])
    summary = await stage.run()
    assert [(one.client_id, one.code) for one in stage.failed] == [(victim, "projection_error")]
    assert summary.documents_written > 20
