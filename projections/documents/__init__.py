"""The document models: all that a device can ever receive."""

from __future__ import annotations

from projections.documents.base import SCHEMA, Currency, Document, Payment
from projections.documents.clients import Client, ClientCharges, ClientImage, ClientTransactions
from projections.documents.loans import Loan, LoanCharges, LoanSchedule, LoanTransactions
from projections.documents.manifest import MANIFEST_SCHEMA, BusinessDate, ClientInScope, Institution, Passbook
from projections.documents.savings import Savings, SavingsCharges, SavingsTransactions

#: Every document type, in the order of the reference page.
TYPES: tuple[type[Document], ...] = (
    Passbook,
    Client,
    ClientImage,
    ClientCharges,
    ClientTransactions,
    Loan,
    LoanSchedule,
    LoanCharges,
    LoanTransactions,
    Savings,
    SavingsCharges,
    SavingsTransactions,
)

__all__ = [
    "MANIFEST_SCHEMA",
    "SCHEMA",
    "TYPES",
    "BusinessDate",
    "Client",
    "ClientCharges",
    "ClientImage",
    "ClientInScope",
    "ClientTransactions",
    "Currency",
    "Document",
    "Institution",
    "Loan",
    "LoanCharges",
    "LoanSchedule",
    "LoanTransactions",
    "Passbook",
    "Payment",
    "Savings",
    "SavingsCharges",
    "SavingsTransactions",
]
