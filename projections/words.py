"""The public words: every list of words that a document may use, and what each word means.

The words are few and stay; an app may build on them. Which of the ledger's codes becomes which word stands in
`vocabulary`. `docs/documents.md` and the JSON Schemas are made from these lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: The word for a code that this release does not know. It never stops a client; the worker counts it.
UNKNOWN = "unknown"

_UNKNOWN_MEANS = "A code of the ledger that this release does not know"


@dataclass(frozen=True)
class WordList:
    """A closed list of words. `meanings` are in the order of the reference page."""

    name: str
    about: str
    meanings: Mapping[str, str]

    @property
    def words(self) -> tuple[str, ...]:
        """The words alone."""
        return tuple(self.meanings)


def _coded(name: str, about: str, meanings: Mapping[str, str]) -> WordList:
    """A list whose words stand for codes of the ledger, so that one may be unknown."""
    return WordList(name, about, {**meanings, UNKNOWN: _UNKNOWN_MEANS})


PERSON_KIND = WordList(
    "PersonKind",
    "Whose copy this is.",
    {
        "customer": "Somebody who sees their own accounts",
        "agent": "Somebody who serves the clients in scope",
    },
)
BUSINESS_DATE_RULE = WordList(
    "BusinessDateRule",
    "How an app finds the institution's today.",
    {
        "calendar": "Today is the date in the institution's time zone, by the device's clock",
        "ledger": "Today is the date that the institution's books are on, which it moves itself: `date`",
    },
)
PERMISSION = WordList(
    "Permission",
    "What a person may see.",
    {
        "profile": "Personal details of the clients in scope",
        "image": "Their pictures",
        "loans": "Loans",
        "schedules": "Repayment schedules, with loans",
        "savings": "Savings and deposit accounts",
        "charges": "Charges of clients, and of the accounts that may be seen",
        "transactions": "Transactions of clients, and of the accounts that may be seen",
    },
)
CLIENT_STATUS = _coded(
    "ClientStatus",
    "Where a client stands. Others than these are on no device.",
    {
        "active": "A client of the institution",
        "in_transfer": "Moving from one branch to another; active all the same",
    },
)
LEGAL_FORM = _coded("LegalForm", "What a client is.", {"person": "A natural person", "entity": "An organisation"})

LOAN_STATUS = _coded(
    "LoanStatus",
    "Where a loan stands. Nothing is due, and so nothing is overdue, in any status but `active` and `in_transfer`.",
    {
        "approved": "Approved, not yet paid out",
        "active": "Paid out and being repaid",
        "in_transfer": "Moving with its client to another branch; being repaid all the same",
        "repaid": "Closed: everything was repaid or waived",
        "written_off": "Closed: the institution gave up what was left",
        "rescheduled": "Closed: another loan took its place",
        "overpaid": "More was paid than was owed: the loan has a credit balance",
    },
)
LOAN_SUB_STATUS = _coded(
    "LoanSubStatus", "How a closed loan came to its end.", {"foreclosed": "Repaid in full before its time"}
)
LOAN_KIND = _coded(
    "LoanKind",
    "Whose loan it is.",
    {
        "individual": "The client's alone",
        "group": "A group's as a whole",
        "joint_liability_group": "The client's, for which the group is liable",
        "group_loan_member": "The client's share of a group's loan",
    },
)
SAVINGS_STATUS = _coded(
    "SavingsStatus",
    "Where an account stands.",
    {
        "approved": "Approved, not yet active",
        "active": "In use",
        "in_transfer": "Moving with its client to another branch; in use all the same",
        "closed": "Closed",
        "closed_early": "A deposit closed before its time",
        "matured": "A deposit that came to its end and was not yet paid out",
    },
)
SAVINGS_SUB_STATUS = _coded(
    "SavingsSubStatus",
    "What keeps an active account from being used as usual.",
    {
        "inactive": "Not used for a while",
        "dormant": "Not used for long",
        "escheat": "Unclaimed for so long that its balance went to the state",
        "blocked": "Neither deposits nor withdrawals",
        "credits_blocked": "No deposits",
        "debits_blocked": "No withdrawals",
    },
)
SAVINGS_HOLDER = _coded(
    "SavingsHolder",
    "Whose account it is.",
    {
        "individual": "The client's alone",
        "group": "A group's as a whole",
        "joint_liability_group": "The client's, within a group that is liable together",
        "group_loan_member": "The client's, within a group that borrows together",
        "group_savings_member": "The client's share of a group's savings",
    },
)
SAVINGS_KIND = _coded(
    "SavingsKind",
    "What sort of account it is.",
    {
        "savings": "Pay in and withdraw at any time",
        "fixed_deposit": "One sum for an agreed time",
        "recurring_deposit": "The same sum again and again for an agreed time",
        "current": "For payments",
    },
)
LOAN_TRANSACTION = _coded(
    "LoanTransactionType",
    "What moved on a loan.",
    {
        "disbursement": "Principal was paid out",
        "repayment": "The customer repaid",
        "down_payment": "The customer's own first part was paid at pay-out",
        "repayment_at_disbursement": "Fees were kept back at pay-out",
        "interest_waiver": "Interest was waived",
        "charge_waiver": "A fee or penalty was waived",
        "charge_payment": "A fee or penalty was paid",
        "charge_adjustment": "A fee or penalty was credited back",
        "charge_refund": "A fee or penalty that was paid was refunded",
        "write_off": "The institution gave up what was left",
        "recovery": "Something was paid after the write-off",
        "rescheduling": "The loan was closed and another took its place",
        "refund": "A payment was given back to the customer",
        "transfer_refund": "Money came back from a transfer to another account",
        "credit_balance_refund": "What was paid too much was paid out",
        "merchant_refund": "A merchant gave money back, which repays",
        "payout_refund": "A pay-out came back, which repays",
        "goodwill_credit": "The institution credited something, which repays",
        "interest_payment_waiver": "Interest was forgone, which repays",
        "interest_refund": "Interest was given back, which repays",
        "chargeback": "A payment was taken back by who had made it",
        "re_age": "What was overdue was put into new instalments",
        "re_amortization": "What was overdue was spread over the instalments to come",
    },
)
SAVINGS_TRANSACTION = _coded(
    "SavingsTransactionType",
    "What moved on an account.",
    {
        "deposit": "Money was paid in",
        "withdrawal": "Money was taken out",
        "interest": "Interest was credited",
        "dividend": "A dividend of shares was credited",
        "withdrawal_fee": "The fee for a withdrawal",
        "annual_fee": "The yearly fee",
        "charge_payment": "Another fee or a penalty was paid",
        "charge_waiver": "A fee or penalty was waived",
        "overdraft_interest": "Interest on the overdraft was charged",
        "withholding_tax": "Tax on interest was kept back",
        "written_off": "An overdraft was given up",
        "escheat": "The balance went to the state",
        "hold": "An amount was put on hold",
        "release": "An amount on hold was released",
    },
)
TRANSACTION_EFFECT = WordList(
    "TransactionEffect",
    "What a movement does to the book balance.",
    {"credit": "Raises it", "debit": "Lowers it", "none": "Leaves it as it is"},
)
CLIENT_TRANSACTION = _coded(
    "ClientTransactionType",
    "What moved on a client's charges.",
    {"charge_payment": "A charge was paid", "charge_waiver": "A charge was waived"},
)
CHARGE_TIME = _coded(
    "ChargeTime",
    "What makes a charge due.",
    {
        "due_date": "A day of its own",
        "disbursement": "The pay-out of the loan",
        "tranche_disbursement": "The pay-out of its tranche",
        "instalment": "Every instalment, a share each",
        "overdue": "An instalment that is overdue",
        "activation": "The activation of the client or account",
        "closure": "The closing of the account",
        "withdrawal": "Each withdrawal",
        "weekly": "Every week",
        "monthly": "Every month",
        "annual": "Every year",
        "overdraft": "The use of the overdraft",
        "no_activity": "A time without movements",
        "share_activation": "The activation of a share account",
        "share_purchase": "A purchase of shares",
        "share_redemption": "A redemption of shares",
    },
)
CHARGE_CALCULATION = _coded(
    "ChargeCalculation",
    "How a charge is calculated.",
    {
        "flat": "A fixed amount",
        "percent_of_amount": "Per cent of the principal or amount",
        "percent_of_amount_and_interest": "Per cent of principal and interest",
        "percent_of_interest": "Per cent of the interest",
        "percent_of_disbursement": "Per cent of what is paid out",
    },
)
CHARGE_PAYMENT = _coded(
    "ChargePayment",
    "How a loan's charge is paid.",
    {"regular": "With repayments", "account_transfer": "From the linked savings account"},
)
PERIOD_UNIT = _coded(
    "PeriodUnit",
    "The unit of a length of time.",
    {"days": "Days", "weeks": "Weeks", "months": "Months", "years": "Years", "whole_term": "The whole term"},
)
RATE_PERIOD = _coded(
    "RatePeriod",
    "What a loan's rate is for.",
    {"month": "A month", "year": "A year", "whole_term": "The whole term"},
)
INTEREST_METHOD = _coded(
    "InterestMethod",
    "What interest is reckoned on.",
    {"declining_balance": "The principal still owed", "flat": "The principal as it was at first"},
)
INTEREST_CALCULATED = _coded(
    "InterestCalculated",
    "How often interest is reckoned.",
    {"daily": "For each day", "per_repayment_period": "For each instalment's period as a whole"},
)
AMORTIZATION = _coded(
    "Amortization",
    "What is the same in all instalments.",
    {"equal_principal": "The principal", "equal_instalments": "Principal and interest together"},
)
SCHEDULE_TYPE = _coded(
    "ScheduleType",
    "How the core makes the schedule.",
    {"cumulative": "Anew after each change", "progressive": "Going on from what was paid"},
)
INTEREST_PERIOD = _coded(
    "InterestPeriod",
    "How often savings interest is compounded or credited.",
    {
        "daily": "Every day",
        "monthly": "Every month",
        "quarterly": "Every three months",
        "biannual": "Every six months",
        "annual": "Every year",
    },
)
SAVINGS_CALCULATION = _coded(
    "SavingsCalculation",
    "What savings interest is reckoned on.",
    {"daily_balance": "Each day's balance", "average_daily_balance": "The average of the days' balances"},
)
ON_CLOSURE = _coded(
    "OnClosure",
    "What happens to a deposit at maturity.",
    {
        "withdraw": "It is paid out",
        "transfer_to_savings": "It goes to a savings account",
        "reinvest": "A new deposit begins, with the interest",
        "reinvest_principal": "A new deposit begins, without the interest",
    },
)
EARLY_PENALTY_ON = _coded(
    "EarlyPenaltyOn",
    "For which time the penalty for closing early lowers the interest.",
    {"whole_term": "The whole agreed term", "until_withdrawal": "The time until the closing"},
)
