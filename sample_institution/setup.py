"""The institution's own tables: looked up first, since a real tenant holds some of these rows already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, and_, insert, select, update

from sample_institution.canaries import canary
from sample_institution.money import ZERO, rounded
from sample_institution.products import (
    BRANCHES,
    CHARGES,
    CODES,
    CURRENCIES,
    CURRENCY,
    FLAT_AMOUNT,
    LOAN_PRODUCTS,
    PAYMENT_TYPES,
    SAVINGS_PRODUCTS,
    LoanProduct,
)
from sample_institution.tables import table

_OPENED = date(2011, 3, 1)
_STAFF_PER_BRANCH = 3


@dataclass(slots=True)
class Setup:
    """Ids of the institution's own rows, by name."""

    today: date
    users: list[int] = field(default_factory=list)
    offices: dict[str, int] = field(default_factory=dict)
    staff: dict[str, list[int]] = field(default_factory=dict)
    codes: dict[str, list[int]] = field(default_factory=dict)
    charges: dict[tuple[str, str], int] = field(default_factory=dict)  # (key, currency)
    loan_products: dict[str, int] = field(default_factory=dict)
    savings_products: dict[str, int] = field(default_factory=dict)
    payment_types: list[int] = field(default_factory=list)


def charge_amount(key_amount: Decimal, calculation: int, currency: str) -> Decimal:
    """The amount of a charge definition in a currency; percentages are the same in all."""
    if calculation != FLAT_AMOUNT:
        return key_amount
    return max(
        rounded(key_amount * CURRENCY[currency].unit, CURRENCY[currency].digits),
        Decimal(1).scaleb(-CURRENCY[currency].digits),
    )


def ensure(connection: Connection, name: str, key: Mapping[str, Any], /, **values: Any) -> int:
    """The id of the row with that natural key; inserted with `values` if there is none."""
    one = table(name)
    match = and_(*(one.c[column] == value for column, value in key.items()))
    found = connection.execute(select(one.c.id).where(match).order_by(one.c.id).limit(1)).scalar()
    if found is None:
        result = connection.execute(insert(one).values(**key, **values))
        found = result.inserted_primary_key[0]  # type: ignore[index]
    return int(found)


def set_up(connection: Connection, today: date) -> Setup:
    """Look up or insert everything that clients and accounts refer to."""
    setup = Setup(today)
    head = connection.execute(
        select(table("m_office").c.id).where(table("m_office").c.parent_id.is_(None)).limit(1)
    ).scalar()
    if head is None:
        head = ensure(connection, "m_office", {"name": "Head Office"}, hierarchy=".", opening_date=_OPENED)
    _offices_and_staff(connection, setup, int(head))
    _users(connection, setup, int(head))
    _currencies_and_codes(connection, setup)
    _charges(connection, setup)
    for product in LOAN_PRODUCTS:
        setup.loan_products[product.short] = _loan_product(connection, product)
    _savings_products(connection, setup)
    _settings(connection, setup)
    return setup


def _offices_and_staff(connection: Connection, setup: Setup, head: int) -> None:
    office = table("m_office")
    for number, branch in enumerate(BRANCHES, start=1):
        office_id = ensure(
            connection,
            "m_office",
            {"name": branch.name},
            parent_id=head,
            opening_date=_OPENED + timedelta(days=97 * number),
            external_id=canary("office", number),
        )
        connection.execute(update(office).where(office.c.id == office_id).values(hierarchy=f".{office_id}."))
        setup.offices[branch.name] = office_id
        setup.staff[branch.name] = [
            ensure(
                connection,
                "m_staff",
                {"display_name": canary("staff", number * 10 + one)},
                is_loan_officer=one > 0,
                office_id=office_id,
                firstname=canary("staff-first", number * 10 + one),
                lastname=canary("staff-last", number * 10 + one),
                mobile_no=canary("staff-phone", number * 10 + one),
                external_id=canary("staff-external", number * 10 + one),
                email_address=canary("staff-mail", number * 10 + one),
                joining_date=_OPENED + timedelta(days=97 * number + one),
            )
            for one in range(_STAFF_PER_BRANCH)
        ]


def user(connection: Connection, username: str, office_id: int, *, self_service: bool, **names: str) -> int:
    """The id of a login, inserted with an unusable password if there is none of that name."""
    return ensure(
        connection,
        "m_appuser",
        {"username": username},
        office_id=office_id,
        password="{bcrypt}" + canary("password", username),
        firsttime_login_remaining=False,
        nonexpired=True,
        nonlocked=True,
        nonexpired_credentials=True,
        enabled=True,
        is_self_service_user=self_service,
        **names,
    )


def _users(connection: Connection, setup: Setup, head: int) -> None:
    """Staff logins: tellers, approvers, and the one that nightly jobs run as."""
    for role in ("teller", "officer", "approver", "manager", "system"):
        name = canary("user", role)
        setup.users.append(
            user(
                connection,
                name,
                head,
                self_service=False,
                firstname=canary("user-first", role),
                lastname=canary("user-last", role),
                email=canary("user-mail", role),
            )
        )


def _currencies_and_codes(connection: Connection, setup: Setup) -> None:
    for currency in CURRENCIES:
        values = {
            "decimal_places": currency.digits,
            "name": currency.name,
            "display_symbol": currency.symbol,
            "internationalized_name_code": f"currency.{currency.code}",
        }
        for name in ("m_currency", "m_organisation_currency"):
            ensure(connection, name, {"code": currency.code}, **values)
    for code, code_values in CODES.items():
        code_id = ensure(connection, "m_code", {"code_name": code}, is_system_defined=True)
        setup.codes[code] = [
            ensure(connection, "m_code_value", {"code_id": code_id, "code_value": value}, order_position=position)
            for position, value in enumerate(code_values)
        ]
    for position, (value, description, cash) in enumerate(PAYMENT_TYPES):
        setup.payment_types.append(
            ensure(
                connection,
                "m_payment_type",
                {"value": value},
                description=description,
                is_cash_payment=cash,
                order_position=position,
                code_name=canary("payment-code", position),
            )
        )


def _charges(connection: Connection, setup: Setup) -> None:
    for currency in CURRENCIES:
        for charge in CHARGES:
            recurring = charge.time in (6, 7, 11)
            setup.charges[charge.key, currency.code] = ensure(
                connection,
                "m_charge",
                {"name": f"{charge.name} ({currency.code})"},
                currency_code=currency.code,
                charge_applies_to_enum=charge.applies_to,
                charge_time_enum=charge.time,
                charge_calculation_enum=charge.calculation,
                charge_payment_mode_enum=0,
                amount=charge_amount(charge.amount, charge.calculation, currency.code),
                is_penalty=charge.penalty,
                is_active=charge.active,
                fee_on_day=1 if charge.time in (6, 7) else None,
                fee_on_month=1 if charge.time in (6, 7) else None,
                fee_interval=1 if recurring else None,
            )


def _loan_product(connection: Connection, product: LoanProduct) -> int:
    currency, terms = CURRENCY[product.currency], product.terms
    return ensure(
        connection,
        "m_product_loan",
        {"short_name": product.short},
        name=product.name,
        description=f"{product.name}, {terms.instalments} instalments",
        currency_code=product.currency,
        currency_digits=terms.digits,
        principal_amount=product.least * 2 * currency.unit,
        min_principal_amount=product.least * currency.unit,
        max_principal_amount=product.most * currency.unit,
        nominal_interest_rate_per_period=terms.rate_per_month,
        interest_period_frequency_enum=2,
        annual_nominal_interest_rate=terms.annual_rate,
        interest_method_enum=terms.method,
        interest_calculated_in_period_enum=1,
        repay_every=terms.every,
        repayment_period_frequency_enum=terms.frequency,
        number_of_repayments=terms.instalments,
        amortization_method_enum=terms.amortization,
        accounting_type=3 if product.accruals else 1,
        grace_on_principal_periods=terms.principal_grace or None,
        grace_on_interest_periods=terms.interest_grace or None,
        grace_interest_free_periods=terms.interest_free or None,
        external_id=canary("loan-product", product.short),
        allow_multiple_disbursals=product.tranches,
        max_disbursals=3 if product.tranches else None,
        max_outstanding_loan_balance=product.most * currency.unit if product.tranches else None,
        days_in_month_enum=30,
        days_in_year_enum=360,
        loan_transaction_strategy_code="mifos-standard-strategy",
        loan_transaction_strategy_name="Penalties, Fees, Interest, Principal order",
    )


def _savings_products(connection: Connection, setup: Setup) -> None:
    for product in SAVINGS_PRODUCTS:
        unit = CURRENCY[product.currency].unit
        setup.savings_products[product.short] = ensure(
            connection,
            "m_savings_product",
            {"short_name": product.short},
            name=product.name,
            description=product.name,
            deposit_type_enum=product.deposit_type,
            currency_code=product.currency,
            currency_digits=product.digits,
            nominal_annual_interest_rate=product.rate,
            interest_compounding_period_enum=1,
            interest_posting_period_enum=4,
            interest_calculation_type_enum=1,
            interest_calculation_days_in_year_type_enum=365,
            accounting_type=1,
            allow_overdraft=product.overdraft,
            overdraft_limit=20 * unit if product.overdraft else None,
            nominal_annual_interest_rate_overdraft=Decimal(18) if product.overdraft else ZERO,
            withhold_tax=product.tax,
        )


def _settings(connection: Connection, setup: Setup) -> None:
    """Fineract's own business date, so that "today" in the ledger is the sample's fixed day."""
    ensure(connection, "c_configuration", {"name": "rounding-mode"}, value=6, enabled=True)
    switch = ensure(connection, "c_configuration", {"name": "enable-business-date"}, enabled=True)
    settings, dates = table("c_configuration"), table("m_business_date")
    connection.execute(update(settings).where(settings.c.id == switch).values(enabled=True))
    now = datetime(setup.today.year, setup.today.month, setup.today.day, tzinfo=UTC)
    audit = {"created_by": setup.users[-1], "created_on_utc": now}
    changed = {"last_modified_by": setup.users[-1], "last_modified_on_utc": now}
    for kind, day in (("BUSINESS_DATE", setup.today), ("COB_DATE", setup.today - timedelta(days=1))):
        row = ensure(connection, "m_business_date", {"type": kind}, date=day, version=1, **audit, **changed)
        connection.execute(update(dates).where(dates.c.id == row).values(date=day, **changed))
