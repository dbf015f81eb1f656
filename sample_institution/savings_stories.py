"""What becomes of a savings account: everyday, business, fixed and recurring accounts in every status."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal

from sample_institution import savings
from sample_institution.calendars import add_months
from sample_institution.canaries import canary
from sample_institution.desk import stamps
from sample_institution.money import ONE, ZERO, rounded
from sample_institution.products import CHARGE, CURRENCY, Branch, SavingsProduct
from sample_institution.rows.clients import ClientRow
from sample_institution.rows.savings import SavingsChargeRow, SavingsRow, SavingsTransactionRow
from sample_institution.savings import Savings
from sample_institution.savings_plots import BLOCKS, SavingsPlot
from sample_institution.setup import charge_amount
from sample_institution.world import World

_MONTHS_OF_HISTORY = (6, 30)


@dataclass(slots=True)
class _Teller:
    """Tells one account: collects what happens as (day, order, action), then lets it happen in order."""

    world: World
    account: Savings
    product: SavingsProduct
    plot: SavingsPlot
    until: date
    events: list[tuple[date, int, Callable[[date], None]]] = field(default_factory=list)

    def at(self, day: date, action: Callable[[date], None], order: int = 5) -> None:
        """Let something happen, unless it lies after the account's last day."""
        if day <= self.until:
            self.events.append((day, order, action))

    def tell(self) -> None:
        """Let everything happen."""
        self.events.sort(key=lambda event: event[:2])
        for day, _, action in self.events:
            action(day)

    @property
    def unit(self) -> Decimal:
        """A small round amount of the account's currency."""
        return CURRENCY[self.product.currency].unit

    def figure(self, least: int, most: int) -> Decimal:
        """A round amount between that many tenths of units."""
        digits = self.product.digits
        step = max(rounded(self.unit / 10, digits), ONE.scaleb(-digits))
        return step * self.world.random.randint(least, most)

    def paid_with(self, columns: dict[str, object] | None = None) -> dict[str, object]:
        """The payment detail of most movements."""
        columns = columns or {}
        if self.world.random.random() < 0.5:
            payment = self.world.payment(receipt="S")
            self.account.payments.append(payment)
            columns["payment_detail_id"] = payment.id
        return columns

    def reference(self, row: SavingsTransactionRow) -> SavingsTransactionRow:
        """Give a movement an internal reference and sometimes a staff note."""
        row.ref_no = canary("savings-ref", row.id)
        if self.world.random.random() < 0.05:
            self.world.note(
                800,
                row.transaction_date,
                savings_account_id=self.account.row.id,
                savings_account_transaction_id=row.id,
            )
        return row

    def deposit(self, least: int, most: int) -> Callable[[date], None]:
        """Money in."""
        return lambda on: self._deposit(on, self.figure(least, most))

    def _deposit(self, on: date, amount: Decimal) -> None:
        self.reference(self.account.deposit(on, amount, **self.paid_with()))

    def deposit_exactly(self, amount: Decimal) -> Callable[[date], None]:
        """A planned deposit."""
        return lambda on: self._deposit(on, amount)

    def withdraw(self, on: date) -> None:
        """Money out, as far as it goes; business accounts run into overdraft now and then."""
        account, digits = self.account, self.product.digits
        room = account.available if account.row.allow_overdraft else account.available * Decimal("0.6")
        wanted = self.figure(20, 400)
        step = max(rounded(self.unit / 10, digits), ONE.scaleb(-digits))
        amount = min(wanted, rounded((room / step).to_integral_value(rounding="ROUND_DOWN") * step, digits))
        if amount > 0 and amount + account.fees_for(amount) <= account.available:
            self.reference(account.withdraw(on, amount, **self.paid_with()))

    def withdraw_all(self, on: date) -> None:
        """Empty the account at its closing."""
        account = self.account
        account.post_interest(on)
        for charge in account.charges:
            if charge.charge_time_enum == savings.AT_CLOSURE and charge.is_active:
                account.pay_charge(on, charge)
        for charge in account.charges:
            if charge.charge_time_enum == savings.PER_WITHDRAWAL:
                charge.is_active, charge.inactivated_on_date = False, on
        if account.balance > 0:
            self.reference(account.withdraw(on, account.balance, **self.paid_with()))

    def mistake(self, *, contra: bool) -> Callable[[date], None]:
        """A deposit booked by mistake and taken back the same day."""

        def act(on: date) -> None:
            self.account.reverse(self.account.deposit(on, self.figure(50, 90)), on, contra=contra)

        return act

    def hold(self, days: int | None) -> Callable[[date], None]:
        """Block part of the balance, for some days or still."""

        def act(on: date) -> None:
            account = self.account
            amount = rounded(account.balance / 4, self.product.digits)
            if amount <= 0 or amount > account.balance - account.held:
                return
            row = account.hold(on, amount, canary("hold-reason", account.row.id))
            if days is not None and on + timedelta(days=days) <= self.until:
                self.releases.append((on + timedelta(days=days), row))

        return act

    releases: list[tuple[date, SavingsTransactionRow]] = field(default_factory=list)

    def release_due(self, on: date) -> None:
        """Release what is due for release."""
        for item in [one for one in self.releases if one[0] <= on]:
            self.releases.remove(item)
            self.account.release(on, item[1])

    def waive(self, charge: SavingsChargeRow) -> Callable[[date], None]:
        """Forgive a charge."""
        return lambda on: self.account.waive_charge(on, charge)

    def collect(self, charge: SavingsChargeRow) -> Callable[[date], None]:
        """Collect a charge that is due."""

        def act(on: date) -> None:
            if charge.is_active and (charge.charge_due_date is None or charge.charge_due_date <= on):
                self.account.pay_charge(on, charge)

        return act


def tell_savings(
    world: World, client: ClientRow, branch: Branch, product: SavingsProduct, plot: SavingsPlot, feature: str
) -> Savings:
    """An everyday or business account with its history up to today."""
    months = world.random.randint(*_MONTHS_OF_HISTORY)
    opened = add_months(world.today, -months) - world.days(0, 27)
    account = open_account(world, client, branch, product, opened)
    row = account.row
    if not_active(world, account, plot):
        return account
    activate(account, opened, world.user(2))
    until = world.today
    if plot == SavingsPlot.CLOSED:
        until = add_months(opened, max(3, months // 2))
    elif plot in (SavingsPlot.DORMANT, SavingsPlot.INACTIVE):
        until = add_months(opened, max(2, months // 3))
    teller = _Teller(world, account, product, plot, until)
    add_savings_charges(world, teller, feature, opened)
    teller.at(opened, teller.deposit(100, 600), order=1)
    _plan_months(teller, opened)
    _plan_features(teller, feature, opened)
    if plot == SavingsPlot.HOLD:
        teller.at(until - timedelta(days=20), teller.hold(None))
        teller.at(opened + timedelta(days=40), teller.hold(15))
    if plot == SavingsPlot.CLOSED:
        teller.at(until, teller.withdraw_all, order=9)
    teller.tell()
    _status(world, account, plot, until)
    finish(world, account)
    if world.random.random() < 0.1:
        world.note(500, until, savings_account_id=row.id)
    return account


def open_account(world: World, client: ClientRow, branch: Branch, product: SavingsProduct, opened: date) -> Savings:
    """A pending account (status 100)."""
    desk = world.desk()
    number = world.ids.new(SavingsRow.table)
    submitted = opened - timedelta(days=2)
    overdraft = 20 * CURRENCY[product.currency].unit if product.overdraft else None
    row = SavingsRow(
        id=number,
        account_no=f"{number:09d}",
        external_id=canary("savings", number),
        client_id=client.id,
        product_id=world.setup.savings_products[product.short],
        field_officer_id=world.officer(branch),
        status_enum=savings.PENDING,
        deposit_type_enum=product.deposit_type,
        currency_code=product.currency,
        currency_digits=product.digits,
        nominal_annual_interest_rate=product.rate,
        interest_compounding_period_enum=1,
        interest_posting_period_enum=4,
        interest_calculation_type_enum=1,
        interest_calculation_days_in_year_type_enum=365,
        submittedon_date=submitted,
        submittedon_userid=world.user(0),
        allow_overdraft=product.overdraft,
        overdraft_limit=overdraft,
        nominal_annual_interest_rate_overdraft=Decimal(18) if product.overdraft else ZERO,
        withhold_tax=product.tax,
        **stamps(desk, submitted),
    )
    return Savings(row, client.office_id, desk)


def not_active(world: World, account: Savings, plot: SavingsPlot) -> bool:
    """Leave an account that was never activated in its status; whether it is one."""
    row = account.row
    decided = row.submittedon_date + timedelta(days=1)
    if plot == SavingsPlot.PENDING:
        return True
    if plot == SavingsPlot.REJECTED:
        row.status_enum, row.rejectedon_date, row.closedon_date = savings.REJECTED, decided, decided
        row.rejectedon_userid = row.closedon_userid = world.user(2)
        return True
    if plot == SavingsPlot.WITHDRAWN:
        row.status_enum, row.withdrawnon_date, row.closedon_date = savings.WITHDRAWN, decided, decided
        row.withdrawnon_userid = row.closedon_userid = world.user(1)
        return True
    row.status_enum = savings.APPROVED
    row.approvedon_date, row.approvedon_userid = decided, world.user(2)
    return plot == SavingsPlot.APPROVED


def activate(account: Savings, on: date, by: int) -> None:
    """Active from that day."""
    account.row.status_enum = savings.ACTIVE
    account.row.activatedon_date, account.row.activatedon_userid = on, by
    account.counted_to = on


def add_savings_charges(world: World, teller: _Teller, feature: str, opened: date) -> None:
    """The charges a feature names, and the withdrawal fee that every third account has."""
    keys = [part for part in feature.split() if f"savings_{part}" in CHARGE]
    if world.random.random() < 0.3 and "withdrawal" not in keys:
        keys.append("withdrawal")
    if teller.plot == SavingsPlot.CLOSED:
        keys.append("closure")
    for key in keys:
        charge = add_savings_charge(world, teller.account, f"savings_{key}", opened)
        if charge.charge_time_enum == savings.AT_ACTIVATION:
            teller.at(opened, teller.collect(charge), order=2)
        elif charge.charge_time_enum in (savings.ANNUAL, savings.MONTHLY, savings.WEEKLY):
            _plan_recurring(teller, charge)
        elif charge.charge_time_enum == savings.ON_DUE_DATE and charge.charge_due_date:
            if "waived" in feature:
                teller.at(charge.charge_due_date, teller.waive(charge))
            elif "retired" in feature:
                charge.is_active, charge.inactivated_on_date = False, opened + timedelta(days=9)
            elif "unpaid" not in feature:
                teller.at(charge.charge_due_date, teller.collect(charge), order=6)
        elif charge.charge_time_enum == savings.NO_ACTIVITY:
            teller.at(opened + timedelta(days=75), teller.collect(charge), order=6)


def _plan_recurring(teller: _Teller, charge: SavingsChargeRow) -> None:
    day = charge.charge_due_date
    while day is not None and day <= teller.until:
        teller.at(day, teller.collect(charge), order=6)
        if charge.charge_time_enum == savings.WEEKLY:
            day += timedelta(weeks=4)
        else:
            day = add_months(day, 12 if charge.charge_time_enum == savings.ANNUAL else 1)


def add_savings_charge(world: World, account: Savings, key: str, opened: date) -> SavingsChargeRow:
    """Charge an account by the definition `key`."""
    definition, row = CHARGE[key], account.row
    amount = charge_amount(definition.amount, definition.calculation, row.currency_code)
    time = definition.time
    due: date | None = None
    if time == savings.ON_DUE_DATE:
        due = opened + timedelta(days=50)
    elif time in (savings.MONTHLY, savings.WEEKLY):
        due = opened + timedelta(days=35)
    elif time == savings.ANNUAL:
        due = add_months(opened, 12)
    charge = SavingsChargeRow(
        id=world.ids.new(SavingsChargeRow.table),
        savings_account_id=row.id,
        charge_id=world.setup.charges[key, row.currency_code],
        is_penalty=definition.penalty,
        charge_time_enum=time,
        charge_calculation_enum=definition.calculation,
        amount=amount,
        amount_outstanding_derived=ZERO if time in savings.STANDING else amount,
        charge_due_date=due,
        fee_on_month=due.month if due and time in (savings.ANNUAL, savings.MONTHLY) else None,
        fee_on_day=due.day if due and time in (savings.ANNUAL, savings.MONTHLY) else None,
        fee_interval={savings.MONTHLY: 1, savings.WEEKLY: 4}.get(time),
        **stamps(account.desk, opened),
    )
    account.charges.append(charge)
    return charge


def _plan_months(teller: _Teller, opened: date) -> None:
    random = teller.world.random
    busy = teller.product.overdraft
    month = 1
    while (day := add_months(opened, month)) <= teller.until:
        teller.at(day.replace(day=1), teller.account.post_interest, order=0)
        if random.random() < 0.85:
            teller.at(day - timedelta(days=random.randint(5, 26)), teller.deposit(30, 300))
        for _ in range(random.randint(0, 2) if busy else int(random.random() < 0.45)):
            teller.at(day - timedelta(days=random.randint(1, 22)), teller.withdraw)
        month += 1


def _plan_features(teller: _Teller, feature: str, opened: date) -> None:
    if "mistake" in feature:
        teller.at(opened + timedelta(days=33), teller.mistake(contra="contra" in feature))
    if "accrual" in feature:
        day = add_months(opened, 1)
        while day <= teller.until:
            teller.at(day, lambda on: _accrue(teller.account, on), order=7)
            day = add_months(day, 1)
    day = opened + timedelta(days=5)
    while teller.plot == SavingsPlot.HOLD and day <= teller.until:
        teller.at(day, teller.release_due, order=4)
        day += timedelta(days=10)


def _accrue(account: Savings, on: date) -> None:
    if interest := account.interest_since_posting():
        account.transact(savings.ACCRUAL, on, interest)


def _status(world: World, account: Savings, plot: SavingsPlot, until: date) -> None:
    row = account.row
    if plot == SavingsPlot.CLOSED:
        row.status_enum, row.closedon_date, row.closedon_userid = savings.CLOSED, until, world.user(0)
    elif plot == SavingsPlot.DORMANT:
        row.sub_status_enum = 200
    elif plot == SavingsPlot.INACTIVE:
        row.sub_status_enum = 100
    elif plot in BLOCKS:
        row.sub_status_enum = BLOCKS[plot]
        row.reason_for_block = canary("block-reason", row.id)
    elif plot in (SavingsPlot.TRANSFER, SavingsPlot.TRANSFER_ON_HOLD):
        account.transact(savings.INITIATE_TRANSFER, world.today - timedelta(days=1), account.balance)
        row.status_enum = savings.TRANSFER_IN_PROGRESS if plot == SavingsPlot.TRANSFER else savings.TRANSFER_ON_HOLD


def finish(world: World, account: Savings) -> None:
    """Derive the stored totals and stamp the account with its last booking."""
    account.derive()
    row = account.row
    posted = row.total_interest_posted_derived or ZERO
    unposted = account.interest_since_posting() if row.status_enum == savings.ACTIVE else ZERO
    row.total_interest_earned_derived = posted + unposted
    row.last_interest_calculation_date = row.interest_posted_till_date
    if account.transactions:
        newest = max(one.created_on_utc for one in account.transactions)
        row.last_modified_on_utc = max(row.last_modified_on_utc, newest)
        row.last_modified_by = world.user(4)
    row.version = len(account.transactions) + 1
