"""Reading accounts from the ledger and writing back exactly what changed."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import MISSING, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, text, update

from passbook.errors import Refused
from sample_institution.canaries import PREFIX
from sample_institution.load import is_mariadb
from sample_institution.loans import Loan
from sample_institution.money import ZERO
from sample_institution.rows import Audited, Row, column_names
from sample_institution.rows.clients import PaymentDetailRow
from sample_institution.rows.loans import (
    ArrearsRow,
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
from sample_institution.rows.savings import (
    DepositPlanRow,
    DepositTermRow,
    RecurringDetailRow,
    SavingsChargePaidByRow,
    SavingsChargeRow,
    SavingsRow,
    SavingsTransactionRow,
)
from sample_institution.savings import Savings
from sample_institution.tables import metadata, table

RowT = TypeVar("RowT", bound=Row)

_A_YEAR = timedelta(days=365)
_LOCK = "sample_institution.ids"


def business_date(connection: Connection) -> date:
    """The ledger's "today": its business date if that is switched on, else today in UTC."""
    settings, dates = table("c_configuration"), table("m_business_date")
    switched_on = select(settings.c.id).where(
        settings.c.name == "enable-business-date", settings.c.enabled.is_(True)
    )
    if connection.execute(switched_on).first() is not None:
        found = connection.execute(select(dates.c.date).where(dates.c.type == "BUSINESS_DATE")).scalar()
        if found is not None:
            return date.fromisoformat(str(found))
    return datetime.now(UTC).date()


class DatabaseIds:
    """New ids from the ledger's own generators."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._highest: dict[str, int] = {}

    def new(self, table: str) -> int:
        """The next free id of `table`."""
        if not is_mariadb(self._connection):
            statement = text("SELECT nextval(pg_get_serial_sequence(:name, 'id'))")
            return int(self._connection.execute(statement, {"name": table}).scalar_one())
        # AUTO_INCREMENT gives an id only to an inserted row, but rows here refer to each other beforehand. So
        # ids are counted on from the highest one, by one session at a time.
        if not self._highest:
            self._connection.execute(text("SELECT GET_LOCK(:lock, 30)"), {"lock": _LOCK})
        if table not in self._highest:
            column = metadata.tables[table].c.id
            self._highest[table] = self._connection.execute(select(func.coalesce(func.max(column), 0))).scalar_one()
        self._highest[table] += 1
        return self._highest[table]

    def release(self) -> None:
        """Let other sessions count; call after the transaction."""
        if self._highest:
            self._connection.execute(text("SELECT RELEASE_LOCK(:lock)"), {"lock": _LOCK})


class LiveDesk:
    """Books now. Stamps never lie before the business day, even if the machine's clock does."""

    def __init__(self, connection: Connection) -> None:
        self.ids = DatabaseIds(connection)
        self.today = business_date(connection)
        users = table("m_appuser")
        tellers = select(users.c.id).order_by(users.c.username.like(f"{PREFIX}user-teller").desc(), users.c.id)
        found = connection.execute(tellers.limit(1)).scalar()
        if found is None:
            raise Refused("The ledger has no user to book with.", remedy="Fill it first.")
        self.user = int(found)
        self._last = datetime.min.replace(tzinfo=UTC)
        noon = datetime(self.today.year, self.today.month, self.today.day, 12, tzinfo=UTC)
        behind = noon - datetime.now(UTC)
        # Whole years, so that stamps of later moves stay later.
        self._ahead = _A_YEAR * (behind // _A_YEAR + 1) if behind > timedelta() else timedelta()

    def instant(self, on: date) -> datetime:
        """Now; later calls give later instants, whatever the business date `on`."""
        self._last = max(datetime.now(UTC) + self._ahead, self._last + timedelta(microseconds=1))
        return self._last


class Store:
    """One session's view of some accounts: what was read, and what to write."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.desk = LiveDesk(connection)
        self._read: dict[tuple[type[Row], int], Row] = {}

    def fetch(self, kind: type[RowT], *where: ColumnElement[bool], lock: bool = False) -> list[RowT]:
        """Rows of a table as dataclasses, by id; NULL money counts as 0 where the class says so."""
        columns = table(kind.table).c
        statement = select(*(columns[name] for name in column_names(kind))).where(*where).order_by(columns.id)
        zeros = {one.name for one in fields(kind) if one.default is not MISSING and one.default == ZERO}
        rows = []
        for found in self.connection.execute(statement.with_for_update() if lock else statement).mappings():
            values = {name: _plain(name, value, zeros) for name, value in found.items()}
            row = kind(**values)
            self._read[kind, row.id] = copy(row)
            rows.append(row)
        return rows

    def one(self, kind: type[RowT], row_id: int) -> RowT:
        """The row of that id, locked for this session."""
        rows = self.fetch(kind, table(kind.table).c.id == row_id, lock=True)
        if not rows:
            raise Refused(f"There is no {kind.table} row {row_id}.")
        return rows[0]

    def loan(self, loan_id: int) -> Loan:
        """A loan with everything that belongs to it."""
        row = self.one(LoanRow, loan_id)
        clients = table("m_client").c
        office = self.connection.execute(select(clients.office_id).where(clients.id == row.client_id)).scalar_one()
        charges = self.fetch(LoanChargeRow, table("m_loan_charge").c.loan_id == loan_id)
        charge_ids = [charge.id for charge in charges]
        loan = Loan(
            row,
            office,
            self.desk,
            instalments=sorted(
                self.fetch(InstalmentRow, table("m_loan_repayment_schedule").c.loan_id == loan_id),
                key=lambda one: one.installment,
            ),
            transactions=self.fetch(LoanTransactionRow, table("m_loan_transaction").c.loan_id == loan_id),
            charges=charges,
            instalment_charges=self._of(InstalmentChargeRow, "loan_charge_id", charge_ids),
            paid_by=self._of(LoanChargePaidByRow, "loan_charge_id", charge_ids),
            overdue_links=self._of(OverdueLinkRow, "loan_charge_id", charge_ids),
            tranches=self.fetch(TrancheRow, table("m_loan_disbursement_detail").c.loan_id == loan_id),
            tranche_charges=self._of(TrancheChargeRow, "loan_charge_id", charge_ids),
        )
        ids = [one.id for one in loan.transactions]
        loan.relations = self._of(LoanRelationRow, "from_loan_transaction_id", ids)
        loan.index_claims()
        return loan

    def _of(self, kind: type[RowT], column: str, ids: Sequence[int]) -> list[RowT]:
        return self.fetch(kind, table(kind.table).c[column].in_(ids)) if ids else []

    def savings(self, savings_id: int) -> Savings:
        """A savings account with everything that belongs to it."""
        row = self.one(SavingsRow, savings_id)
        clients = table("m_client").c
        office = self.connection.execute(select(clients.office_id).where(clients.id == row.client_id)).scalar_one()
        charges = self._of(SavingsChargeRow, "savings_account_id", [savings_id])
        terms = self._of(DepositTermRow, "savings_account_id", [savings_id])
        details = self._of(RecurringDetailRow, "savings_account_id", [savings_id])
        return Savings(
            row,
            office,
            self.desk,
            transactions=self._of(SavingsTransactionRow, "savings_account_id", [savings_id]),
            charges=charges,
            paid_by=self._of(SavingsChargePaidByRow, "savings_account_charge_id", [one.id for one in charges]),
            payments=[],
            term=terms[0] if terms else None,
            recurring=details[0] if details else None,
            plan=self._of(DepositPlanRow, "savings_account_id", [savings_id]),
            balance=row.account_balance_derived,
            held=row.total_savings_amount_on_hold or ZERO,
        )

    def save(self, rows: Sequence[Row]) -> None:
        """Insert new rows, update changed columns, delete what was read and is not among `rows` any more.

        Changed rows get Fineract's last-modified stamp; m_loan and m_savings_account also count `version` up.
        """
        order = {one.name: place for place, one in enumerate(metadata.sorted_tables)}
        kept = {(type(row), row.id) for row in rows}
        gone = [key for key in self._read if key not in kept]
        for row in sorted(rows, key=lambda one: order[one.table]):
            before = self._read.get((type(row), row.id))
            if before is None:
                self.connection.execute(insert(table(row.table)).values(**_values(row)))
        for row in rows:
            before = self._read.get((type(row), row.id))
            if before is not None and before != row:
                self._update(row, before)
        for kind, row_id in sorted(gone, key=lambda key: -order[key[0].table]):
            self.connection.execute(delete(table(kind.table)).where(table(kind.table).c.id == row_id))
        self._read = {(type(row), row.id): copy(row) for row in rows}

    def _update(self, row: Row, before: Row) -> None:
        if isinstance(row, Audited):
            row.last_modified_on_utc = self.desk.instant(self.desk.today)
            row.last_modified_by = self.desk.user
        if isinstance(row, LoanRow | SavingsRow):
            row.version += 1
        old = _values(before)
        changed = {name: value for name, value in _values(row).items() if value != old[name]}
        one = table(row.table)
        self.connection.execute(update(one).where(one.c.id == row.id).values(**changed))

    def put_arrears(self, loan_id: int, row: ArrearsRow | None) -> None:
        """Rewrite a loan's m_loan_arrears_aging row, as Fineract does after each payment."""
        one = table(ArrearsRow.table)
        self.connection.execute(delete(one).where(one.c.loan_id == loan_id))
        if row is not None:
            values = {field.name: getattr(row, field.name) for field in fields(ArrearsRow)}
            self.connection.execute(insert(one).values(**values))

    def payment(self, receipt: str) -> PaymentDetailRow:
        """Cash with a receipt number."""
        kinds = table("m_payment_type").c
        number = self.desk.ids.new(PaymentDetailRow.table)
        row = PaymentDetailRow(
            id=number,
            payment_type_id=self.connection.execute(select(func.min(kinds.id))).scalar_one(),
            account_number=None,
            check_number=None,
            receipt_number=f"{receipt}{number:07d}",
            bank_number=None,
        )
        self.connection.execute(insert(table(row.table)).values(**_values(row)))
        return row


def _values(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in column_names(type(row))}


def _plain(name: str, value: Any, zeros: set[str]) -> Any:
    if value is None and name in zeros:
        return ZERO
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)  # MariaDB keeps UTC without a zone
    return value


__all__ = ["DatabaseIds", "LiveDesk", "Store", "business_date"]
