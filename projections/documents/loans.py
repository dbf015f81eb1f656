"""Documents about a loan: terms and totals, schedule, charges, transactions."""

from __future__ import annotations

from typing import Annotated

from projections import words
from projections.documents.base import Amount, ClientPart, Currency, Day, Part, Payment, Rate, about


class LoanPrincipal(Part):
    """The principal on its way from application to pay-out."""

    current: Annotated[Amount, about("Applied, approved or disbursed, by status", "m_loan.principal_amount")]
    approved: Annotated[Amount, about("Approved", "m_loan.approved_principal")]
    available: Annotated[
        Amount | None,
        about(
            "Approved and not yet disbursed. Absent where nothing more can be drawn: closed loans, and active ones "
            "that are paid out at once",
            "m_loan.approved_principal less principal_disbursed_derived",
        ),
    ] = None
    proposed: Annotated[Amount | None, about("Asked for", "m_loan.principal_amount_proposed")] = None
    net_disbursal: Annotated[
        Amount | None, about("Paid out after fees kept back", "m_loan.net_disbursal_amount")
    ] = None


class LoanInterest(Part):
    """How interest is reckoned."""

    method: Annotated[
        str, about("What it is reckoned on", "m_loan.interest_method_enum", words=words.INTEREST_METHOD)
    ]
    calculated: Annotated[
        str,
        about(
            "How often it is reckoned", "m_loan.interest_calculated_in_period_enum", words=words.INTEREST_CALCULATED
        ),
    ]
    rate: Annotated[Rate | None, about("Per period", "m_loan.nominal_interest_rate_per_period", "%")] = None
    rate_period: Annotated[
        str | None, about("What `rate` is for", "m_loan.interest_period_frequency_enum", words=words.RATE_PERIOD)
    ] = None
    annual_rate: Annotated[Rate | None, about("Per year", "m_loan.annual_nominal_interest_rate", "%")] = None
    floating: Annotated[bool | None, about("Follows a floating rate", "m_loan.is_floating_interest_rate")] = None
    recalculated: Annotated[
        bool | None, about("Schedule changes with payments", "m_loan.interest_recalculation_enabled")
    ] = None
    starts_on: Annotated[Day | None, about("Interest start", "m_loan.interest_calculated_from_date")] = None
    days_in_month: Annotated[int | None, about("1 actual, or 30", "m_loan.days_in_month_enum", "days")] = None
    days_in_year: Annotated[int | None, about("1 actual, or 360, 364, 365", "m_loan.days_in_year_enum", "days")] = (
        None
    )


class LoanTerms(Part):
    """Length and rhythm of repayment."""

    length: Annotated[int, about("Length of the loan", "m_loan.term_frequency")]
    length_unit: Annotated[str, about("Its unit", "m_loan.term_period_frequency_enum", words=words.PERIOD_UNIT)]
    repayments: Annotated[int, about("Number of instalments agreed", "m_loan.number_of_repayments")]
    every: Annotated[int, about("Interval between instalments", "m_loan.repay_every")]
    every_unit: Annotated[str, about("Its unit", "m_loan.repayment_period_frequency_enum", words=words.PERIOD_UNIT)]
    amortization: Annotated[
        str,
        about("What is the same in all instalments", "m_loan.amortization_method_enum", words=words.AMORTIZATION),
    ]
    grace_principal: Annotated[
        int | None, about("Instalments without principal", "m_loan.grace_on_principal_periods")
    ] = None
    grace_interest: Annotated[
        int | None, about("Instalments without interest payment", "m_loan.grace_on_interest_periods")
    ] = None
    interest_free: Annotated[
        int | None, about("Interest-free instalments", "m_loan.grace_interest_free_periods")
    ] = None
    fixed_instalment: Annotated[Amount | None, about("Fixed instalment amount", "m_loan.fixed_emi_amount")] = None
    schedule_type: Annotated[
        str | None, about("How the core makes the schedule", "m_loan.loan_schedule_type", words=words.SCHEDULE_TYPE)
    ] = None


class LoanDates(Part):
    """Life cycle: dates only, never who."""

    submitted: Annotated[Day | None, about("Application", "m_loan.submittedon_date")] = None
    approved: Annotated[Day | None, about("Approval", "m_loan.approvedon_date")] = None
    expected_disbursed: Annotated[Day | None, about("Planned pay-out", "m_loan.expected_disbursedon_date")] = None
    disbursed: Annotated[Day | None, about("Pay-out", "m_loan.disbursedon_date")] = None
    expected_first_repayment: Annotated[
        Day | None, about("Planned first instalment", "m_loan.expected_firstrepaymenton_date")
    ] = None
    expected_matured: Annotated[Day | None, about("Planned end", "m_loan.expected_maturedon_date")] = None
    matured: Annotated[Day | None, about("Present end", "m_loan.maturedon_date")] = None
    closed: Annotated[Day | None, about("Closed, repaid or written off", "m_loan.closedon_date")] = None
    written_off: Annotated[Day | None, about("Write-off", "m_loan.writtenoffon_date")] = None
    rescheduled: Annotated[Day | None, about("Closed as rescheduled", "m_loan.rescheduledon_date")] = None
    overpaid: Annotated[Day | None, about("Became overpaid", "m_loan.overpaidon_date")] = None


class PrincipalSummary(Part):
    """Totals of the principal."""

    disbursed: Annotated[Amount, about("Disbursed", "m_loan.principal_disbursed_derived")]
    adjustments: Annotated[Amount, about("Credited back (chargebacks)", "m_loan.principal_adjustments_derived")]
    repaid: Annotated[Amount, about("Repaid", "m_loan.principal_repaid_derived")]
    written_off: Annotated[Amount, about("Written off", "m_loan.principal_writtenoff_derived")]
    outstanding: Annotated[Amount, about("Still owed", "m_loan.principal_outstanding_derived")]


class PortionSummary(Part):
    """Totals of interest, of fees or of penalties."""

    charged: Annotated[Amount, about("Charged over the whole loan", "m_loan.*_charged_derived")]
    repaid: Annotated[Amount, about("Repaid", "m_loan.*_repaid_derived")]
    waived: Annotated[Amount, about("Waived", "m_loan.*_waived_derived")]
    written_off: Annotated[Amount, about("Written off", "m_loan.*_writtenoff_derived")]
    outstanding: Annotated[Amount, about("Still owed", "m_loan.*_outstanding_derived")]
    adjustments: Annotated[
        Amount | None, about("Credited back (fees and penalties), if any", "m_loan.*_adjustments_derived")
    ] = None


class LoanSummary(Part):
    """The loan's totals as the ledger keeps them."""

    principal: Annotated[PrincipalSummary, about("Principal")]
    interest: Annotated[PortionSummary, about("Interest", "m_loan.interest_*_derived")]
    fees: Annotated[PortionSummary, about("Fees, those at disbursement included", "m_loan.fee_charges_*_derived")]
    penalties: Annotated[PortionSummary, about("Penalties", "m_loan.penalty_charges_*_derived")]
    total_expected: Annotated[
        Amount, about("Principal, interest, fees and penalties", "m_loan.total_expected_repayment_derived")
    ]
    total_repaid: Annotated[Amount, about("All repaid", "m_loan.total_repayment_derived")]
    total_expected_cost: Annotated[
        Amount, about("Interest, fees and penalties charged", "m_loan.total_expected_costofloan_derived")
    ]
    total_cost: Annotated[Amount, about("Interest, fees and penalties repaid", "m_loan.total_costofloan_derived")]
    total_waived: Annotated[Amount, about("All waived", "m_loan.total_waived_derived")]
    total_written_off: Annotated[Amount, about("All written off", "m_loan.total_writtenoff_derived")]
    total_outstanding: Annotated[Amount, about("What is still owed", "m_loan.total_outstanding_derived")]
    overpaid: Annotated[Amount | None, about("Credit balance", "m_loan.total_overpaid_derived")] = None


class NextDue(Part):
    """The first instalment on which something is still to pay."""

    on: Annotated[Day, about("Its due date, which may lie in the past", "m_loan_repayment_schedule.duedate")]
    amount: Annotated[
        Amount,
        about("What is still to pay on it", "m_loan_repayment_schedule.*_amount less paid, waived, written off"),
    ]


class Loan(ClientPart, tag="loan"):
    """One loan: terms, status, totals, dates. Id `loan:{loan}`."""

    loan_id: Annotated[int, about("The loan", "m_loan.id")]
    account_no: Annotated[str, about("Loan number shown to the customer", "m_loan.account_no")]
    status: Annotated[
        str,
        about("Where the loan stands", "m_loan.loan_status_id", words=words.LOAN_STATUS),
    ]
    kind: Annotated[
        str,
        about(
            "Whose loan it is; of very old data, by its client and group",
            "m_loan.loan_type_enum",
            words=words.LOAN_KIND,
        ),
    ]
    currency: Annotated[Currency, about("Currency of every amount of this loan")]
    principal: Annotated[LoanPrincipal, about("Principal")]
    interest: Annotated[LoanInterest, about("Interest")]
    terms: Annotated[LoanTerms, about("Length and rhythm")]
    summary: Annotated[LoanSummary, about("Totals; zeros before pay-out")]
    dates: Annotated[LoanDates, about("Life cycle")]
    next_due: Annotated[
        NextDue | None,
        about("The first instalment on which something is still to pay; on active loans alone"),
    ] = None
    product: Annotated[str | None, about("Loan product", "m_product_loan.name")] = None
    purpose: Annotated[str | None, about("Purpose, in the institution's words", "m_code_value.code_value")] = None
    sub_status: Annotated[
        str | None, about("How it came to its end", "m_loan.loan_sub_status_id", words=words.LOAN_SUB_STATUS)
    ] = None
    topup: Annotated[bool | None, about("Top-up of an earlier loan", "m_loan.is_topup")] = None


class Disbursement(Part):
    """One pay-out: the loan's only one, or a tranche."""

    principal: Annotated[
        Amount, about("Paid out", "m_loan_disbursement_detail.principal, else m_loan.principal_amount")
    ]
    fees: Annotated[
        Amount,
        about(
            "Fees due at this pay-out, less what was waived or written off. Each tranche has its own; those of the "
            "loan as a whole fall on the first pay-out",
            "m_loan_charge.amount, amount_waived_derived, amount_writtenoff_derived; of loans without such charges "
            "m_loan.total_charges_due_at_disbursement_derived",
        ),
    ]
    fees_paid: Annotated[Amount, about("Of these, paid", "m_loan_charge.amount_paid_derived")]
    disbursed: Annotated[bool, about("Paid out already")]
    expected_on: Annotated[
        Day | None,
        about(
            "Planned date",
            "m_loan_disbursement_detail.expected_disburse_date, else m_loan.expected_disbursedon_date",
        ),
    ] = None
    disbursed_on: Annotated[
        Day | None, about("Date", "m_loan_disbursement_detail.disbursedon_date, else m_loan.disbursedon_date")
    ] = None
    net_amount: Annotated[
        Amount | None, about("Paid out after fees kept back", "m_loan_disbursement_detail.net_disbursal_amount")
    ] = None


class PrincipalDue(Part):
    """Principal of one instalment."""

    due: Annotated[Amount, about("Due", "m_loan_repayment_schedule.principal_amount")]
    paid: Annotated[Amount, about("Paid", "m_loan_repayment_schedule.principal_completed_derived")]
    written_off: Annotated[Amount, about("Written off", "m_loan_repayment_schedule.principal_writtenoff_derived")]
    outstanding: Annotated[Amount, about("due less paid less written_off")]


class PortionDue(Part):
    """Interest, fees or penalties of one instalment."""

    due: Annotated[Amount, about("Due", "m_loan_repayment_schedule.*_amount")]
    paid: Annotated[Amount, about("Paid", "m_loan_repayment_schedule.*_completed_derived")]
    waived: Annotated[Amount, about("Waived", "m_loan_repayment_schedule.*_waived_derived")]
    written_off: Annotated[Amount, about("Written off", "m_loan_repayment_schedule.*_writtenoff_derived")]
    outstanding: Annotated[Amount, about("due less paid less waived less written_off")]


class Totals(Part):
    """Sums over the four portions."""

    due: Annotated[Amount, about("Principal, interest, fees, penalties; before waivers")]
    paid: Annotated[Amount, about("Paid")]
    waived: Annotated[Amount, about("Waived; principal never is")]
    written_off: Annotated[Amount, about("Written off")]
    outstanding: Annotated[Amount, about("Still to pay")]


class Instalment(Part):
    """One line of the schedule; keyed by the loan and its number."""

    number: Annotated[int, about("1 to n", "m_loan_repayment_schedule.installment")]
    from_on: Annotated[
        Day, about("Start of the period, or the previous due date", "m_loan_repayment_schedule.fromdate")
    ]
    due_on: Annotated[Day, about("Due date", "m_loan_repayment_schedule.duedate")]
    days: Annotated[int, about("From start to due date", unit="days")]
    principal: Annotated[PrincipalDue, about("Principal", "m_loan_repayment_schedule.principal_*")]
    interest: Annotated[PortionDue, about("Interest", "m_loan_repayment_schedule.interest_*")]
    fees: Annotated[PortionDue, about("Fees", "m_loan_repayment_schedule.fee_charges_*")]
    penalties: Annotated[PortionDue, about("Penalties", "m_loan_repayment_schedule.penalty_charges_*")]
    total: Annotated[Totals, about("Sum of the four portions")]
    instalment: Annotated[Amount, about("Principal and interest")]
    balance_after: Annotated[Amount, about("Principal left after this instalment, if all is paid as planned")]
    paid_in_advance: Annotated[
        Amount,
        about("Of the payments, before the due date", "m_loan_repayment_schedule.total_paid_in_advance_derived"),
    ]
    paid_late: Annotated[
        Amount,
        about("Of the payments, after the due date", "m_loan_repayment_schedule.total_paid_late_derived"),
    ]
    complete: Annotated[bool, about("Nothing outstanding", "m_loan_repayment_schedule.completed_derived")]
    completed_on: Annotated[
        Day | None, about("Date it became complete", "m_loan_repayment_schedule.obligations_met_on_date")
    ] = None
    credits: Annotated[
        Amount | None,
        about(
            "Credited back: principal, fees, penalties",
            "m_loan_repayment_schedule.credits_amount + credited_fee + credited_penalty",
        ),
    ] = None
    additional: Annotated[
        bool | None, about("Added after the agreed term", "m_loan_repayment_schedule.is_additional")
    ] = None
    down_payment: Annotated[bool | None, about("Down payment", "m_loan_repayment_schedule.is_down_payment")] = None


class ScheduleTotals(Part):
    """Foot of the schedule: sums over its instalments, and the fees at pay-out where said."""

    days: Annotated[int, about("Sum of the periods", unit="days")]
    principal: Annotated[PrincipalDue, about("Principal")]
    interest: Annotated[PortionDue, about("Interest")]
    fees: Annotated[PortionDue, about("Fees of the instalments")]
    penalties: Annotated[PortionDue, about("Penalties")]
    fees_at_disbursement: Annotated[Amount, about("Fees due at pay-out, in no instalment")]
    disbursed: Annotated[Amount, about("Principal paid out")]
    expected: Annotated[Amount, about("Fees at pay-out and all instalments")]
    paid: Annotated[Amount, about("Paid, fees at pay-out included")]
    waived: Annotated[Amount, about("Waived on instalments")]
    written_off: Annotated[Amount, about("Written off on instalments")]
    outstanding: Annotated[Amount, about("Still to pay, unpaid fees at pay-out included")]


class LoanSchedule(ClientPart, tag="loan_schedule"):
    """Pay-outs and all instalments. Id `loan:{loan}:schedule`."""

    loan_id: Annotated[int, about("The loan", "m_loan.id")]
    currency: Annotated[Currency, about("Currency of every amount")]
    disbursements: Annotated[list[Disbursement], about("By date")]
    instalments: Annotated[list[Instalment], about("By number")]
    totals: Annotated[ScheduleTotals, about("Foot of the schedule")]


class InstalmentCharge(Part):
    """The share of an instalment fee that falls on one instalment."""

    number: Annotated[int, about("Instalment", "m_loan_repayment_schedule.installment")]
    due_on: Annotated[Day, about("Due date", "m_loan_repayment_schedule.duedate")]
    amount: Annotated[Amount, about("Charged", "m_loan_installment_charge.amount")]
    paid: Annotated[Amount, about("Paid", "m_loan_installment_charge.amount_paid_derived")]
    waived: Annotated[Amount, about("Waived", "m_loan_installment_charge.amount_waived_derived")]
    written_off: Annotated[Amount, about("Written off", "m_loan_installment_charge.amount_writtenoff_derived")]
    outstanding: Annotated[Amount, about("Still to pay", "m_loan_installment_charge.amount_outstanding_derived")]


class LoanCharge(Part):
    """A fee or penalty on the loan."""

    id: Annotated[int, about("Key of the charge", "m_loan_charge.id")]
    name: Annotated[str, about("Name of the charge", "m_charge.name")]
    penalty: Annotated[bool, about("Penalty (true) or fee", "m_loan_charge.is_penalty")]
    when: Annotated[str, about("What makes it due", "m_loan_charge.charge_time_enum", words=words.CHARGE_TIME)]
    calculation: Annotated[
        str, about("How it is calculated", "m_loan_charge.charge_calculation_enum", words=words.CHARGE_CALCULATION)
    ]
    amount: Annotated[Amount, about("Charged", "m_loan_charge.amount")]
    paid: Annotated[Amount, about("Paid", "m_loan_charge.amount_paid_derived")]
    waived: Annotated[Amount, about("Waived", "m_loan_charge.amount_waived_derived")]
    written_off: Annotated[Amount, about("Written off", "m_loan_charge.amount_writtenoff_derived")]
    outstanding: Annotated[Amount, about("Still to pay", "m_loan_charge.amount_outstanding_derived")]
    payment_mode: Annotated[
        str | None, about("How it is paid", "m_loan_charge.charge_payment_mode_enum", words=words.CHARGE_PAYMENT)
    ] = None
    due_on: Annotated[
        Day | None,
        about(
            "Due date; of a tranche charge, the day the tranche was paid out, or is expected to be",
            "m_loan_charge.due_for_collection_as_of_date, else m_loan_disbursement_detail.disbursedon_date, else "
            "expected_disburse_date",
        ),
    ] = None
    percentage: Annotated[Rate | None, about("When not flat", "m_loan_charge.calculation_percentage", "%")] = None
    calculated_on: Annotated[
        Amount | None, about("Base of the percentage", "m_loan_charge.calculation_on_amount")
    ] = None
    submitted_on: Annotated[Day | None, about("Booking date", "m_loan_charge.submitted_on_date")] = None
    instalments: Annotated[
        list[InstalmentCharge] | None, about("Split over the instalments, for an instalment fee")
    ] = None


class LoanCharges(ClientPart, tag="loan_charges"):
    """The loan's charges; those taken back are left out. Id `loan:{loan}:charges`."""

    loan_id: Annotated[int, about("The loan", "m_loan.id")]
    currency: Annotated[Currency, about("Currency of every amount")]
    charges: Annotated[list[LoanCharge], about("By key")]


class LoanTransaction(Part):
    """A movement of money on the loan."""

    id: Annotated[int, about("Key of the transaction", "m_loan_transaction.id")]
    type: Annotated[
        str, about("Kind of movement", "m_loan_transaction.transaction_type_enum", words=words.LOAN_TRANSACTION)
    ]
    on: Annotated[Day, about("Value date", "m_loan_transaction.transaction_date")]
    amount: Annotated[Amount, about("Amount", "m_loan_transaction.amount")]
    principal: Annotated[Amount, about("Of it, principal", "m_loan_transaction.principal_portion_derived")]
    interest: Annotated[Amount, about("Of it, interest", "m_loan_transaction.interest_portion_derived")]
    fees: Annotated[Amount, about("Of it, fees", "m_loan_transaction.fee_charges_portion_derived")]
    penalties: Annotated[Amount, about("Of it, penalties", "m_loan_transaction.penalty_charges_portion_derived")]
    overpayment: Annotated[
        Amount, about("Of it, more than was owed", "m_loan_transaction.overpayment_portion_derived")
    ]
    reversed: Annotated[bool, about("true when undone", "m_loan_transaction.is_reversed")]
    balance_after: Annotated[
        Amount | None,
        about("Principal outstanding afterwards", "m_loan_transaction.outstanding_loan_balance_derived"),
    ] = None
    reversed_on: Annotated[
        Day | None, about("Business date of the reversal", "m_loan_transaction.reversed_on_date")
    ] = None
    by_hand: Annotated[
        bool | None,
        about(
            "true when a person undid or adjusted it; an undone one without it was replaced by the core itself",
            "m_loan_transaction.manually_adjusted_or_reversed",
        ),
    ] = None
    submitted_on: Annotated[
        Day | None, about("Business date of booking", "m_loan_transaction.submitted_on_date")
    ] = None
    payment: Annotated[Payment | None, about("How it was paid")] = None


class LoanPageTotals(Part):
    """Sums over the page's transactions that are not reversed."""

    disbursed: Annotated[Amount, about("Paid out")]
    principal_repaid: Annotated[Amount, about("Principal in payments, less refunds of payments")]
    interest_repaid: Annotated[Amount, about("Interest, likewise")]
    fees_repaid: Annotated[Amount, about("Fees, likewise")]
    penalties_repaid: Annotated[Amount, about("Penalties, likewise")]


class LoanTransactions(ClientPart, tag="loan_transactions"):
    """The loan's transactions of one calendar year. Id `loan:{loan}:transactions:{yyyy}`.

    Accruals, branch transfers and other bookings of accounting alone are left out.
    """

    loan_id: Annotated[int, about("The loan", "m_loan.id")]
    currency: Annotated[Currency, about("Currency of every amount")]
    period: Annotated[str, about("Calendar year", unit="yyyy")]
    transactions: Annotated[list[LoanTransaction], about("In order of value date, booking, key")]
    totals: Annotated[LoanPageTotals, about("Sums of this page")]
