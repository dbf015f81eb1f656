"""Loan applications: the account row, its schedule and the charges agreed at the start."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal

from sample_institution import loans
from sample_institution.canaries import canary
from sample_institution.desk import stamps
from sample_institution.loan_charges import Definition, charge_loan, instalments
from sample_institution.loans import Loan
from sample_institution.money import round_figure, rounded
from sample_institution.products import CHARGE, CURRENCY, Branch, LoanProduct
from sample_institution.rows.clients import ClientRow
from sample_institution.rows.loans import (
    LoanChargeRow,
    LoanRow,
    TrancheChargeRow,
    TrancheRow,
)
from sample_institution.schedules import Due, plan
from sample_institution.setup import charge_amount
from sample_institution.world import World

TRANCHE_SHARES = (Decimal("0.5"), Decimal("0.3"), Decimal("0.2"))


def apply(world: World, client: ClientRow, branch: Branch, product: LoanProduct, start: date) -> Loan:
    """A pending loan (status 100) that should be paid out on `start`."""
    unit = CURRENCY[product.currency].unit
    asked = round_figure(unit * world.random.randint(product.least, product.most), unit * 10)
    terms = product.terms
    desk = world.desk()
    number = world.ids.new(LoanRow.table)
    submitted = start - world.days(6, 20)
    dues = terms.due_dates(start)
    shares = [rounded(asked * share, terms.digits) for share in TRANCHE_SHARES]
    first = shares[0] if product.tranches else asked
    row = LoanRow(
        id=number,
        account_no=f"{number:09d}",
        external_id=canary("loan", number),
        client_id=client.id,
        product_id=world.setup.loan_products[product.short],
        loan_officer_id=world.officer(branch),
        loanpurpose_cv_id=world.code("LoanPurpose"),
        loan_status_id=loans.PENDING,
        currency_code=product.currency,
        currency_digits=terms.digits,
        principal_amount_proposed=asked,
        principal_amount=first,
        approved_principal=asked,
        net_disbursal_amount=first,
        nominal_interest_rate_per_period=terms.rate_per_month,
        interest_period_frequency_enum=2,
        annual_nominal_interest_rate=terms.annual_rate,
        interest_method_enum=terms.method,
        amortization_method_enum=terms.amortization,
        term_frequency=terms.instalments * terms.every,
        term_period_frequency_enum=terms.frequency,
        repay_every=terms.every,
        repayment_period_frequency_enum=terms.frequency,
        number_of_repayments=terms.instalments,
        grace_on_principal_periods=terms.principal_grace or None,
        grace_on_interest_periods=terms.interest_grace or None,
        grace_interest_free_periods=terms.interest_free or None,
        submittedon_date=submitted,
        expected_disbursedon_date=start,
        expected_firstrepaymenton_date=dues[0],
        expected_maturedon_date=dues[-1],
        loan_counter=1,
        loan_product_counter=1,
        max_outstanding_loan_balance=product.most * unit if product.tranches else None,
        **stamps(desk, submitted),
    )
    loan = Loan(row, client.office_id, desk)
    loan.instalments = instalments(loan, start, dues)
    spread(loan, plan(first, terms, terms.instalments), 0)
    if product.tranches:
        _tranches(world, loan, shares, start)
    return loan


def spread(loan: Loan, dues: Sequence[Due], skip: int) -> None:
    """Add principal and interest to the instalments after the first `skip`."""
    for instalment, due in zip(loan.instalments[skip:], dues, strict=False):
        instalment.principal_amount += due.principal
        instalment.interest_amount += due.interest
        if due.principal or due.interest:
            instalment.completed_derived = False
            instalment.obligations_met_on_date = None


def _tranches(world: World, loan: Loan, shares: Sequence[Decimal], start: date) -> None:
    day = start
    for share in shares:
        loan.tranches.append(
            TrancheRow(
                id=world.ids.new(TrancheRow.table),
                loan_id=loan.row.id,
                expected_disburse_date=day,
                disbursedon_date=None,
                principal=share,
            )
        )
        day += timedelta(days=70)


def add_charge(
    world: World, loan: Loan, key: str, due: date | None, on: date, *, active: bool = True
) -> LoanChargeRow:
    """Charge the loan by the definition `key`; instalment fees fall on every instalment."""
    definition = CHARGE[key]
    return charge_loan(
        loan,
        Definition(
            id=world.setup.charges[key, loan.row.currency_code],
            time=definition.time,
            calculation=definition.calculation,
            penalty=definition.penalty,
            stated=charge_amount(definition.amount, definition.calculation, loan.row.currency_code),
        ),
        due,
        on,
        active=active,
    )


def approve(world: World, loan: Loan, on: date) -> None:
    """Approved, waiting for the pay-out (status 200)."""
    loan.row.loan_status_id = loans.APPROVED
    loan.row.approvedon_date = on
    loan.row.approvedon_userid = world.user(2)


def pay_out(world: World, loan: Loan, product: LoanProduct, on: date, tranche: int = 0) -> None:
    """Disburse the loan, or its tranche of that number, with its fee."""
    row = loan.row
    if not product.tranches:
        loan.disburse(on, row.principal_amount)
    else:
        detail = loan.tranches[tranche]
        fee = add_charge(world, loan, "loan_tranche", on, on)
        loan.tranche_charges.append(
            TrancheChargeRow(
                id=world.ids.new(TrancheChargeRow.table),
                loan_charge_id=fee.id,
                disbursement_detail_id=detail.id,
            )
        )
        if tranche:
            passed = sum(1 for one in loan.instalments if one.duedate <= on)
            row.principal_amount += detail.principal
            row.net_disbursal_amount += detail.principal
            spread(loan, plan(detail.principal, product.terms, product.terms.instalments - passed), passed)
        detail.disbursedon_date = on
        detail.net_disbursal_amount = detail.principal - fee.amount
        loan.disburse(on, detail.principal)
    row.maturedon_date = loan.instalments[-1].duedate
