"""Fixed and recurring deposits: terms, deposit plans, maturity and early closing."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from sample_institution import savings
from sample_institution.calendars import MONTHS, add_months
from sample_institution.canaries import canary
from sample_institution.desk import stamps
from sample_institution.money import HUNDRED, ZERO, rounded
from sample_institution.products import CURRENCY, Branch, SavingsProduct
from sample_institution.rows.clients import ClientRow
from sample_institution.rows.savings import DepositPlanRow, DepositTermRow, RecurringDetailRow
from sample_institution.savings import Savings
from sample_institution.savings_plots import RECURRING_PLOTS, SavingsPlot
from sample_institution.savings_stories import activate, finish, not_active, open_account
from sample_institution.world import World

_TERMS = (6, 12, 18)  # months
_PENALTY_RATE = Decimal(2)  # per cent less interest when closed early


def tell_term_deposit(
    world: World, client: ClientRow, branch: Branch, product: SavingsProduct, plot: SavingsPlot
) -> Savings:
    """A fixed or recurring deposit with its history up to today."""
    term = world.random.choice(_TERMS)
    ended = plot in (SavingsPlot.FIXED_MATURED, SavingsPlot.FIXED_BROKEN, SavingsPlot.RECURRING_MATURED)
    age = term + world.random.randint(1, 5) if ended else world.random.randint(2, term - 2)
    opened = add_months(world.today, -age) - world.days(0, 20)
    account = open_account(world, client, branch, product, opened)
    unit = CURRENCY[product.currency].unit
    amount = unit * world.random.randint(20, 200)
    if plot in RECURRING_PLOTS:
        amount = unit * world.random.randint(2, 12)
    _terms(world, account, amount, term, opened)
    if plot in RECURRING_PLOTS:
        _plan(account, amount, term, opened)
    if plot == SavingsPlot.FIXED_PENDING:
        not_active(world, account, SavingsPlot.PENDING)
        return account
    not_active(world, account, plot)
    activate(account, opened, world.user(2))
    _live(world, account, plot, amount, term, opened)
    finish(world, account)
    return account


def _terms(world: World, account: Savings, amount: Decimal, term: int, opened: date) -> None:
    account.term = DepositTermRow(
        id=world.ids.new(DepositTermRow.table),
        savings_account_id=account.row.id,
        min_deposit_term=3,
        min_deposit_term_type_enum=MONTHS,
        max_deposit_term=24,
        max_deposit_term_type_enum=MONTHS,
        pre_closure_penal_applicable=True,
        pre_closure_penal_interest=_PENALTY_RATE,
        pre_closure_penal_interest_on_enum=2,
        deposit_period=term,
        deposit_period_frequency_enum=MONTHS,
        deposit_amount=amount,
        maturity_amount=None,
        maturity_date=None,
        on_account_closure_enum=100,
        expected_firstdepositon_date=opened,
    )


def _plan(account: Savings, amount: Decimal, term: int, opened: date) -> None:
    ids, row = account.desk.ids, account.row
    account.recurring = RecurringDetailRow(
        id=ids.new(RecurringDetailRow.table),
        savings_account_id=row.id,
        mandatory_recommended_deposit_amount=amount,
        is_mandatory=True,
        allow_withdrawal=False,
        total_overdue_amount=None,
        no_of_overdue_installments=None,
    )
    for number in range(1, term + 1):
        account.plan.append(
            DepositPlanRow(
                id=ids.new(DepositPlanRow.table),
                savings_account_id=row.id,
                fromdate=add_months(opened, max(number - 2, 0)),
                duedate=add_months(opened, number - 1),
                installment=number,
                deposit_amount=amount,
                **stamps(account.desk, row.submittedon_date),
            )
        )


def _live(world: World, account: Savings, plot: SavingsPlot, amount: Decimal, term: int, opened: date) -> None:
    row, terms = account.row, account.term
    matures = add_months(opened, term)
    until = min(matures, world.today)
    if plot == SavingsPlot.FIXED_BROKEN:
        until = add_months(opened, term // 2)
    for day, deposit in _calendar(world, plot, amount, term, opened, until):
        if deposit:
            payment = world.payment(receipt="D")
            account.payments.append(payment)
            movement = account.deposit(day, deposit, payment_detail_id=payment.id)
            movement.ref_no = canary("savings-ref", movement.id)
        else:
            account.post_interest(day)
    if terms is not None:
        deposits = 1 if plot not in RECURRING_PLOTS else term
        terms.maturity_date = matures
        terms.maturity_amount = _maturity_amount(
            row.nominal_annual_interest_rate, amount, term, deposits, row.currency_digits
        )
    if plot in (SavingsPlot.FIXED_MATURED, SavingsPlot.RECURRING_MATURED):
        account.post_interest(matures)
        row.status_enum = savings.MATURED
        if terms is not None:
            terms.maturity_amount = account.balance
    elif plot == SavingsPlot.FIXED_BROKEN:
        account.post_interest(until)
        account.withdraw(until, account.balance)
        row.status_enum, row.closedon_date, row.closedon_userid = savings.PREMATURE, until, world.user(0)
    _overdue(account, world.today)


def _calendar(
    world: World, plot: SavingsPlot, amount: Decimal, term: int, opened: date, until: date
) -> list[tuple[date, Decimal]]:
    """Deposits, and postings of interest (amount 0), in order of day."""
    days = [(opened, amount)]
    for month in range(1, term + 1):
        day = add_months(opened, month)
        if (posting := day.replace(day=1)) < until:
            days.append((posting, ZERO))
        if plot in RECURRING_PLOTS and month < term and world.random.random() < 0.9:
            paid = day + timedelta(days=world.random.choice((-2, 0, 0, 0, 4)))
            if paid <= until:
                days.append((paid, amount))
    return sorted(days)


def _maturity_amount(rate: Decimal, amount: Decimal, months: int, deposits: int, digits: int) -> Decimal:
    """What will be paid out, with interest by the month."""
    monthly, balance = rate / HUNDRED / 12, ZERO
    for month in range(months):
        balance += amount if month < deposits else ZERO
        balance += rounded(balance * monthly, digits)
    return balance


def _overdue(account: Savings, today: date) -> None:
    if account.recurring is not None and account.row.status_enum == savings.ACTIVE:
        late = [one for one in account.plan if one.duedate < today and not one.completed_derived]
        missing = sum((one.deposit_amount - one.deposit_amount_completed_derived for one in late), ZERO)
        account.recurring.total_overdue_amount = missing or None
        account.recurring.no_of_overdue_installments = len(late) or None


__all__ = ["tell_term_deposit"]
