"""One loan account as a state machine: book what happens in order, derive the stored columns once.

The rules are Fineract's "penalties, fees, interest, principal" order (mifos-standard-strategy), oldest
instalment first. Schedule columns, charges and transaction portions change with every booking; totals and
running balances are derived by `loan_totals.derive`; undoing is in `loan_replay`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from sample_institution.desk import Desk
from sample_institution.money import ZERO
from sample_institution.rows import Row
from sample_institution.rows.clients import PaymentDetailRow
from sample_institution.rows.loans import (
    InstalmentChargeRow,
    InstalmentRow,
    LoanChargePaidByRow,
    LoanChargeRow,
    LoanRelationRow,
    LoanRow,
    LoanTransactionRow,
    OverdueLinkRow,
    TrancheChargeRow,
    TrancheRow,
)

# m_loan.loan_status_id
PENDING, APPROVED, ACTIVE, TRANSFER_IN_PROGRESS, TRANSFER_ON_HOLD = 100, 200, 300, 303, 304
WITHDRAWN, REJECTED, REPAID, WRITTEN_OFF, RESCHEDULED, OVERPAID = 400, 500, 600, 601, 602, 700

# m_loan_transaction.transaction_type_enum
DISBURSEMENT, REPAYMENT, WAIVE_INTEREST, REPAYMENT_AT_DISBURSEMENT, WRITE_OFF = 1, 2, 4, 5, 6
RECOVERY, WAIVE_CHARGES, ACCRUAL, INITIATE_TRANSFER, CHARGE_PAYMENT = 8, 9, 10, 12, 17
CREDIT_BALANCE_REFUND, GOODWILL_CREDIT, CHARGEBACK = 20, 23, 25

ALLOCATED = frozenset({REPAYMENT, 21, 22, GOODWILL_CREDIT, 28, 31, 33})  # paid into the schedule in order

# m_loan_charge.charge_time_enum
AT_DISBURSEMENT, ON_DUE_DATE, PER_INSTALMENT, OVERDUE, AT_TRANCHE = 1, 2, 8, 9, 12
DUE_AT_DISBURSEMENT = frozenset({AT_DISBURSEMENT, AT_TRANCHE})


@dataclass(slots=True)
class Claim:
    """What a charge asks of one instalment; instalment fees have a row of their own per instalment."""

    charge: LoanChargeRow
    part: InstalmentChargeRow | None

    @property
    def due(self) -> Decimal:
        """Still to pay."""
        return (self.part or self.charge).amount_outstanding_derived

    def settle(self, amount: Decimal, how: str) -> None:
        """Book `amount` as `paid`, `waived` or `writtenoff`."""
        for row in (self.charge, self.part):
            if row is None:
                continue
            column = f"amount_{how}_derived"
            setattr(row, column, getattr(row, column) + amount)
            row.amount_outstanding_derived -= amount
            if not row.amount_outstanding_derived:
                row.is_paid_derived = how == "paid"
                row.waived = how == "waived"


@dataclass
class Loan:
    """A loan with everything that belongs to it."""

    row: LoanRow
    office_id: int
    desk: Desk
    instalments: list[InstalmentRow] = field(default_factory=list)
    transactions: list[LoanTransactionRow] = field(default_factory=list)
    charges: list[LoanChargeRow] = field(default_factory=list)
    instalment_charges: list[InstalmentChargeRow] = field(default_factory=list)
    paid_by: list[LoanChargePaidByRow] = field(default_factory=list)
    overdue_links: list[OverdueLinkRow] = field(default_factory=list)
    payments: list[PaymentDetailRow] = field(default_factory=list)
    tranches: list[TrancheRow] = field(default_factory=list)
    tranche_charges: list[TrancheChargeRow] = field(default_factory=list)
    relations: list[LoanRelationRow] = field(default_factory=list)
    claims: dict[int, list[Claim]] = field(default_factory=dict)  # by instalment number

    def rows(self) -> Iterable[Row]:
        """All rows, parents before children."""
        yield self.row
        for group in (
            self.payments,
            self.instalments,
            self.tranches,
            self.transactions,
            self.charges,
            self.instalment_charges,
            self.paid_by,
            self.overdue_links,
            self.tranche_charges,
            self.relations,
        ):
            yield from group

    # -- claims ---------------------------------------------------------------------------------------------

    def index_claims(self) -> None:
        """Rebuild `claims` from the charge rows."""
        by_id = {instalment.id: instalment.installment for instalment in self.instalments}
        charges = {charge.id: charge for charge in self.charges}
        self.claims = {}
        for part in self.instalment_charges:
            charge = charges[part.loan_charge_id]
            if charge.is_active:
                self._claim(by_id[part.loan_schedule_id], Claim(charge, part))
        for charge in self.charges:
            if charge.is_active and charge.charge_time_enum not in DUE_AT_DISBURSEMENT | {PER_INSTALMENT}:
                self._claim(
                    self.instalment_on(charge.due_for_collection_as_of_date).installment, Claim(charge, None)
                )

    def _claim(self, number: int, claim: Claim) -> None:
        self.claims.setdefault(number, []).append(claim)

    def instalment_on(self, due: date | None) -> InstalmentRow:
        """The instalment whose period (from, due] holds a date; the last one outside the schedule."""
        if due is not None:
            for instalment in self.instalments:
                if due <= instalment.duedate:
                    return instalment
        return self.instalments[-1]

    def add_claim(self, charge: LoanChargeRow, instalment: InstalmentRow, part: InstalmentChargeRow | None) -> None:
        """Charge an instalment: its amount grows, and it is open again."""
        amount = (part or charge).amount
        if charge.is_penalty:
            instalment.penalty_charges_amount += amount
        else:
            instalment.fee_charges_amount += amount
        if amount:
            instalment.completed_derived = False
            instalment.obligations_met_on_date = None
        self._claim(instalment.installment, Claim(charge, part))

    # -- bookings -------------------------------------------------------------------------------------------

    def transact(self, kind: int, on: date, amount: Decimal, **columns: object) -> LoanTransactionRow:
        """Append a transaction row without any consequence."""
        now = self.desk.instant(on)
        row = LoanTransactionRow(
            id=self.desk.ids.new(LoanTransactionRow.table),
            loan_id=self.row.id,
            office_id=self.office_id,
            transaction_type_enum=kind,
            transaction_date=on,
            submitted_on_date=on,
            amount=amount,
            created_by=self.desk.user,
            created_on_utc=now,
            last_modified_by=self.desk.user,
            last_modified_on_utc=now,
            **columns,  # type: ignore[arg-type]
        )
        self.transactions.append(row)
        return row

    def disburse(self, on: date, amount: Decimal) -> LoanTransactionRow:
        """Pay out `amount`; fees due at disbursement are taken from it (type 5)."""
        row = self.row
        first = row.disbursedon_date is None
        row.loan_status_id = ACTIVE
        row.disbursedon_date = row.disbursedon_date or on
        row.disbursedon_userid = row.disbursedon_userid or self.desk.user
        transaction = self.transact(DISBURSEMENT, on, amount)
        for charge in self.charges:
            at_pay_out = charge.charge_time_enum == AT_DISBURSEMENT and first
            at_tranche = charge.charge_time_enum == AT_TRANCHE and charge.due_for_collection_as_of_date == on
            if charge.is_active and charge.amount_outstanding_derived and (at_pay_out or at_tranche):
                due = charge.amount_outstanding_derived
                fee = self.transact(REPAYMENT_AT_DISBURSEMENT, on, due, fee_charges_portion_derived=due)
                self.settle(Claim(charge, None), due, "paid", fee, None)
        for instalment in self.instalments:
            if not instalment.completed_derived and not instalment.total_due:
                instalment.completed_derived = True  # nothing falls due in it (graces)
                instalment.obligations_met_on_date = on
        return transaction

    def pay(self, on: date, amount: Decimal, kind: int = REPAYMENT, **columns: object) -> LoanTransactionRow:
        """Book money into the schedule; what exceeds the debt is overpayment."""
        transaction = self.transact(kind, on, amount, **columns)
        self.allocate(transaction)
        return transaction

    def allocate(self, transaction: LoanTransactionRow) -> None:
        left = transaction.amount
        on = transaction.transaction_date
        principal = interest = fees = penalties = ZERO
        for instalment in self.instalments:
            if not left:
                break
            if instalment.completed_derived:
                continue
            before = left
            if part := min(left, instalment.penalties_due):
                instalment.penalty_charges_completed_derived += part
                self.settle_claims(instalment, True, part, "paid", transaction)
                penalties += part
                left -= part
            if part := min(left, instalment.fees_due):
                instalment.fee_charges_completed_derived += part
                self.settle_claims(instalment, False, part, "paid", transaction)
                fees += part
                left -= part
            if part := min(left, instalment.interest_due):
                instalment.interest_completed_derived += part
                interest += part
                left -= part
            if part := min(left, instalment.principal_due):
                instalment.principal_completed_derived += part
                principal += part
                left -= part
            self._note_timing(instalment, before - left, on)
        transaction.principal_portion_derived = principal
        transaction.interest_portion_derived = interest
        transaction.fee_charges_portion_derived = fees
        transaction.penalty_charges_portion_derived = penalties
        transaction.overpayment_portion_derived = left

    def _note_timing(self, instalment: InstalmentRow, paid: Decimal, on: date) -> None:
        if on < instalment.duedate:
            instalment.total_paid_in_advance_derived += paid
        elif on > instalment.duedate:
            instalment.total_paid_late_derived += paid
        self._complete(instalment, on)

    @staticmethod
    def _complete(instalment: InstalmentRow, on: date) -> None:
        if not instalment.total_due:
            instalment.completed_derived = True
            instalment.obligations_met_on_date = on

    def settle_claims(
        self, instalment: InstalmentRow, penalty: bool, amount: Decimal, how: str, by: LoanTransactionRow
    ) -> None:
        for claim in self.claims.get(instalment.installment, ()):
            if claim.charge.is_penalty == penalty and amount and (part := min(amount, claim.due)):
                self.settle(claim, part, how, by, instalment.installment if claim.part else None)
                amount -= part

    def settle(self, claim: Claim, amount: Decimal, how: str, by: LoanTransactionRow, number: int | None) -> None:
        claim.settle(amount, how)
        if how == "writtenoff":
            return
        self.paid_by.append(
            LoanChargePaidByRow(
                id=self.desk.ids.new(LoanChargePaidByRow.table),
                loan_transaction_id=by.id,
                loan_charge_id=claim.charge.id,
                amount=amount,
                installment_number=number,
            )
        )

    def settle_charge(
        self,
        on: date,
        charge: LoanChargeRow,
        number: int | None = None,
        *,
        waive: bool = False,
        **columns: object,
    ) -> LoanTransactionRow | None:
        """Pay (type 17) or waive (type 9) what a charge still asks, of one instalment if it is given."""
        for instalment, claim in self.claims_of(charge):
            if number in (None, instalment.installment) and claim.due:
                kind = WAIVE_CHARGES if waive else CHARGE_PAYMENT
                transaction = self.transact(kind, on, claim.due, **columns)
                self.book_charge(transaction, instalment, claim)
                return transaction
        return None

    def claims_of(self, charge: LoanChargeRow) -> Iterable[tuple[InstalmentRow, Claim]]:
        for instalment in self.instalments:
            for claim in self.claims.get(instalment.installment, ()):
                if claim.charge is charge:
                    yield instalment, claim

    def book_charge(self, transaction: LoanTransactionRow, instalment: InstalmentRow, claim: Claim) -> None:
        amount, waive = transaction.amount, transaction.transaction_type_enum == WAIVE_CHARGES
        name = "penalty_charges" if claim.charge.is_penalty else "fee_charges"
        column = f"{name}_{'waived' if waive else 'completed'}_derived"
        setattr(instalment, column, getattr(instalment, column) + amount)
        setattr(transaction, f"{name}_portion_derived", amount)
        how = "waived" if waive else "paid"
        self.settle(claim, amount, how, transaction, instalment.installment if claim.part else None)
        if waive:
            self._complete(instalment, transaction.transaction_date)
        else:
            self._note_timing(instalment, amount, transaction.transaction_date)

    def waive_interest(self, on: date, amount: Decimal) -> LoanTransactionRow:
        """Forgive interest of the oldest open instalments, at most what is due."""
        transaction = self.transact(WAIVE_INTEREST, on, amount)
        self.apply_interest_waiver(transaction)
        return transaction

    def apply_interest_waiver(self, transaction: LoanTransactionRow) -> None:
        left = transaction.amount
        for instalment in self.instalments:
            if left and not instalment.completed_derived and (part := min(left, instalment.interest_due)):
                instalment.interest_waived_derived += part
                left -= part
                self._complete(instalment, transaction.transaction_date)
        transaction.amount -= left
        transaction.interest_portion_derived = transaction.amount

    def write_off(self, on: date, reason: int | None) -> LoanTransactionRow:
        """Give up all that is still due (type 6)."""
        transaction = self.transact(WRITE_OFF, on, ZERO)
        self.apply_write_off(transaction)
        row = self.row
        row.loan_status_id = WRITTEN_OFF
        row.writtenoffon_date = row.closedon_date = on
        row.closedon_userid = self.desk.user
        row.writeoff_reason_cv_id = reason
        return transaction

    def apply_write_off(self, transaction: LoanTransactionRow) -> None:
        principal = interest = fees = penalties = ZERO
        for instalment in self.instalments:
            if instalment.completed_derived:
                continue
            principal += (part := instalment.principal_due)
            instalment.principal_writtenoff_derived += part
            interest += (part := instalment.interest_due)
            instalment.interest_writtenoff_derived += part
            fees += (part := instalment.fees_due)
            instalment.fee_charges_writtenoff_derived += part
            self.settle_claims(instalment, False, part, "writtenoff", transaction)
            penalties += (part := instalment.penalties_due)
            instalment.penalty_charges_writtenoff_derived += part
            self.settle_claims(instalment, True, part, "writtenoff", transaction)
            self._complete(instalment, transaction.transaction_date)
        transaction.amount = principal + interest + fees + penalties
        transaction.principal_portion_derived = principal
        transaction.interest_portion_derived = interest
        transaction.fee_charges_portion_derived = fees
        transaction.penalty_charges_portion_derived = penalties

    def recover(self, on: date, amount: Decimal, **columns: object) -> LoanTransactionRow:
        """Money received after the write-off (type 8); it changes no instalment."""
        self.row.total_recovered_derived = (self.row.total_recovered_derived or ZERO) + amount
        return self.transact(RECOVERY, on, amount, **columns)

    def refund_credit(self, on: date, amount: Decimal) -> LoanTransactionRow:
        """Pay the credit balance of an overpaid loan back (type 20)."""
        return self.transact(CREDIT_BALANCE_REFUND, on, amount, overpayment_portion_derived=amount)

    def charge_back(self, on: date, amount: Decimal, instalment: InstalmentRow) -> LoanTransactionRow:
        """A payment taken back by the bank (type 25): the instalment asks for its amount again."""
        instalment.principal_amount += amount
        instalment.credits_amount = (instalment.credits_amount or ZERO) + amount
        instalment.completed_derived = False
        instalment.obligations_met_on_date = None
        return self.transact(CHARGEBACK, on, amount, principal_portion_derived=amount)

    def accrue(self, on: date, instalment: InstalmentRow) -> None:
        """Book an instalment's interest, fees and penalties as income on its due date (type 10)."""
        interest = instalment.interest_amount - (instalment.accrual_interest_derived or ZERO)
        fees = instalment.fee_charges_amount - (instalment.accrual_fee_charges_derived or ZERO)
        penalties = instalment.penalty_charges_amount - (instalment.accrual_penalty_charges_derived or ZERO)
        if total := interest + fees + penalties:
            instalment.accrual_interest_derived = instalment.interest_amount
            instalment.accrual_fee_charges_derived = instalment.fee_charges_amount
            instalment.accrual_penalty_charges_derived = instalment.penalty_charges_amount
            self.transact(
                ACCRUAL,
                on,
                total,
                interest_portion_derived=interest,
                fee_charges_portion_derived=fees,
                penalty_charges_portion_derived=penalties,
            )
        self.row.accrued_till = on
