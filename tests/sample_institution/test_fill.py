"""What a fill leaves in the ledger."""

from __future__ import annotations

import re
import zlib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, text, update

from sample_institution import Institution, create_schema, fill, write_images
from sample_institution.tables import metadata, table
from tests.sample_institution.conftest import MakeEngine
from tests.sample_institution.invariants import violations
from tests.sample_institution.rules import Ledger

CLIENTS = 80


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def filled(request: pytest.FixtureRequest) -> tuple[Engine, Institution]:
    make: MakeEngine = request.getfixturevalue(f"new_{request.param}")
    engine = make()
    create_schema(engine)
    return engine, fill(engine, clients=CLIENTS, seed=7)


@pytest.fixture(scope="module")
def ledger(filled: tuple[Engine, Institution]) -> Ledger:
    return Ledger(filled[0])


def found(ledger: Ledger, name: str, *columns: str) -> set[Any]:
    rows = [tuple(row[column] for column in columns) for row in ledger.rows[name]]
    return {row[0] for row in rows} if len(columns) == 1 else set(rows)


def test_every_rule_of_the_ledger_holds(filled: tuple[Engine, Institution]) -> None:
    assert violations(filled[0]) == []


def test_every_status_occurs(ledger: Ledger) -> None:
    assert found(ledger, "m_client", "status_enum") == {100, 300, 303, 304, 600, 700, 800}
    assert found(ledger, "m_client", "legal_form_enum") == {1, 2}
    loans = {100, 200, 300, 303, 304, 400, 500, 600, 601, 602, 700}
    assert found(ledger, "m_loan", "loan_status_id") == loans
    savings = {100, 200, 300, 303, 304, 400, 500, 600, 700, 800}
    assert found(ledger, "m_savings_account", "status_enum") == savings
    assert found(ledger, "m_savings_account", "deposit_type_enum") == {100, 200, 300}
    assert found(ledger, "m_savings_account", "sub_status_enum") == {0, 100, 200, 400, 500, 600}


def test_every_kind_of_movement_occurs(ledger: Ledger) -> None:
    assert found(ledger, "m_loan_transaction", "transaction_type_enum") >= {
        *(1, 2, 4, 5, 6, 8, 9, 10, 12, 17, 20, 23, 25)
    }
    assert (2, True, True) in found(
        ledger, "m_loan_transaction", "transaction_type_enum", "is_reversed", "manually_adjusted_or_reversed"
    )
    assert found(ledger, "m_savings_account_transaction", "transaction_type_enum") >= {
        *(1, 2, 3, 4, 5, 6, 7, 10, 12, 17, 18, 20, 21)
    }
    assert {(True, False), (False, True)} <= found(
        ledger, "m_savings_account_transaction", "is_reversed", "is_reversal"
    )
    assert found(ledger, "m_client_transaction", "transaction_type_enum", "is_reversed") >= {
        *((1, False), (1, True), (2, False))
    }


def test_every_kind_of_charge_occurs(ledger: Ledger) -> None:
    assert found(ledger, "m_loan_charge", "charge_time_enum") == {1, 2, 8, 9, 12}
    assert found(ledger, "m_loan_charge", "charge_calculation_enum") == {1, 2, 3}
    assert found(ledger, "m_savings_account_charge", "charge_time_enum") == {2, 3, 4, 5, 6, 7, 11, 16}
    for name in ("m_loan_charge", "m_savings_account_charge", "m_client_charge"):
        assert found(ledger, name, "is_active") == {True, False}
        assert {(True, False), (False, True), (False, False)} <= found(ledger, name, "is_paid_derived", "waived")


def test_products_cover_methods_periods_and_digits(ledger: Ledger) -> None:
    assert found(ledger, "m_loan", "interest_method_enum", "amortization_method_enum") == {
        *((0, 0), (0, 1), (1, 0), (1, 1))
    }
    assert found(ledger, "m_loan", "repayment_period_frequency_enum") == {1, 2}
    assert found(ledger, "m_loan", "currency_digits") == {0, 2, 3}
    assert any(row["grace_on_principal_periods"] for row in ledger.rows["m_loan"])
    assert any(row["grace_on_interest_periods"] for row in ledger.rows["m_loan"])


def test_every_table_is_used(ledger: Ledger) -> None:
    empty = {name for name, rows in ledger.rows.items() if not rows}
    assert empty == set()


def test_names_are_written_in_many_scripts(ledger: Ledger) -> None:
    written = "".join(row["display_name"] for row in ledger.rows["m_client"])
    for first, last in ("éé", "Ѐӿ", "؀ۿ", "ऀॿ", "ঀ৿", "ሀ፿", "一龥"):
        assert re.search(f"[{first}-{last}]", written), f"nothing between {first} and {last}"


def test_the_institution_tells_clients_by_nature(filled: tuple[Engine, Institution], ledger: Ledger) -> None:
    institution = filled[1]
    status = {row["id"]: row["status_enum"] for row in ledger.rows["m_client"]}
    assert {status[one] for one in institution.active_clients} == {300}
    assert 300 not in {status[one] for one in institution.inactive_clients}
    assert len(institution.active_clients) + len(institution.inactive_clients) == CLIENTS
    assert len(institution.agent_clients) == 30
    assert set(institution.agent_clients) <= set(institution.active_clients) - {institution.customer}
    mapped = {row["client_id"] for row in ledger.rows["m_selfservice_user_client_mapping"]}
    assert mapped == {institution.customer, *institution.agent_clients}


def test_the_customer_has_one_of_everything(filled: tuple[Engine, Institution], ledger: Ledger) -> None:
    customer = filled[1].customer
    loans = [row for row in ledger.rows["m_loan"] if row["client_id"] == customer]
    accounts = [row for row in ledger.rows["m_savings_account"] if row["client_id"] == customer]
    assert {row["loan_status_id"] for row in loans} == {300, 600}
    assert {row["deposit_type_enum"] for row in accounts} == {100, 200}
    assert all(row["total_interest_posted_derived"] for row in accounts)
    for name in ("m_client_charge", "m_client_transaction", "m_client_identifier", "m_note"):
        assert any(row["client_id"] == customer for row in ledger.rows[name])


CONFIDENTIAL = {
    "m_client": ["external_id"],
    "m_client_identifier": ["document_key", "description"],
    "m_note": ["note"],
    "m_image": ["location"],
    "m_loan": ["external_id"],
    "m_loan_charge": ["external_id"],
    "m_savings_account": ["external_id"],
    "m_staff": ["display_name", "firstname", "lastname", "mobile_no", "email_address", "external_id"],
}


def test_confidential_columns_carry_canaries(filled: tuple[Engine, Institution], ledger: Ledger) -> None:
    prefix = filled[1].canaries[0]
    for name, columns in CONFIDENTIAL.items():
        for row in ledger.rows[name]:
            for column in columns:
                assert row[column] is None or prefix in row[column], f"{name}.{column}"
    movements = ledger.rows["m_savings_account_transaction"]
    assert any(row["ref_no"] for row in movements)
    assert any(row["reason_for_block"] for row in movements)
    staff = [row for row in ledger.rows["m_appuser"] if not row["is_self_service_user"]]
    assert all(prefix in row[column] for row in staff for column in ("username", "firstname", "lastname", "email"))


def test_nothing_that_may_go_out_carries_a_canary(ledger: Ledger) -> None:
    open_columns = {
        "m_client": [
            "display_name",
            "firstname",
            "lastname",
            "fullname",
            "mobile_no",
            "email_address",
            "account_no",
        ],
        "m_payment_detail": ["receipt_number", "account_number", "check_number", "bank_number"],
        "m_charge": ["name"],
        "m_office": ["name"],
        "m_product_loan": ["name", "short_name", "description"],
        "m_payment_type": ["value", "description"],
        "m_code_value": ["code_value"],
    }
    for name, columns in open_columns.items():
        for row in ledger.rows[name]:
            assert not any("CANARY" in (row[column] or "") for column in columns), f"{name} {row['id']}"


def test_generated_ids_follow_the_explicit_ones(filled: tuple[Engine, Institution]) -> None:
    engine, _ = filled
    with engine.connect() as connection, connection.begin() as transaction:
        for name in ("m_loan_transaction", "m_client_charge", "m_note", "m_image", "m_code_value"):
            one = table(name)
            highest = connection.execute(select(func.max(one.c.id))).scalar_one()
            row = dict(connection.execute(select(one).limit(1)).mappings().one())
            row.pop("id")
            for column in ("external_id", "code_value"):
                if column in row:
                    row[column] = None
            new = connection.execute(one.insert().values(**row)).inserted_primary_key
            assert new is not None
            assert new[0] > highest
        transaction.rollback()


def test_the_checker_notices_a_wrong_amount(filled: tuple[Engine, Institution]) -> None:
    """The rules above are worth something only if they can fail."""
    engine, _ = filled
    for name, column in (
        ("m_loan", "interest_outstanding_derived"),
        ("m_loan_repayment_schedule", "principal_completed_derived"),
        ("m_loan_transaction", "amount"),
        ("m_loan_charge", "amount_paid_derived"),
        ("m_savings_account", "account_balance_derived"),
        ("m_savings_account_transaction", "running_balance_derived"),
        ("m_client_charge", "amount_outstanding_derived"),
    ):
        one = table(name)
        key = select(func.min(one.c.id))
        with engine.begin() as connection:
            first = connection.execute(key).scalar_one()
            before = connection.execute(select(one.c[column]).where(one.c.id == first)).scalar_one()
            connection.execute(update(one).where(one.c.id == first).values({column: before + 1}))
        assert violations(engine), f"a wrong {name}.{column} goes unnoticed"
        with engine.begin() as connection:
            connection.execute(update(one).where(one.c.id == first).values({column: before}))
    assert violations(engine) == []


def test_images_are_written_where_the_ledger_says(
    filled: tuple[Engine, Institution], ledger: Ledger, tmp_path: Path
) -> None:
    engine, institution = filled
    assert write_images(engine, tmp_path) == len(ledger.rows["m_image"])
    image = next(row["image_id"] for row in ledger.rows["m_client"] if row["id"] == institution.customer)
    location = next(row["location"] for row in ledger.rows["m_image"] if row["id"] == image)
    content = (tmp_path / location).read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    start = content.index(b"IDAT") + 4
    length = int.from_bytes(content[start - 8 : start - 4], "big")
    assert len(zlib.decompress(content[start : start + length])) == 64 * (1 + 64 * 3)
    write_images(engine, tmp_path)
    assert (tmp_path / location).read_bytes() == content


# -- on PostgreSQL alone: the same code decides for both ------------------------------------------------------


def test_the_same_seed_gives_the_same_rows(new_postgresql: MakeEngine) -> None:
    def rows(seed: int, today: date | None = None) -> dict[str, Any]:
        engine = new_postgresql()
        create_schema(engine)
        fill(engine, clients=20, seed=seed, today=today)
        return Ledger(engine).rows

    first = rows(3)
    assert rows(3) == first
    assert rows(4)["m_loan"] != first["m_loan"]
    moved = rows(3, date(2025, 2, 28))
    assert [row["date"] for row in moved["m_business_date"]] != [row["date"] for row in first["m_business_date"]]


def test_a_second_fill_adds_clients_and_keeps_the_institution(new_postgresql: MakeEngine) -> None:
    engine = new_postgresql()
    create_schema(engine)
    create_schema(engine)
    first = fill(engine, clients=20, seed=1)
    before = {name: len(rows) for name, rows in Ledger(engine).rows.items()}
    second = fill(engine, clients=20, seed=2)
    after = {name: len(rows) for name, rows in Ledger(engine).rows.items()}
    assert not set(first.active_clients) & set(second.active_clients)
    assert after["m_client"] == 40
    for name in ("m_office", "m_staff", "m_appuser", "m_charge", "m_currency", "m_code_value", "m_product_loan"):
        assert after[name] == before[name]
    assert violations(engine) == []


def test_any_seed_and_day_keep_the_rules(new_postgresql: MakeEngine) -> None:
    for seed, today in ((11, date(2024, 2, 29)), (12, date(2025, 12, 31)), (13, date(2026, 3, 1))):
        engine = new_postgresql()
        create_schema(engine)
        fill(engine, clients=150, seed=seed, today=today)
        assert violations(engine) == []


def test_progress_ends_at_the_number_of_clients(new_postgresql: MakeEngine) -> None:
    engine = new_postgresql()
    create_schema(engine)
    seen: list[tuple[int, int]] = []
    fill(engine, clients=520, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(250, 520), (500, 520), (520, 520)]


def test_a_failed_fill_leaves_nothing(new_postgresql: MakeEngine) -> None:
    engine = new_postgresql()
    create_schema(engine)

    def fail(done: int, total: int) -> None:
        raise RuntimeError(f"stopped at {done} of {total}")

    with pytest.raises(RuntimeError, match="stopped at"):
        fill(engine, clients=300, progress=fail)
    assert all(not rows for rows in Ledger(engine).rows.values())


def test_an_empty_institution_is_refused(new_postgresql: MakeEngine) -> None:
    with pytest.raises(ValueError, match="at least one client"):
        fill(new_postgresql(), clients=0)


def test_the_schema_has_fineracts_types(new_mariadb: MakeEngine) -> None:
    engine = new_mariadb()
    create_schema(engine)
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT column_name, column_type, is_nullable FROM information_schema.columns"
                " WHERE table_schema = DATABASE() AND table_name = 'm_client'"
            )
        )
        types = {row[0]: (row[1], row[2]) for row in rows}
    assert types["is_staff"] == ("tinyint(1)", "NO")
    assert types["created_on_utc"] == ("datetime(6)", "YES")
    assert types["id"] == ("bigint(20)", "NO")
    assert len(types) == len(metadata.tables["m_client"].columns)
