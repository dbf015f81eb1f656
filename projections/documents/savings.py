"""Documents about a savings or deposit account: terms and totals, charges, transactions."""

from __future__ import annotations

from typing import Annotated

from projections import words
from projections.documents.base import Amount, ClientPart, Currency, Day, Part, Payment, Rate, about


class SavingsInterest(Part):
    """How interest is earned."""

    annual_rate: Annotated[Rate, about("Per year", "m_savings_account.nominal_annual_interest_rate", "%")]
    compounding: Annotated[
        str,
        about(
            "How often it is compounded",
            "m_savings_account.interest_compounding_period_enum",
            words=words.INTEREST_PERIOD,
        ),
    ]
    posting: Annotated[
        str,
        about(
            "How often it is credited",
            "m_savings_account.interest_posting_period_enum",
            words=words.INTEREST_PERIOD,
        ),
    ]
    calculation: Annotated[
        str,
        about(
            "What it is reckoned on",
            "m_savings_account.interest_calculation_type_enum",
            words=words.SAVINGS_CALCULATION,
        ),
    ]
    days_in_year: Annotated[
        int, about("360 or 365", "m_savings_account.interest_calculation_days_in_year_type_enum", "days")
    ]
    min_balance: Annotated[
        Amount | None,
        about("Balance from which interest is earned", "m_savings_account.min_balance_for_interest_calculation"),
    ] = None


class SavingsTerms(Part):
    """What the account allows and demands."""

    overdraft: Annotated[bool, about("Overdraft allowed", "m_savings_account.allow_overdraft")]
    min_opening_balance: Annotated[
        Amount | None, about("Least opening balance", "m_savings_account.min_required_opening_balance")
    ] = None
    min_balance: Annotated[Amount | None, about("Least balance", "m_savings_account.min_required_balance")] = None
    enforce_min_balance: Annotated[
        bool | None, about("Least balance is enforced", "m_savings_account.enforce_min_required_balance")
    ] = None
    overdraft_limit: Annotated[Amount | None, about("Most overdraft", "m_savings_account.overdraft_limit")] = None
    overdraft_rate: Annotated[
        Rate | None, about("Per year", "m_savings_account.nominal_annual_interest_rate_overdraft", "%")
    ] = None
    lock_in: Annotated[int | None, about("Length of the lock-in", "m_savings_account.lockin_period_frequency")] = (
        None
    )
    lock_in_unit: Annotated[
        str | None, about("Its unit", "m_savings_account.lockin_period_frequency_enum", words=words.PERIOD_UNIT)
    ] = None
    locked_in_until: Annotated[
        Day | None, about("End of the lock-in", "m_savings_account.lockedin_until_date_derived")
    ] = None
    fee_for_transfer: Annotated[
        bool | None, about("Withdrawal fee on transfers too", "m_savings_account.withdrawal_fee_for_transfer")
    ] = None


class SavingsDates(Part):
    """Life cycle: dates only, never who."""

    submitted: Annotated[Day | None, about("Application", "m_savings_account.submittedon_date")] = None
    approved: Annotated[Day | None, about("Approval", "m_savings_account.approvedon_date")] = None
    activated: Annotated[Day | None, about("Activation", "m_savings_account.activatedon_date")] = None
    closed: Annotated[Day | None, about("Closing", "m_savings_account.closedon_date")] = None


class SavingsSummary(Part):
    """Totals since opening, as the ledger keeps them; reversed movements do not count."""

    deposits: Annotated[Amount, about("Paid in", "m_savings_account.total_deposits_derived")]
    withdrawals: Annotated[Amount, about("Taken out", "m_savings_account.total_withdrawals_derived")]
    interest_posted: Annotated[
        Amount, about("Interest credited", "m_savings_account.total_interest_posted_derived")
    ]
    withdrawal_fees: Annotated[Amount, about("Withdrawal fees", "m_savings_account.total_withdrawal_fees_derived")]
    annual_fees: Annotated[Amount, about("Annual fees", "m_savings_account.total_annual_fees_derived")]
    fees: Annotated[Amount, about("Other fees", "m_savings_account.total_fees_charge_derived")]
    penalties: Annotated[Amount, about("Penalties", "m_savings_account.total_penalty_charge_derived")]
    overdraft_interest: Annotated[
        Amount, about("Interest on overdraft", "m_savings_account.total_overdraft_interest_derived")
    ]
    withheld_tax: Annotated[Amount, about("Tax withheld", "m_savings_account.total_withhold_tax_derived")]
    interest_earned: Annotated[
        Amount | None,
        about("Interest earned, posted or not", "m_savings_account.total_interest_earned_derived"),
    ] = None
    interest_not_posted: Annotated[
        Amount | None, about("Earned less posted, plus interest on overdraft; only if earned is known")
    ] = None


class TermDeposit(Part):
    """What a fixed or recurring deposit adds."""

    amount: Annotated[
        Amount | None, about("Principal deposited", "m_deposit_account_term_and_preclosure.deposit_amount")
    ] = None
    period: Annotated[int | None, about("Length", "m_deposit_account_term_and_preclosure.deposit_period")] = None
    period_unit: Annotated[
        str | None,
        about(
            "Its unit",
            "m_deposit_account_term_and_preclosure.deposit_period_frequency_enum",
            words=words.PERIOD_UNIT,
        ),
    ] = None
    maturity_amount: Annotated[
        Amount | None, about("At maturity", "m_deposit_account_term_and_preclosure.maturity_amount")
    ] = None
    matures_on: Annotated[Day | None, about("Maturity", "m_deposit_account_term_and_preclosure.maturity_date")] = (
        None
    )
    on_closure: Annotated[
        str | None,
        about(
            "What happens at maturity",
            "m_deposit_account_term_and_preclosure.on_account_closure_enum",
            words=words.ON_CLOSURE,
        ),
    ] = None
    early_penalty: Annotated[
        bool | None,
        about(
            "Closing early costs interest",
            "m_deposit_account_term_and_preclosure.pre_closure_penal_applicable",
        ),
    ] = None
    early_penalty_rate: Annotated[
        Rate | None,
        about("By how much", "m_deposit_account_term_and_preclosure.pre_closure_penal_interest", "%"),
    ] = None
    early_penalty_on: Annotated[
        str | None,
        about(
            "For which time it does",
            "m_deposit_account_term_and_preclosure.pre_closure_penal_interest_on_enum",
            words=words.EARLY_PENALTY_ON,
        ),
    ] = None


class PlannedDeposit(Part):
    """One instalment of a recurring deposit."""

    number: Annotated[int, about("1 to n", "m_mandatory_savings_schedule.installment")]
    due_on: Annotated[Day, about("Due date", "m_mandatory_savings_schedule.duedate")]
    amount: Annotated[Amount, about("Due", "m_mandatory_savings_schedule.deposit_amount")]
    paid: Annotated[Amount, about("Paid", "m_mandatory_savings_schedule.deposit_amount_completed_derived")]
    complete: Annotated[bool, about("Paid in full", "m_mandatory_savings_schedule.completed_derived")]
    from_on: Annotated[Day | None, about("Start of the period", "m_mandatory_savings_schedule.fromdate")] = None
    completed_on: Annotated[
        Day | None, about("Date it was", "m_mandatory_savings_schedule.obligations_met_on_date")
    ] = None


class RecurringDeposit(Part):
    """What a recurring deposit adds."""

    mandatory: Annotated[bool, about("Deposits are mandatory", "m_deposit_account_recurring_detail.is_mandatory")]
    withdrawals: Annotated[
        bool, about("Withdrawals allowed", "m_deposit_account_recurring_detail.allow_withdrawal")
    ]
    plan: Annotated[list[PlannedDeposit], about("By number")]
    amount: Annotated[
        Amount | None,
        about("Each deposit", "m_deposit_account_recurring_detail.mandatory_recommended_deposit_amount"),
    ] = None


class Savings(ClientPart, tag="savings"):
    """One savings or deposit account. Id `savings:{account}`."""

    savings_id: Annotated[int, about("The account", "m_savings_account.id")]
    account_no: Annotated[str, about("Number shown to the customer", "m_savings_account.account_no")]
    status: Annotated[
        str,
        about("Where the account stands", "m_savings_account.status_enum", words=words.SAVINGS_STATUS),
    ]
    kind: Annotated[
        str,
        about("What sort of account it is", "m_savings_account.deposit_type_enum", words=words.SAVINGS_KIND),
    ]
    holder: Annotated[
        str,
        about("Whose account it is", "m_savings_account.account_type_enum", words=words.SAVINGS_HOLDER),
    ]
    currency: Annotated[Currency, about("Currency of every amount of this account")]
    balance: Annotated[Amount, about("Book balance", "m_savings_account.account_balance_derived")]
    held_as_guarantee: Annotated[
        Amount, about("Held for loans guaranteed", "m_savings_account.on_hold_funds_derived")
    ]
    on_hold: Annotated[Amount, about("On hold", "m_savings_account.total_savings_amount_on_hold")]
    available: Annotated[Amount, about("balance less held_as_guarantee less on_hold")]
    summary: Annotated[SavingsSummary, about("Totals")]
    interest: Annotated[SavingsInterest, about("Interest")]
    terms: Annotated[SavingsTerms, about("Terms")]
    dates: Annotated[SavingsDates, about("Life cycle")]
    product: Annotated[str | None, about("Savings product", "m_savings_product.name")] = None
    sub_status: Annotated[
        str | None,
        about(
            "What keeps it from being used as usual",
            "m_savings_account.sub_status_enum",
            words=words.SAVINGS_SUB_STATUS,
        ),
    ] = None
    deposit: Annotated[
        TermDeposit | None, about("For fixed and recurring deposits whose term the ledger knows")
    ] = None
    recurring: Annotated[RecurringDeposit | None, about("For recurring deposits")] = None


class SavingsCharge(Part):
    """A fee or penalty on the account. A recurring one is one line whose due date moves on."""

    id: Annotated[int, about("Key of the charge", "m_savings_account_charge.id")]
    name: Annotated[str, about("Name of the charge", "m_charge.name")]
    penalty: Annotated[bool, about("Penalty (true) or fee", "m_savings_account_charge.is_penalty")]
    when: Annotated[
        str, about("What makes it due", "m_savings_account_charge.charge_time_enum", words=words.CHARGE_TIME)
    ]
    calculation: Annotated[
        str,
        about(
            "How it is calculated",
            "m_savings_account_charge.charge_calculation_enum",
            words=words.CHARGE_CALCULATION,
        ),
    ]
    amount: Annotated[Amount, about("Charged", "m_savings_account_charge.amount")]
    paid: Annotated[Amount, about("Paid", "m_savings_account_charge.amount_paid_derived")]
    waived: Annotated[Amount, about("Waived", "m_savings_account_charge.amount_waived_derived")]
    written_off: Annotated[Amount, about("Written off", "m_savings_account_charge.amount_writtenoff_derived")]
    outstanding: Annotated[Amount, about("Still to pay", "m_savings_account_charge.amount_outstanding_derived")]
    active: Annotated[bool, about("false when taken back", "m_savings_account_charge.is_active")]
    due_on: Annotated[Day | None, about("Next due date", "m_savings_account_charge.charge_due_date")] = None
    percentage: Annotated[
        Rate | None, about("When not flat", "m_savings_account_charge.calculation_percentage", "%")
    ] = None
    calculated_on: Annotated[
        Amount | None, about("Base of the percentage", "m_savings_account_charge.calculation_on_amount")
    ] = None
    inactivated_on: Annotated[
        Day | None, about("Date taken back", "m_savings_account_charge.inactivated_on_date")
    ] = None


class SavingsCharges(ClientPart, tag="savings_charges"):
    """All charges of the account. Id `savings:{account}:charges`."""

    savings_id: Annotated[int, about("The account", "m_savings_account.id")]
    currency: Annotated[Currency, about("Currency of every amount")]
    charges: Annotated[list[SavingsCharge], about("By key")]


class SavingsTransaction(Part):
    """A movement on the account."""

    id: Annotated[int, about("Key of the transaction", "m_savings_account_transaction.id")]
    type: Annotated[
        str,
        about(
            "Kind of movement",
            "m_savings_account_transaction.transaction_type_enum",
            words=words.SAVINGS_TRANSACTION,
        ),
    ]
    effect: Annotated[str, about("What it does to the book balance", words=words.TRANSACTION_EFFECT)]
    on: Annotated[Day, about("Value date", "m_savings_account_transaction.transaction_date")]
    amount: Annotated[Amount, about("Amount, always positive", "m_savings_account_transaction.amount")]
    reversed: Annotated[bool, about("true when undone", "m_savings_account_transaction.is_reversed")]
    balance_after: Annotated[
        Amount | None,
        about(
            "Balance afterwards, holds taken off; absent when undone",
            "m_savings_account_transaction.running_balance_derived",
        ),
    ] = None
    reversal: Annotated[
        bool | None,
        about("true on the counter-entry of an undone movement", "m_savings_account_transaction.is_reversal"),
    ] = None
    original_id: Annotated[
        int | None,
        about("Of a counter-entry: what it undoes", "m_savings_account_transaction.original_transaction_id"),
    ] = None
    released_by: Annotated[
        int | None,
        about("Of a hold: its release", "m_savings_account_transaction.release_id_of_hold_amount"),
    ] = None
    overdraft: Annotated[
        Amount | None,
        about("Of it, from overdraft", "m_savings_account_transaction.overdraft_amount_derived"),
    ] = None
    submitted_on: Annotated[
        Day | None, about("Business date of booking", "m_savings_account_transaction.submitted_on_date")
    ] = None
    payment: Annotated[Payment | None, about("How it was paid")] = None


class SavingsPageTotals(Part):
    """Sums over the page's movements that count: neither undone nor counter-entries."""

    credits: Annotated[Amount, about("Raised the book balance")]
    debits: Annotated[Amount, about("Lowered it")]


class SavingsTransactions(ClientPart, tag="savings_transactions"):
    """The account's movements of one calendar month. Id `savings:{account}:transactions:{yyyy-mm}`.

    Accruals and branch transfers are left out.
    """

    savings_id: Annotated[int, about("The account", "m_savings_account.id")]
    currency: Annotated[Currency, about("Currency of every amount")]
    period: Annotated[str, about("Calendar month", unit="yyyy-mm")]
    transactions: Annotated[list[SavingsTransaction], about("In order of value date, booking, key")]
    totals: Annotated[SavingsPageTotals, about("Sums of this page")]
