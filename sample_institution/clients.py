"""Clients: persons and groups in every status, with their charges, documents, photos and accounts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random

from sample_institution.canaries import canary
from sample_institution.desk import stamps
from sample_institution.loan_plots import FEATURES, PLOTS, Plot
from sample_institution.loan_stories import tell_loan
from sample_institution.money import rounded
from sample_institution.names import GROUPS
from sample_institution.products import (
    CHARGE,
    CURRENCY,
    LOAN_PRODUCT,
    SAVINGS_PRODUCT,
    Branch,
)
from sample_institution.rows import Row
from sample_institution.rows.clients import (
    ClientChargePaidByRow,
    ClientChargeRow,
    ClientRow,
    ClientTransactionRow,
    IdentifierRow,
    ImageRow,
    PaymentDetailRow,
)
from sample_institution.rows.loans import ArrearsRow
from sample_institution.savings_plots import (
    FIXED_PLOTS,
    RECURRING_PLOTS,
    SAVINGS_FEATURES,
    SAVINGS_PLOTS,
    SavingsPlot,
)
from sample_institution.savings_stories import tell_savings
from sample_institution.setup import charge_amount
from sample_institution.term_deposits import tell_term_deposit
from sample_institution.world import Deck, World, branch_of

# m_client.status_enum
PENDING, ACTIVE, TRANSFER_IN_PROGRESS, TRANSFER_ON_HOLD = 100, 300, 303, 304
CLOSED, REJECTED, WITHDRAWN = 600, 700, 800
PERSON, ENTITY = 1, 2  # legal_form_enum
PAY, WAIVE = 1, 2  # m_client_transaction.transaction_type_enum

STATUSES = (
    *[ACTIVE] * 32,
    *[PENDING] * 2,
    *[CLOSED] * 2,
    REJECTED,
    WITHDRAWN,
    TRANSFER_IN_PROGRESS,
    TRANSFER_ON_HOLD,
)
"""One round of clients; the very first client of a fill is active and typical."""

TYPICAL_NAME = ("Asha", "Wanjiku")

CHARGE_PLOTS = ("", "", "", "paid", "waived", "partly paid", "outstanding", "inactive", "reversed")


@dataclass
class Told:
    """A client with everything that belongs to it."""

    client: ClientRow
    rows: list[Row] = field(default_factory=list)
    arrears: list[ArrearsRow] = field(default_factory=list)
    default_savings: int | None = None


@dataclass
class ClientStories:
    """Tells clients one after the other."""

    world: World
    shuffled: Random

    def __post_init__(self) -> None:
        deck = self.shuffled
        self.statuses = Deck(deck, STATUSES)
        self.loan_counts = Deck(deck, (0, 1, 1, 1, 1, 1, 2, 2, 2, 2))
        self.loan_plots = Deck(deck, PLOTS)
        self.loan_features = Deck(deck, FEATURES)
        self.savings_counts = Deck(deck, (1, 1, 1, 1, 1, 1, 1, 1, 2, 2))
        self.savings_plots = Deck(deck, SAVINGS_PLOTS)
        self.savings_features = Deck(deck, SAVINGS_FEATURES)
        self.charge_plots = Deck(deck, CHARGE_PLOTS)

    def tell(self, index: int) -> Told:
        """The client of that number (from 0)."""
        branch = branch_of(index)
        typical = index == 0
        status = ACTIVE if typical else self.statuses.draw()
        told = Told(self._client(branch, status, entity=not typical and self.world.random.random() < 0.08))
        if typical:
            self._name_typical(told.client)
        self._photo_and_papers(told, always=typical)
        self._charges(told, branch, typical=typical)
        self._accounts(told, branch, status, typical=typical)
        told.rows += self.world.rows
        self.world.rows = []
        return told

    def _accounts(self, told: Told, branch: Branch, status: int, *, typical: bool) -> None:
        if typical:
            self._loan(
                told, branch, branch.loans[0], Plot.GOOD, frozenset({"visit", "pay fee", "reversed", "insurance"})
            )
            self._loan(told, branch, branch.loans[-1], Plot.REPAID, frozenset())
            told.default_savings = self._savings(told, branch, SavingsPlot.ACTIVE, "activation annual monthly")
            self._savings(told, branch, SavingsPlot.FIXED, "")
        elif status == ACTIVE:
            for _ in range(self.loan_counts.draw()):
                product = self.world.random.choice(branch.loans)
                self._loan(told, branch, product, self.loan_plots.draw(), self.loan_features.draw())
            accounts = [
                self._savings(told, branch, self.savings_plots.draw(), self.savings_features.draw())
                for _ in range(self.savings_counts.draw())
            ]
            told.default_savings = accounts[0] if self.world.random.random() < 0.2 else None
        elif status == CLOSED:
            self._loan(told, branch, branch.loans[0], Plot.REPAID, frozenset())
            self._savings(told, branch, SavingsPlot.CLOSED, "")
        elif status in (TRANSFER_IN_PROGRESS, TRANSFER_ON_HOLD):
            on_hold = status == TRANSFER_ON_HOLD
            transfer = Plot.TRANSFER_ON_HOLD if on_hold else Plot.TRANSFER
            self._loan(told, branch, branch.loans[0], transfer, frozenset())
            plot = SavingsPlot.TRANSFER_ON_HOLD if on_hold else SavingsPlot.TRANSFER
            self._savings(told, branch, plot, "")

    def _loan(self, told: Told, branch: Branch, short: str, plot: Plot, features: frozenset[str]) -> None:
        product = LOAN_PRODUCT[short]
        loan, late = tell_loan(self.world, told.client, branch, product, plot, features)
        told.rows += loan.rows()
        if late:
            told.arrears.append(late)

    def _savings(self, told: Told, branch: Branch, plot: SavingsPlot, feature: str) -> int:
        client = told.client
        if plot in FIXED_PLOTS or plot in RECURRING_PLOTS:
            kind = "F" if plot in FIXED_PLOTS else "R"
            product = SAVINGS_PRODUCT[f"{kind}{branch.currency}"]
            account = tell_term_deposit(self.world, client, branch, product, plot)
        else:
            kind = "B" if plot == SavingsPlot.BUSINESS else "S"
            product = SAVINGS_PRODUCT[f"{kind}{branch.currency}"]
            account = tell_savings(self.world, client, branch, product, plot, feature)
        told.rows += account.rows()
        return account.row.id

    def _client(self, branch: Branch, status: int, *, entity: bool) -> ClientRow:
        world, random = self.world, self.world.random
        number = world.ids.new(ClientRow.table)
        submitted = world.today - world.days(1300, 3300)
        if status in (PENDING, REJECTED, WITHDRAWN):
            submitted = world.today - world.days(3, 60)
        gender = first = middle = last = fullname = None
        if entity:
            display = fullname = random.choice(GROUPS)
        else:
            script = random.choice(branch.scripts)
            gender, first, middle, last = script.pick(random)
            display = script.display(first, middle, last)
        row = ClientRow(
            id=number,
            account_no=f"{number:09d}",
            external_id=canary("client", number),
            status_enum=status,
            office_id=world.setup.offices[branch.name],
            staff_id=world.officer(branch),
            display_name=display,
            firstname=first,
            middlename=middle,
            lastname=last,
            fullname=fullname,
            mobile_no=f"{branch.phone}{number:07d}",
            email_address=f"client{number}@example.org" if random.random() < 0.5 else None,
            date_of_birth=None if entity else date(1950, 1, 1) + world.days(0, 20000),
            gender_cv_id=world.setup.codes["Gender"][0 if gender == "Female" else 1] if gender else None,
            legal_form_enum=ENTITY if entity else PERSON,
            submittedon_date=submitted,
            client_type_cv_id=world.code("ClientType"),
            client_classification_cv_id=world.code("ClientClassification"),
            sub_status=world.code("ClientSubStatus") if random.random() < 0.05 else None,
            **stamps(world.desk(), submitted),
        )
        self._life(row, branch)
        return row

    def _name_typical(self, row: ClientRow) -> None:
        """The customer of the demo has the name of her login."""
        row.firstname, row.middlename, row.lastname = TYPICAL_NAME[0], None, TYPICAL_NAME[1]
        row.display_name = " ".join(TYPICAL_NAME)
        row.gender_cv_id = self.world.setup.codes["Gender"][0]
        row.email_address = f"{TYPICAL_NAME[0].lower()}@example.org"

    def _life(self, row: ClientRow, branch: Branch) -> None:
        """The dates, users and reasons of the client's status."""
        world = self.world
        decided = row.submittedon_date + timedelta(days=2)
        if row.status_enum in (ACTIVE, CLOSED, TRANSFER_IN_PROGRESS, TRANSFER_ON_HOLD):
            row.activation_date = row.office_joining_date = decided
            row.activatedon_userid = world.user(2)
        if row.status_enum == CLOSED:
            row.closedon_date, row.closedon_userid = world.today - timedelta(days=5), world.user(3)
            row.closure_reason_cv_id = world.code("ClientClosureReason")
        elif row.status_enum == REJECTED:
            row.rejectedon_date, row.rejectedon_userid = decided, world.user(2)
            row.reject_reason_cv_id = world.code("ClientRejectReason")
        elif row.status_enum == WITHDRAWN:
            row.withdrawn_on_date, row.withdraw_on_userid = decided, world.user(1)
            row.withdraw_reason_cv_id = world.code("ClientWithdrawReason")
        elif row.status_enum in (TRANSFER_IN_PROGRESS, TRANSFER_ON_HOLD):
            others = [id_ for name, id_ in world.setup.offices.items() if name != branch.name]
            row.transfer_to_office_id = world.random.choice(others)
            row.proposed_transfer_date = world.today + timedelta(days=3)
        changed = row.closedon_date or row.rejectedon_date or row.withdrawn_on_date or row.activation_date
        if changed:
            row.last_modified_on_utc = world.desk().instant(changed)
            row.last_modified_by = world.user(2)

    def _photo_and_papers(self, told: Told, *, always: bool) -> None:
        world, client = self.world, told.client
        if always or world.random.random() < 0.3:
            number = world.ids.new(ImageRow.table)
            location = f"images/clients/{client.id}/{canary('photo', number)}.png"
            told.rows.append(ImageRow(id=number, location=location))
            client.image_id = number
        told.rows.append(client)
        if always or world.random.random() < 0.6:
            number = world.ids.new(IdentifierRow.table)
            told.rows.append(
                IdentifierRow(
                    id=number,
                    client_id=client.id,
                    document_type_id=world.code("Customer Identifier"),
                    document_key=canary("document", number),
                    description=canary("document-remark", number),
                    **stamps(world.desk(), client.submittedon_date),
                )
            )
        if always or world.random.random() < 0.2:
            world.note(100, client.submittedon_date, client_id=client.id)

    def _charges(self, told: Told, branch: Branch, *, typical: bool) -> None:
        if told.client.activation_date is None:
            return
        plots = ("paid", "outstanding", "waived") if typical else (self.charge_plots.draw(),)
        for plot in plots:
            if plot:
                told.rows += self._charge(told.client, branch, plot)

    def _charge(self, client: ClientRow, branch: Branch, plot: str) -> Iterable[Row]:
        world = self.world
        key = world.random.choice(("client_membership", "client_card", "client_meeting"))
        definition, currency = CHARGE[key], CURRENCY[branch.currency]
        amount = charge_amount(definition.amount, definition.calculation, currency.code)
        day = world.today - world.days(20, 700)
        charge = ClientChargeRow(
            id=world.ids.new(ClientChargeRow.table),
            client_id=client.id,
            charge_id=world.setup.charges[key, currency.code],
            is_penalty=definition.penalty,
            charge_due_date=day,
            amount=amount,
            amount_outstanding_derived=amount,
        )
        yield charge
        if plot == "inactive":
            charge.is_active, charge.inactivated_on_date = False, day + timedelta(days=3)
            return
        if plot == "outstanding":
            return
        settled = rounded(amount / 2, currency.digits) if plot == "partly paid" else amount
        waived = plot == "waived"
        payment = None if waived else world.payment(receipt="C")
        if isinstance(payment, PaymentDetailRow):
            yield payment
        number = world.ids.new(ClientTransactionRow.table)
        transaction = ClientTransactionRow(
            id=number,
            client_id=client.id,
            office_id=client.office_id,
            currency_code=currency.code,
            payment_detail_id=payment.id if payment else None,
            transaction_date=day + timedelta(days=4),
            submitted_on_date=day + timedelta(days=4),
            transaction_type_enum=WAIVE if waived else PAY,
            amount=settled,
            external_id=canary("client-transaction", number),
            **stamps(world.desk(), day + timedelta(days=4)),
        )
        yield transaction
        if plot == "reversed":
            transaction.is_reversed = True
            transaction.last_modified_on_utc += timedelta(hours=3)
            return
        yield ClientChargePaidByRow(
            id=world.ids.new(ClientChargePaidByRow.table),
            client_transaction_id=number,
            client_charge_id=charge.id,
            amount=settled,
        )
        if waived:
            charge.amount_waived_derived, charge.waived = settled, True
        else:
            charge.amount_paid_derived, charge.is_paid_derived = settled, settled == amount
        charge.amount_outstanding_derived = amount - settled
