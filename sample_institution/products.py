"""What the institution offers: branches, currencies, loan and savings products, charges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from sample_institution import names
from sample_institution.calendars import MONTHS, WEEKS
from sample_institution.schedules import (
    DECLINING,
    EQUAL_INSTALMENTS,
    EQUAL_PRINCIPAL,
    FLAT,
    Terms,
)

LOAN, SAVINGS, CLIENT = 1, 2, 3  # m_charge.charge_applies_to_enum
FLAT_AMOUNT, PERCENT = 1, 2  # charge_calculation_enum
PERCENT_OF_AMOUNT_AND_INTEREST = 3


@dataclass(frozen=True, slots=True)
class Currency:
    """A currency; `unit` is a small round amount that fees are multiples of."""

    code: str
    digits: int
    name: str
    symbol: str
    unit: Decimal


@dataclass(frozen=True, slots=True)
class Branch:
    """An office, the scripts of its clients and what it lends and saves in."""

    name: str
    currency: str
    phone: str
    scripts: tuple[names.Names, ...]
    loans: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoanProduct:
    """A loan product; principals lie between `least` and `most` units of the currency."""

    short: str
    name: str
    currency: str
    terms: Terms
    least: int
    most: int
    accruals: bool = False
    tranches: bool = False
    instalment_fee: bool = False
    disbursement_fee: bool = True


@dataclass(frozen=True, slots=True)
class SavingsProduct:
    """A savings product of one deposit type; rates are per cent per year."""

    short: str
    name: str
    currency: str
    digits: int
    deposit_type: int
    rate: Decimal
    overdraft: bool = False
    tax: bool = False


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge definition; `amount` is in units of the currency, or per cent."""

    key: str
    name: str
    applies_to: int
    time: int
    calculation: int
    amount: Decimal
    penalty: bool = False
    active: bool = True


CURRENCIES = (
    Currency("KES", 2, "Kenyan Shilling", "KSh", Decimal(100)),
    Currency("UGX", 0, "Uganda Shilling", "USh", Decimal(3000)),
    Currency("XOF", 0, "CFA Franc BCEAO", "CFA", Decimal(500)),
    Currency("TND", 3, "Tunisian Dinar", "DT", Decimal("2.5")),
    Currency("ETB", 2, "Ethiopian Birr", "Br", Decimal(50)),
    Currency("INR", 2, "Indian Rupee", "₹", Decimal(80)),
    Currency("USD", 2, "US Dollar", "$", Decimal(1)),
    Currency("KWD", 3, "Kuwaiti Dinar", "KD", Decimal("0.25")),
)
CURRENCY = {currency.code: currency for currency in CURRENCIES}

_MONTHLY = Terms(Decimal(24), DECLINING, EQUAL_INSTALMENTS, 12, 1, MONTHS, 2)
_WEEKLY = Terms(Decimal(20), FLAT, EQUAL_INSTALMENTS, 24, 1, WEEKS, 0)

LOAN_PRODUCTS = (
    LoanProduct("BIAS", "Biashara business loan", "KES", _MONTHLY, 200, 3000),
    LoanProduct("SOKO", "Soko market loan", "KES", replace(_WEEKLY, digits=2), 50, 400, instalment_fee=True),
    LoanProduct(
        "KILI",
        "Kilimo season loan",
        "UGX",
        replace(_MONTHLY, annual_rate=Decimal(30), method=FLAT, digits=0, principal_grace=3),
        100,
        1500,
        accruals=True,
    ),
    LoanProduct("MARC", "Crédit marché", "XOF", _WEEKLY, 100, 900, instalment_fee=True),
    LoanProduct(
        "ARTI",
        "Prêt artisan",
        "TND",
        replace(_MONTHLY, annual_rate=Decimal("17.5"), instalments=18, digits=3),
        150,
        2500,
        accruals=True,
    ),
    LoanProduct(
        "SENT",
        "የመኖሪያ ቤት ብድር",
        "ETB",
        replace(_MONTHLY, amortization=EQUAL_PRINCIPAL, instalments=24, interest_grace=2),
        200,
        4000,
    ),
    LoanProduct(
        "GHAR",
        "घर सुधार ऋण",
        "INR",
        replace(_MONTHLY, annual_rate=Decimal("21.25"), instalments=20),
        300,
        4000,
        tranches=True,
    ),
    LoanProduct(
        "EDUC",
        "Education loan",
        "USD",
        replace(_MONTHLY, annual_rate=Decimal(15), method=FLAT, amortization=EQUAL_PRINCIPAL, interest_free=1),
        150,
        2500,
        disbursement_fee=False,
    ),
    LoanProduct(
        "SALA",
        "Salary advance",
        "KWD",
        replace(_MONTHLY, annual_rate=Decimal("9.75"), instalments=12, digits=3),
        200,
        4000,
    ),
)
LOAN_PRODUCT = {product.short: product for product in LOAN_PRODUCTS}

BRANCHES = (
    Branch("Nairobi Kawangware", "KES", "+2547", (names.EAST_AFRICAN,), ("BIAS", "SOKO")),
    Branch("Kampala Nakasero", "UGX", "+2567", (names.GANDA, names.EAST_AFRICAN), ("KILI",)),
    Branch("Dakar Médina", "XOF", "+22177", (names.WEST_AFRICAN,), ("MARC",)),
    Branch("تونس المدينة", "TND", "+2169", (names.ARABIC, names.WEST_AFRICAN), ("ARTI",)),
    Branch("አዲስ አበባ መርካቶ", "ETB", "+2519", (names.AMHARIC,), ("SENT",)),
    Branch("Kolkata Howrah", "INR", "+9198", (names.DEVANAGARI, names.BENGALI), ("GHAR",)),
    Branch(
        "Bishkek Osh Bazaar",
        "USD",
        "+99670",
        (names.CYRILLIC, names.CHINESE, names.LATIN_AMERICAN),
        ("EDUC",),
    ),
    Branch("الكويت حولي", "KWD", "+9656", (names.ARABIC, names.BENGALI), ("SALA",)),
)


def _savings_products() -> tuple[SavingsProduct, ...]:
    products = []
    for number, currency in enumerate(CURRENCIES):
        code, digits = currency.code, currency.digits
        products += [
            SavingsProduct(f"S{code}", f"Everyday savings {code}", code, digits, 100, Decimal("4.5")),
            SavingsProduct(
                f"B{code}",
                f"Business account {code}",
                code,
                digits,
                100,
                Decimal("1.25"),
                overdraft=True,
                tax=number % 2 == 0,
            ),
            SavingsProduct(f"F{code}", f"Fixed deposit {code}", code, digits, 200, Decimal(8), tax=True),
            SavingsProduct(f"R{code}", f"Harambee recurring deposit {code}", code, digits, 300, Decimal(6)),
        ]
    return tuple(products)


SAVINGS_PRODUCTS = _savings_products()
SAVINGS_PRODUCT = {product.short: product for product in SAVINGS_PRODUCTS}

# Every kind of charge, once per currency.
CHARGES = (
    Charge("loan_processing", "Processing fee", LOAN, 1, PERCENT, Decimal(1)),
    Charge("loan_passbook", "Passbook fee", LOAN, 1, FLAT_AMOUNT, Decimal(1)),
    Charge("loan_visit", "Field visit fee", LOAN, 2, FLAT_AMOUNT, Decimal(2)),
    Charge("loan_insurance", "Credit life insurance", LOAN, 2, PERCENT, Decimal("0.75")),
    Charge("loan_total_fee", "Restructuring fee", LOAN, 2, PERCENT_OF_AMOUNT_AND_INTEREST, Decimal("0.5")),
    Charge("loan_instalment", "Collection fee", LOAN, 8, FLAT_AMOUNT, Decimal("0.2")),
    Charge("loan_overdue", "Late payment penalty", LOAN, 9, FLAT_AMOUNT, Decimal("0.5"), penalty=True),
    Charge("loan_tranche", "Tranche fee", LOAN, 12, FLAT_AMOUNT, Decimal(1)),
    Charge("loan_retired", "Stamp duty (retired)", LOAN, 2, FLAT_AMOUNT, Decimal(1), active=False),
    Charge("savings_due", "Statement fee", SAVINGS, 2, FLAT_AMOUNT, Decimal("0.5")),
    Charge("savings_activation", "Account opening fee", SAVINGS, 3, FLAT_AMOUNT, Decimal(1)),
    Charge("savings_closure", "Account closing fee", SAVINGS, 4, FLAT_AMOUNT, Decimal(1)),
    Charge("savings_withdrawal", "Withdrawal fee", SAVINGS, 5, FLAT_AMOUNT, Decimal("0.1")),
    Charge("savings_annual", "Annual fee", SAVINGS, 6, FLAT_AMOUNT, Decimal(2)),
    Charge("savings_monthly", "Monthly ledger fee", SAVINGS, 7, FLAT_AMOUNT, Decimal("0.2")),
    Charge("savings_weekly", "Weekly collection fee", SAVINGS, 11, FLAT_AMOUNT, Decimal("0.1")),
    Charge("savings_no_activity", "No activity fee", SAVINGS, 16, FLAT_AMOUNT, Decimal("0.4")),
    Charge("savings_bounced", "Bounced cheque penalty", SAVINGS, 2, FLAT_AMOUNT, Decimal(1), penalty=True),
    Charge("client_membership", "Membership fee", CLIENT, 2, FLAT_AMOUNT, Decimal(2)),
    Charge("client_card", "Card replacement", CLIENT, 2, FLAT_AMOUNT, Decimal(3)),
    Charge("client_meeting", "Missed meeting penalty", CLIENT, 2, FLAT_AMOUNT, Decimal("0.5"), penalty=True),
)
CHARGE = {charge.key: charge for charge in CHARGES}

PAYMENT_TYPES = (
    ("Cash", "Cash at the counter", True),
    ("Mobile money", "Wallet of a telephone company", False),
    ("Bank transfer", "Transfer from a bank", False),
    ("Cheque", "Cheque", False),
)

# m_code and its values, as far as clients and loans refer to them.
CODES = {
    "Gender": ("Female", "Male"),
    "Customer Identifier": ("Passport", "National id", "Driver licence"),
    "LoanPurpose": ("Working capital", "Livestock", "School fees", "Housing", "Équipement", "चिकित्सा"),
    "ClientType": ("Micro", "Small enterprise"),
    "ClientClassification": ("Class A", "Class B"),
    "ClientSubStatus": ("Watch list",),
    "ClientClosureReason": ("Moved away", "Deceased"),
    "ClientRejectReason": ("Incomplete papers",),
    "ClientWithdrawReason": ("Changed mind",),
    "WriteOffReasons": ("Business failed",),
}
