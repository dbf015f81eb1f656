"""The ledger's integer codes as public words, and which accounts a device may hold at all.

The core's internal codes grow with every release. A code that is not here becomes `unknown` and is counted by the
worker: it never stops a client. What each word means stands in `words`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from projections import words
from projections.words import UNKNOWN, WordList

#: Clients whose data is on devices: active ones, and active ones on the move between two branches (303, 304).
VISIBLE_CLIENT_STATUSES = frozenset({300, 303, 304})
#: Loans from approval on: approved, active, in transfer, closed in any way, overpaid.
#: Not pending (100), withdrawn (400) or rejected (500): those are the institution's internal cycle.
VISIBLE_LOAN_STATUSES = frozenset({200, 300, 303, 304, 600, 601, 602, 700})
#: Savings and deposit accounts, by the same rule: 700 is closed before its time, 800 matured.
VISIBLE_SAVINGS_STATUSES = frozenset({200, 300, 303, 304, 600, 700, 800})

#: Loan movements of accounting or of a branch transfer: accruals 10 and 32, income posting 19, charge-off 27,
#: transfer 12 to 15, and the contra rows (0, 3) of very old data.
HIDDEN_LOAN_TRANSACTIONS = frozenset({0, 3, 10, 12, 13, 14, 15, 19, 27, 32})
#: Savings movements of accounting (10) or of a branch transfer (12 to 15).
HIDDEN_SAVINGS_TRANSACTIONS = frozenset({10, 12, 13, 14, 15})

#: Loan movements that pay off instalments, and the one that takes such a payment back.
LOAN_PAYMENTS = frozenset({2, 5, 17, 21, 22, 23, 24, 26, 28, 31, 33})
LOAN_PAYMENTS_RETURNED = frozenset({18})
LOAN_DISBURSEMENT = 1

#: Loan charges that are due when the loan, or one of its tranches, is paid out.
DISBURSEMENT_CHARGE = 1
TRANCHE_CHARGE = 12
CHARGES_AT_DISBURSEMENT = frozenset({DISBURSEMENT_CHARGE, TRANCHE_CHARGE})

#: Loans of which more principal may be drawn: approved ones, and active ones that are paid out in tranches.
LOAN_APPROVED, LOAN_ACTIVE = 200, 300

#: Savings movements that raise and lower the book balance; every other type leaves it as it is.
SAVINGS_CREDITS = frozenset({1, 3, 8})
SAVINGS_DEBITS = frozenset({2, 4, 5, 7, 17, 18})


@dataclass(frozen=True)
class Codes:
    """One code list: where the codes stand, the word for each, and the list that the words are of."""

    source: str
    list: WordList
    words: Mapping[int, str]

    def __call__(self, code: int | None, unknown: set[tuple[str, int]]) -> str | None:
        """The word for `code`; None for NULL; `unknown`, noted in `unknown`, for a code not in the list."""
        if code is None:
            return None
        word = self.words.get(code)
        if word is None:
            unknown.add((self.source, code))
            return UNKNOWN
        return word


CLIENT_STATUS = Codes(
    "m_client.status_enum", words.CLIENT_STATUS, {300: "active", 303: "in_transfer", 304: "in_transfer"}
)
LEGAL_FORM = Codes("m_client.legal_form_enum", words.LEGAL_FORM, {1: "person", 2: "entity"})

LOAN_STATUS = Codes(
    "m_loan.loan_status_id",
    words.LOAN_STATUS,
    {
        200: "approved",
        300: "active",
        303: "in_transfer",
        304: "in_transfer",
        600: "repaid",
        601: "written_off",
        602: "rescheduled",
        700: "overpaid",
    },
)
LOAN_SUB_STATUS = Codes("m_loan.loan_sub_status_id", words.LOAN_SUB_STATUS, {100: "foreclosed"})
SAVINGS_STATUS = Codes(
    "m_savings_account.status_enum",
    words.SAVINGS_STATUS,
    {
        200: "approved",
        300: "active",
        303: "in_transfer",
        304: "in_transfer",
        600: "closed",
        700: "closed_early",
        800: "matured",
    },
)
SAVINGS_SUB_STATUS = Codes(
    "m_savings_account.sub_status_enum",
    words.SAVINGS_SUB_STATUS,
    {
        100: "inactive",
        200: "dormant",
        300: "escheat",
        400: "blocked",
        500: "credits_blocked",
        600: "debits_blocked",
    },
)
_ACCOUNT_TYPES = {
    1: "individual",
    2: "group",
    3: "joint_liability_group",
    4: "group_loan_member",
    5: "group_savings_member",
}
#: A loan of very old data has no type: whether it has a group besides its client tells (see `loans.py`).
UNTYPED_LOAN = 0
LOAN_TYPE = Codes(
    "m_loan.loan_type_enum",
    words.LOAN_KIND,
    {code: word for code, word in _ACCOUNT_TYPES.items() if word != "group_savings_member"},
)
SAVINGS_TYPE = Codes("m_savings_account.account_type_enum", words.SAVINGS_HOLDER, _ACCOUNT_TYPES)
DEPOSIT_TYPE = Codes(
    "m_savings_account.deposit_type_enum",
    words.SAVINGS_KIND,
    {100: "savings", 200: "fixed_deposit", 300: "recurring_deposit", 400: "current"},
)

LOAN_TRANSACTION = Codes(
    "m_loan_transaction.transaction_type_enum",
    words.LOAN_TRANSACTION,
    {
        1: "disbursement",
        2: "repayment",
        4: "interest_waiver",
        5: "repayment_at_disbursement",
        6: "write_off",
        7: "rescheduling",
        8: "recovery",
        9: "charge_waiver",
        16: "transfer_refund",
        17: "charge_payment",
        18: "refund",
        20: "credit_balance_refund",
        21: "merchant_refund",
        22: "payout_refund",
        23: "goodwill_credit",
        24: "charge_refund",
        25: "chargeback",
        26: "charge_adjustment",
        28: "down_payment",
        29: "re_age",
        30: "re_amortization",
        31: "interest_payment_waiver",
        33: "interest_refund",
    },
)
SAVINGS_TRANSACTION = Codes(
    "m_savings_account_transaction.transaction_type_enum",
    words.SAVINGS_TRANSACTION,
    {
        1: "deposit",
        2: "withdrawal",
        3: "interest",
        4: "withdrawal_fee",
        5: "annual_fee",
        6: "charge_waiver",
        7: "charge_payment",
        8: "dividend",
        16: "written_off",
        17: "overdraft_interest",
        18: "withholding_tax",
        19: "escheat",
        20: "hold",
        21: "release",
    },
)
CLIENT_TRANSACTION = Codes(
    "m_client_transaction.transaction_type_enum",
    words.CLIENT_TRANSACTION,
    {1: "charge_payment", 2: "charge_waiver"},
)

_CHARGE_TIMES = {
    1: "disbursement",
    2: "due_date",
    3: "activation",
    4: "closure",
    5: "withdrawal",
    6: "annual",
    7: "monthly",
    8: "instalment",
    9: "overdue",
    10: "overdraft",
    11: "weekly",
    12: "tranche_disbursement",
    13: "share_activation",
    14: "share_purchase",
    15: "share_redemption",
    16: "no_activity",
}
_CHARGE_CALCULATIONS = {
    1: "flat",
    2: "percent_of_amount",
    3: "percent_of_amount_and_interest",
    4: "percent_of_interest",
    5: "percent_of_disbursement",
}
CLIENT_CHARGE_TIME = Codes("m_client_charge.charge_time_enum", words.CHARGE_TIME, _CHARGE_TIMES)
CLIENT_CHARGE_CALCULATION = Codes(
    "m_client_charge.charge_calculation_enum", words.CHARGE_CALCULATION, _CHARGE_CALCULATIONS
)
LOAN_CHARGE_TIME = Codes("m_loan_charge.charge_time_enum", words.CHARGE_TIME, _CHARGE_TIMES)
LOAN_CHARGE_CALCULATION = Codes(
    "m_loan_charge.charge_calculation_enum", words.CHARGE_CALCULATION, _CHARGE_CALCULATIONS
)
LOAN_CHARGE_PAYMENT = Codes(
    "m_loan_charge.charge_payment_mode_enum", words.CHARGE_PAYMENT, {0: "regular", 1: "account_transfer"}
)
SAVINGS_CHARGE_TIME = Codes("m_savings_account_charge.charge_time_enum", words.CHARGE_TIME, _CHARGE_TIMES)
SAVINGS_CHARGE_CALCULATION = Codes(
    "m_savings_account_charge.charge_calculation_enum", words.CHARGE_CALCULATION, _CHARGE_CALCULATIONS
)

_PERIODS = {0: "days", 1: "weeks", 2: "months", 3: "years", 4: "whole_term"}
LOAN_TERM_UNIT = Codes("m_loan.term_period_frequency_enum", words.PERIOD_UNIT, _PERIODS)
LOAN_REPAY_UNIT = Codes("m_loan.repayment_period_frequency_enum", words.PERIOD_UNIT, _PERIODS)
LOAN_RATE_PERIOD = Codes(
    "m_loan.interest_period_frequency_enum", words.RATE_PERIOD, {2: "month", 3: "year", 4: "whole_term"}
)
INTEREST_METHOD = Codes("m_loan.interest_method_enum", words.INTEREST_METHOD, {0: "declining_balance", 1: "flat"})
INTEREST_CALCULATED = Codes(
    "m_loan.interest_calculated_in_period_enum", words.INTEREST_CALCULATED, {0: "daily", 1: "per_repayment_period"}
)
AMORTIZATION = Codes(
    "m_loan.amortization_method_enum", words.AMORTIZATION, {0: "equal_principal", 1: "equal_instalments"}
)
LOCKIN_UNIT = Codes("m_savings_account.lockin_period_frequency_enum", words.PERIOD_UNIT, _PERIODS)
DEPOSIT_PERIOD_UNIT = Codes(
    "m_deposit_account_term_and_preclosure.deposit_period_frequency_enum", words.PERIOD_UNIT, _PERIODS
)
_INTEREST_PERIODS = {1: "daily", 4: "monthly", 5: "quarterly", 6: "biannual", 7: "annual"}
COMPOUNDING = Codes("m_savings_account.interest_compounding_period_enum", words.INTEREST_PERIOD, _INTEREST_PERIODS)
POSTING = Codes("m_savings_account.interest_posting_period_enum", words.INTEREST_PERIOD, _INTEREST_PERIODS)
SAVINGS_CALCULATION = Codes(
    "m_savings_account.interest_calculation_type_enum",
    words.SAVINGS_CALCULATION,
    {1: "daily_balance", 2: "average_daily_balance"},
)
ON_CLOSURE = Codes(
    "m_deposit_account_term_and_preclosure.on_account_closure_enum",
    words.ON_CLOSURE,
    {100: "withdraw", 200: "transfer_to_savings", 300: "reinvest", 400: "reinvest_principal"},
)
PRECLOSURE_ON = Codes(
    "m_deposit_account_term_and_preclosure.pre_closure_penal_interest_on_enum",
    words.EARLY_PENALTY_ON,
    {1: "whole_term", 2: "until_withdrawal"},
)
