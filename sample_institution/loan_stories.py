"""What becomes of a loan: histories of good, late, lost, overpaid and refused borrowers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal

from sample_institution import loans
from sample_institution.calendars import WEEKS, step
from sample_institution.canaries import canary
from sample_institution.desk import stamps
from sample_institution.loan_opening import add_charge, apply, approve, pay_out
from sample_institution.loan_plots import ENDS_WELL, STOPS, Feature, Plot
from sample_institution.loan_replay import reverse
from sample_institution.loan_totals import arrears, derive, overpaid, settle_status
from sample_institution.loans import Loan
from sample_institution.money import ZERO, round_figure, rounded
from sample_institution.products import CURRENCY, Branch, LoanProduct
from sample_institution.rows.clients import ClientRow
from sample_institution.rows.loans import (
    ArrearsRow,
    InstalmentRow,
    LoanChargeRow,
    LoanRelationRow,
    LoanTransactionRow,
    OverdueLinkRow,
)
from sample_institution.world import World

_DUE_TODAY = 0.3  # of the loans that go on: as many have an instalment due today, for agents to collect


@dataclass(slots=True)
class _Teller:
    """Tells one loan: collects what happens as (day, order, action), then lets it happen in order."""

    world: World
    loan: Loan
    product: LoanProduct
    plot: Plot
    features: frozenset[Feature]
    events: list[tuple[date, int, Callable[[date], None]]] = field(default_factory=list)

    def at(self, day: date, action: Callable[[date], None], order: int = 5) -> None:
        """Let something happen, unless it lies in the future."""
        if day <= self.world.today:
            self.events.append((day, order, action))

    def tell(self) -> None:
        """Let everything happen."""
        self.events.sort(key=lambda event: event[:2])  # stable: as told within a day
        for day, _, action in self.events:
            if self.loan.row.loan_status_id == loans.ACTIVE:
                action(day)

    # -- amounts --------------------------------------------------------------------------------------------

    @property
    def outstanding(self) -> Decimal:
        """All that is still to pay."""
        return sum((one.total_due for one in self.loan.instalments if not one.completed_derived), ZERO)

    def due_until(self, number: int) -> Decimal:
        """What is to pay for the instalments up to that number."""
        open_ones = (one for one in self.loan.instalments[:number] if not one.completed_derived)
        return sum((one.total_due for one in open_ones), ZERO)

    # -- actions --------------------------------------------------------------------------------------------

    def receive(self, on: date, amount: Decimal, kind: int = loans.REPAYMENT) -> LoanTransactionRow:
        """Book a payment, mostly with a receipt."""
        columns: dict[str, object] = {}
        if self.world.random.random() < 0.7:
            payment = self.world.payment(receipt="R")
            self.loan.payments.append(payment)
            columns["payment_detail_id"] = payment.id
        transaction = self.loan.pay(on, amount, kind, **columns)
        if self.world.random.random() < 0.05:
            transaction.external_id = canary("loan-transaction", transaction.id)
            self.world.note(300, on, loan_id=self.loan.row.id, loan_transaction_id=transaction.id)
        return transaction

    def instalment_payment(self, number: int, share: Decimal = Decimal(1)) -> Callable[[date], None]:
        """Pay what is due up to an instalment, or a share of it in a round figure."""

        def act(on: date) -> None:
            due = self.due_until(number)
            if share != 1:
                due = min(due, rounded(round_figure(due * share, self.step), self.product.terms.digits))
            if due > 0:
                self.receive(on, due)

        return act

    @property
    def step(self) -> Decimal:
        """A tenth of the currency's unit, for round figures."""
        digits = self.product.terms.digits
        return max(rounded(CURRENCY[self.product.currency].unit / 10, digits), Decimal(1).scaleb(-digits))

    def penalty(self, number: int) -> Callable[[date], None]:
        """Charge an instalment that is still open some days after its due date."""

        def act(on: date) -> None:
            late = self.loan.instalments[number - 1]
            if late.completed_derived:
                return
            charge = add_charge(self.world, self.loan, "loan_overdue", on, on)
            self.loan.overdue_links.append(
                OverdueLinkRow(
                    id=self.world.ids.new(OverdueLinkRow.table),
                    loan_charge_id=charge.id,
                    loan_schedule_id=late.id,
                    frequency_number=1,
                )
            )

        return act

    def accrual(self, instalment: InstalmentRow) -> Callable[[date], None]:
        """Book an instalment as income."""
        return lambda on: self.loan.accrue(on, instalment)

    def tranche(self, number: int) -> Callable[[date], None]:
        """Pay a further tranche out."""
        return lambda on: pay_out(self.world, self.loan, self.product, on, number)

    def duplicate(self, on: date) -> None:
        """A payment booked twice by mistake and taken back the same day."""
        if (amount := self.step * 3) < self.outstanding:
            reverse(self.loan, self.receive(on, amount), on)

    def waive_interest(self, on: date) -> None:
        """Forgive the interest of the oldest open instalment."""
        for instalment in self.loan.instalments:
            if instalment.interest_due:
                self.loan.waive_interest(on, instalment.interest_due)
                return

    def goodwill(self, on: date) -> None:
        """A small credit for a complaint."""
        if self.step < self.outstanding:
            self.receive(on, self.step, loans.GOODWILL_CREDIT)

    def waive_penalty(self, on: date) -> None:
        """Forgive a penalty."""
        for charge in self.loan.charges:
            if charge.is_penalty and charge.amount_outstanding_derived:
                self.loan.settle_charge(on, charge, waive=True)
                return

    def settle_fee(self, charge: LoanChargeRow, *, waive: bool) -> Callable[[date], None]:
        """Pay or waive one fee by itself."""

        def act(on: date) -> None:
            self.loan.settle_charge(on, charge, waive=waive)

        return act

    def chargeback(self, on: date) -> None:
        """The bank takes a payment back: its amount is asked again with the next instalment."""
        paid = next((one for one in self.loan.transactions if one.transaction_type_enum == loans.REPAYMENT), None)
        following = next((one for one in self.loan.instalments if one.duedate > on), None)
        if paid is None or following is None:
            return
        amount = min(paid.amount, self.step * 5)
        row = self.loan.charge_back(on, amount, following)
        self.loan.relations.append(
            LoanRelationRow(
                id=self.world.ids.new(LoanRelationRow.table),
                from_loan_transaction_id=row.id,
                to_loan_transaction_id=paid.id,
                relation_type_enum=1,
                **stamps(self.loan.desk, on),
            )
        )

    def pay_everything(self, on: date, extra: Decimal = ZERO) -> None:
        """Pay the loan off."""
        if due := self.outstanding:
            self.receive(on, due + extra)

    def write_off(self, on: date) -> None:
        """Give the loan up."""
        self.loan.write_off(on, self.world.code("WriteOffReasons"))
        self.world.note(200, on, loan_id=self.loan.row.id)

    def close_rescheduled(self, on: date) -> None:
        """Closed, to be lent anew on other terms (status 602); what is owed stays on the account."""
        row = self.loan.row
        row.loan_status_id = loans.RESCHEDULED
        row.closedon_date = row.rescheduledon_date = on
        row.closedon_userid = row.rescheduledon_userid = self.world.user(3)


def tell_loan(
    world: World,
    client: ClientRow,
    branch: Branch,
    product: LoanProduct,
    plot: Plot,
    features: frozenset[Feature],
) -> tuple[Loan, ArrearsRow | None]:
    """A loan with its history up to today."""
    start = _start(world, product, plot)
    loan = apply(world, client, branch, product, start)
    row = loan.row
    submitted = row.submittedon_date
    if product.disbursement_fee and not product.tranches:
        key = "loan_processing" if world.random.random() < 0.5 else "loan_passbook"
        add_charge(world, loan, key, None, submitted)
    if product.instalment_fee:
        add_charge(world, loan, "loan_instalment", None, submitted)
    fees = _fees(world, loan, features)
    if plot in (Plot.PENDING, Plot.WITHDRAWN, Plot.REJECTED):
        _not_approved(world, loan, plot)
        return loan, None
    approve(world, loan, submitted + timedelta(days=2))
    if plot == Plot.APPROVED:
        return loan, None

    pay_out(world, loan, product, start)
    teller = _Teller(world, loan, product, plot, features)
    _plan_events(teller, fees)
    teller.tell()
    _finish(world, loan, plot)
    return loan, arrears(loan, world.today)


def _start(world: World, product: LoanProduct, plot: Plot) -> date:
    """The day of the pay-out, so that the loan is as old as its plot wants it."""
    terms, random = product.terms, world.random
    if plot in (Plot.PENDING, Plot.APPROVED):
        return world.today + world.days(2, 6) if plot == Plot.APPROVED else world.today + world.days(3, 5)
    most = terms.instalments
    if plot in ENDS_WELL:
        age = most + random.randint(1, 10)
    elif plot in (Plot.WRITTEN_OFF, Plot.RECOVERED, Plot.RESCHEDULED):
        age = most + random.randint(0, 4)
    elif plot == Plot.REPAID_EARLY:
        age = random.randint(most // 2 + 1, most - 1)
    else:
        age = random.randint(5, most - 2)
    slack = world.days(1, 5) if terms.frequency == WEEKS else world.days(1, 25)
    if plot in (Plot.GOOD, Plot.LATE) and random.random() < _DUE_TODAY:
        slack = timedelta(0)
    return step(world.today, terms.every, terms.frequency, -age) - slack


def _fees(world: World, loan: Loan, features: frozenset[Feature]) -> list[LoanChargeRow]:
    """Fees due on a date, agreed at the application."""
    middle = loan.instalments[len(loan.instalments) // 2].duedate
    third = loan.instalments[2].duedate
    on = loan.row.submittedon_date
    fees = []
    if "visit" in features:
        fees.append(add_charge(world, loan, "loan_visit", third - timedelta(days=2), on))
    if "insurance" in features:
        fees.append(add_charge(world, loan, "loan_insurance", middle, on))
    if "total fee" in features:
        fees.append(add_charge(world, loan, "loan_total_fee", middle, on))
    if "retired" in features:
        add_charge(world, loan, "loan_retired", middle, on, active=False)
    return fees


def _not_approved(world: World, loan: Loan, plot: Plot) -> None:
    row = loan.row
    decided = row.submittedon_date + timedelta(days=4)
    if plot == Plot.WITHDRAWN:
        row.loan_status_id, row.withdrawnon_date, row.closedon_date = loans.WITHDRAWN, decided, decided
        row.withdrawnon_userid = row.closedon_userid = world.user(1)
    elif plot == Plot.REJECTED:
        row.loan_status_id, row.rejectedon_date, row.closedon_date = loans.REJECTED, decided, decided
        row.rejectedon_userid = row.closedon_userid = world.user(2)
        world.note(200, decided, loan_id=row.id)


def _plan_events(teller: _Teller, fees: list[LoanChargeRow]) -> None:
    loan, product, world, plot = teller.loan, teller.product, teller.world, teller.plot
    weekly = product.terms.frequency == WEEKS
    agreed = list(loan.instalments)
    elapsed = sum(1 for one in agreed if one.duedate <= world.today)
    paying = max(1, min(elapsed, len(agreed)) - world.random.randint(2, 4)) if plot in STOPS else len(agreed)
    for instalment in agreed:
        number = instalment.installment
        if number <= paying:
            _plan_payment(teller, instalment, weekly)
        if product.accruals:
            teller.at(instalment.duedate, teller.accrual(instalment), order=1)
        teller.at(instalment.duedate + timedelta(days=2 if weekly else 4), teller.penalty(number), order=2)
    if product.tranches:
        for tranche, detail in enumerate(loan.tranches[1:], start=1):
            if tranche == 1 or plot in ENDS_WELL:
                day = detail.expected_disburse_date
                teller.at(day, teller.tranche(tranche), order=0)
    _plan_features(teller, fees, agreed)
    _plan_end(teller, agreed, paying)


def _plan_payment(teller: _Teller, instalment: InstalmentRow, weekly: bool) -> None:
    random, due, number = teller.world.random, instalment.duedate, instalment.installment
    if due == teller.world.today:
        return  # who comes today has not come yet
    pay = teller.instalment_payment(number)
    mood = random.random()
    reliable = 0.35 if teller.plot == Plot.LATE else 0.7
    if mood < reliable:
        teller.at(due, pay)
    elif mood < reliable + 0.1:
        teller.at(due - timedelta(days=random.randint(1, 3)), pay)
    elif mood < reliable + 0.2:
        teller.at(due - timedelta(days=1), teller.instalment_payment(number, Decimal("0.6")))
        teller.at(due + timedelta(days=random.randint(0, 3)), pay)
    else:
        teller.at(due + timedelta(days=random.randint(1, 5 if weekly else 18)), pay)


def _plan_features(teller: _Teller, fees: list[LoanChargeRow], agreed: list[InstalmentRow]) -> None:
    features = teller.features
    second, fourth = agreed[1].duedate, agreed[3].duedate
    if "reversed" in features:
        teller.at(second - timedelta(days=3), teller.duplicate)
    if "waive interest" in features:
        teller.at(fourth - timedelta(days=4), teller.waive_interest)
    if "goodwill" in features:
        teller.at(second + timedelta(days=2), teller.goodwill)
    if "waive penalty" in features:
        teller.at(fourth + timedelta(days=6), teller.waive_penalty)
    if "chargeback" in features:
        teller.at(second + timedelta(days=1), teller.chargeback, order=9)
    if fees and "waive fee" in features:
        teller.at(second - timedelta(days=1), teller.settle_fee(fees[0], waive=True))
    if fees and "pay fee" in features:
        teller.at(second, teller.settle_fee(fees[0], waive=False))


def _plan_end(teller: _Teller, agreed: list[InstalmentRow], paying: int) -> None:
    plot, last, world = teller.plot, agreed[-1].duedate, teller.world
    if plot in ENDS_WELL:
        extra = ZERO
        if plot != Plot.REPAID:
            extra = teller.step * world.random.randint(2, 30)
        if plot == Plot.REPAID:
            teller.at(last + timedelta(days=6), teller.pay_everything, order=8)
        else:
            # Nothing is left for the agreed payments: the whole rest comes too early, and too much.
            early = agreed[-2].duedate - timedelta(days=5)
            teller.at(early, lambda on: teller.pay_everything(on, extra), order=8)
    elif plot == Plot.REPAID_EARLY:
        teller.at(agreed[len(agreed) // 2].duedate - timedelta(days=3), teller.pay_everything)
    elif plot in (Plot.WRITTEN_OFF, Plot.RECOVERED):
        teller.at(min(agreed[paying - 1].duedate + timedelta(days=120), world.today), teller.write_off, order=8)
    elif plot == Plot.RESCHEDULED:
        day = min(agreed[paying - 1].duedate + timedelta(days=75), world.today)
        teller.at(day, teller.close_rescheduled, order=8)


def _finish(world: World, loan: Loan, plot: Plot) -> None:
    row = loan.row
    if plot == Plot.RECOVERED and row.writtenoffon_date:
        digits = row.currency_digits
        lost = next(one for one in loan.transactions if one.transaction_type_enum == loans.WRITE_OFF)
        day = min(row.writtenoffon_date + timedelta(days=20), world.today)
        loan.recover(day, max(rounded(lost.amount / 4, digits), Decimal(1).scaleb(-digits)))
    if plot == Plot.REFUNDED and (credit := overpaid(loan)):
        loan.refund_credit(loan.transactions[-1].transaction_date + timedelta(days=3), credit)
    if plot in (Plot.TRANSFER, Plot.TRANSFER_ON_HOLD):
        loan.transact(loans.INITIATE_TRANSFER, world.today - timedelta(days=1), ZERO)
    derive(loan)
    last = max((one.transaction_date for one in loan.transactions if not one.is_reversed), default=world.today)
    settle_status(loan, last)
    if plot in (Plot.TRANSFER, Plot.TRANSFER_ON_HOLD) and row.loan_status_id == loans.ACTIVE:
        loan.transactions[-1].amount = row.total_outstanding_derived
        row.loan_status_id = loans.TRANSFER_IN_PROGRESS if plot == Plot.TRANSFER else loans.TRANSFER_ON_HOLD
    late = arrears(loan, world.today)
    if late and (world.today - late.overdue_since_date_derived).days > 90:
        row.is_npa = True
    if row.loan_status_id == loans.ACTIVE:
        row.last_closed_business_date = world.today - timedelta(days=1)
    newest = max(one.created_on_utc for one in loan.transactions)
    row.last_modified_on_utc = max(row.last_modified_on_utc, newest)
    row.last_modified_by = world.user(4)
    row.version = len(loan.transactions) + 1
