"""Documents about the client: names, charges and transactions with currencies of their own."""

from __future__ import annotations

import hashlib
from datetime import date
from decimal import Decimal

import pytest

from projections.garbage import BadValue
from projections.rows import CurrencyRow, Picture
from tests.projections import builders as make


@pytest.mark.parametrize("status", [300, 303, 304])
def test_an_active_client_is_shown_with_what_is_known(status: int) -> None:
    row = make.client(status=status, gender="Female", date_of_birth=date(1990, 5, 4), mobile_no="+254 700 000007")
    (document,) = make.documents(make.of_client(row)).values()
    assert document == {
        "type": "client",
        "schema": 1,
        "client_id": 7,
        "account_no": "000000007",
        "status": "active" if status == 300 else "in_transfer",
        "display_name": "Asha Okafor",
        "first_name": "Asha",
        "last_name": "Okafor",
        "legal_form": "person",
        "gender": "Female",
        "date_of_birth": "1990-05-04",
        "mobile_no": "+254 700 000007",
        "office": "Head office",
        "submitted_on": "2024-01-10",
        "activated_on": "2024-01-15",
    }


@pytest.mark.parametrize("status", [0, 100, 600, 700, 800, 301])
def test_of_a_client_who_is_not_active_nothing_is_shown(status: int) -> None:
    aggregate = make.of_loan()
    aggregate.client = make.client(status=status)
    aggregate.charges.append(make.client_charge())
    aggregate.picture = Picture("image/png", b"png")
    assert make.documents(aggregate) == {}


def test_an_entity_with_one_name() -> None:
    row = make.client(
        display_name=None, firstname=None, lastname=None, fullname="Umoja Traders Ltd", legal_form=2, office=None
    )
    document = make.documents(make.of_client(row))["client:7"]
    assert document["display_name"] == document["full_name"] == "Umoja Traders Ltd"
    assert document["legal_form"] == "entity"
    assert not {"first_name", "last_name", "office"} & document.keys()


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ({"display_name": "As Shown", "fullname": "Full"}, "As Shown"),
        ({"fullname": "Full", "firstname": "F", "lastname": "L"}, "Full"),
        ({"firstname": "F", "middlename": "M", "lastname": "L"}, "F M L"),
        ({"firstname": "F", "middlename": "", "lastname": "L"}, "F L"),
        ({"display_name": "", "fullname": "", "lastname": "L"}, "L"),
        ({}, "000000007"),
    ],
)
def test_every_client_has_a_name_to_show(names: dict[str, str], shown: str) -> None:
    nameless: dict[str, str | None] = {"display_name": None, "firstname": None, "lastname": None}
    document = make.documents(make.of_client(make.client(**(nameless | names))))["client:7"]
    assert document["display_name"] == shown


def test_unknown_codes_become_unknown_and_are_noted() -> None:
    context = make.context()
    aggregate = make.of_client(
        make.client(legal_form=9),
        charges=[make.client_charge(charge_time=77, calculation=78)],
        transactions=[make.client_transaction(type=79)],
    )
    found = make.documents(aggregate, using=context)
    assert found["client:7"]["legal_form"] == "unknown"
    (charge,) = found["client:7:charges"]["charges"]
    assert (charge["when"], charge["calculation"]) == ("unknown", "unknown")
    assert found["client:7:transactions:2026"]["transactions"][0]["type"] == "unknown"
    assert context.unknown == {
        ("m_client.legal_form_enum", 9),
        ("m_client_charge.charge_time_enum", 77),
        ("m_client_charge.charge_calculation_enum", 78),
        ("m_client_transaction.transaction_type_enum", 79),
    }


def test_the_picture_is_described_and_travels_beside() -> None:
    picture = Picture("image/png", b"\x89PNG of Asha")
    aggregate = make.of_client(picture=picture)
    document = make.documents(aggregate)["client:7:image"]
    assert document["content_type"] == "image/png"
    assert document["bytes"] == len(picture.data)
    assert document["sha256"] == hashlib.sha256(picture.data).hexdigest()
    found = make.projected(aggregate)
    assert found["client:7:image"].picture is picture
    assert found["client:7"].picture is None


def test_charges_of_the_client_tell_which_were_taken_back() -> None:
    rows = [
        make.client_charge(3, is_active=False, inactivated_on=date(2026, 3, 1)),
        make.client_charge(1, is_active=None, **make.amounts(paid=4, waived=1, outstanding=5)),
        make.client_charge(2, is_penalty=True, name=None),
    ]
    charges = make.documents(make.of_client(charges=rows))["client:7:charges"]["charges"]
    assert [(one["id"], one["active"]) for one in charges] == [(1, True), (2, True), (3, False)]
    assert charges[2]["inactivated_on"] == "2026-03-01"
    assert [charges[0][part] for part in ("amount", "paid", "waived", "written_off", "outstanding")] == [
        "10.00",
        "4.00",
        "1.00",
        "0.00",
        "5.00",
    ]
    assert (charges[1]["penalty"], charges[1]["name"]) == (True, "?")


def test_without_charges_there_is_no_document_of_charges() -> None:
    assert make.documents(make.of_client()).keys() == {"client:7"}


def test_transactions_name_their_payment() -> None:
    rows = [
        make.client_transaction(1, payment_type="Cash", receipt_number="R-1", submitted_on=date(2026, 2, 2)),
        make.client_transaction(2, type=2, is_reversed=True, payment_type="", receipt_number=""),
    ]
    first, second = make.documents(make.of_client(transactions=rows))["client:7:transactions:2026"]["transactions"]
    assert first["payment"] == {"type": "Cash", "receipt": "R-1"}
    assert (first["type"], first["reversed"], first["submitted_on"]) == ("charge_payment", False, "2026-02-02")
    assert (second["type"], second["reversed"]) == ("charge_waiver", True)
    assert "payment" not in second


@pytest.mark.parametrize(
    ("code", "shown", "currency"),
    [
        ("USD", "10.00", {"code": "USD", "digits": 2, "symbol": "$"}),
        ("JPY", "10", {"code": "JPY", "digits": 0, "symbol": "¥"}),
        ("BHD", "10.000", {"code": "BHD", "digits": 3, "symbol": "BHD"}),
    ],
)
def test_the_digits_are_those_of_each_charge_s_currency(code: str, shown: str, currency: dict[str, object]) -> None:
    aggregate = make.of_client(
        charges=[make.client_charge(1), make.client_charge(2, currency_code=code)],
        transactions=[make.client_transaction(currency_code=code)],
    )
    found = make.documents(aggregate)
    assert found["client:7:charges"]["charges"][0]["amount"] == "10.00"
    for line in (found["client:7:charges"]["charges"][1], found["client:7:transactions:2026"]["transactions"][0]):
        assert line["amount"] == shown
        assert line["currency"] == currency


def test_digits_of_the_organisation_go_before_those_of_the_world() -> None:
    # As the reader merges them: m_organisation_currency wins.
    context = make.context(currencies={"XAF": CurrencyRow(code="XAF", digits=2, symbol="FCFA")})
    document = make.documents(
        make.of_client(charges=[make.client_charge(currency_code="XAF", amount=Decimal("12.5"))]), using=context
    )["client:7:charges"]
    assert document["charges"][0]["amount"] == "12.50"
    assert document["charges"][0]["currency"]["symbol"] == "FCFA"


@pytest.mark.parametrize("what", ["charges", "transactions"])
def test_a_currency_that_nobody_knows_stops_the_client(what: str) -> None:
    aggregate = make.of_client()
    if what == "charges":
        aggregate.charges.append(make.client_charge(5, currency_code="ZZZ"))
    else:
        aggregate.transactions.append(make.client_transaction(5, currency_code="ZZZ"))
    with pytest.raises(BadValue) as caught:
        make.documents(aggregate)
    assert caught.value.where == f"m_client_{what.rstrip('s')} 5"
    assert "m_organisation_currency" in caught.value.problem


def test_an_account_in_a_currency_that_nobody_knows_has_its_own_digits() -> None:
    loan = make.documents(make.of_loan(make.loan(currency_code="ZZZ", currency_digits=1)))["loan:12"]
    assert loan["currency"] == {"code": "ZZZ", "digits": 1, "symbol": "ZZZ"}
    assert loan["principal"]["approved"] == "1200.0"
