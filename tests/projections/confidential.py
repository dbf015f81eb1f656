"""What must never reach a device: columns of the core ledger that are confidential, by table.

Who did what inside the institution, staff, remarks, reasons and risk classes, accounting, internal references,
settings, credentials, other people, places of files. `EVERY` stands for a whole table. From the documentation of
Fineract's schema as of October 2024, as Passbook judges it.
"""

from __future__ import annotations

EVERY = "*"


def _columns(names: str) -> frozenset[str]:
    return frozenset(names.split())


NEVER: dict[str, frozenset[str]] = {
    "m_client": _columns(
        """
        external_id sub_status transfer_to_office_id staff_id is_staff closure_reason_cv_id updated_by
        updated_on activatedon_userid closedon_userid default_savings_product client_type_cv_id
        client_classification_cv_id reject_reason_cv_id rejectedon_date rejectedon_userid
        withdraw_reason_cv_id withdrawn_on_date withdraw_on_userid reactivated_on_date reactivated_on_userid
        reopened_on_date reopened_by_userid proposed_transfer_date created_on_utc created_by
        last_modified_by last_modified_on_utc
        """
    ),
    "m_client_identifier": _columns(
        """
        document_key status active description created_by last_modified_by created_date lastmodified_date
        created_on_utc last_modified_on_utc
        """
    ),
    "m_client_transaction": _columns(
        """
        external_id created_date created_on_utc created_by last_modified_by last_modified_on_utc
        """
    ),
    "m_image": _columns("location storage_type_enum"),
    "m_loan": _columns(
        """
        external_id fund_id loan_officer_id arrearstolerance_amount
        allow_partial_period_interest_calcualtion approvedon_userid disbursedon_userid closedon_userid
        rejectedon_date rejectedon_userid rescheduledon_userid withdrawnon_userid
        loan_transaction_strategy_id sync_disbursement_with_meeting loan_counter loan_product_counter
        grace_on_arrears_ageing is_npa total_recovered_derived accrued_till interest_recalcualated_on
        version writeoff_reason_cv_id created_on_utc created_by last_modified_by last_modified_on_utc
        is_fraud loan_transaction_strategy_code loan_transaction_strategy_name last_closed_business_date
        is_charged_off charged_off_on_date charge_off_reason_cv_id charged_off_by_userid
        enable_installment_level_delinquency enable_accrual_activity_posting loan_schedule_processing_type
        supported_interest_refund_types
        """
    ),
    "m_loan_repayment_schedule": _columns(
        """
        accrual_interest_derived reschedule_interest_portion accrual_fee_charges_derived
        accrual_penalty_charges_derived created_by created_date lastmodified_date last_modified_by
        recalculated_interest_component created_on_utc last_modified_on_utc
        """
    ),
    "m_loan_transaction": _columns(
        """
        external_id unrecognized_income_portion created_date created_by last_modified_by created_on_utc
        last_modified_on_utc charge_refund_charge_type reversal_external_id
        """
    ),
    "m_loan_transaction_relation": _columns("created_by created_on_utc last_modified_by last_modified_on_utc"),
    "m_loan_charge": _columns("external_id created_on_utc last_modified_on_utc created_by last_modified_by"),
    "m_loan_installment_charge": _columns("amount_through_charge_payment"),
    "m_loan_status_change_history": _columns("created_by last_modified_by created_on_utc last_modified_on_utc"),
    "m_loan_repayment_schedule_history": _columns(
        """
        createdby_id created_date lastmodified_date lastmodifiedby_id created_on_utc last_modified_on_utc
        """
    ),
    "m_loan_reschedule_request": frozenset({EVERY}),
    "m_loan_term_variations": _columns("applied_on_loan_status"),
    "m_loan_account_locks": _columns(
        """
        lock_owner error version stacktrace lock_placed_on lock_placed_on_cob_business_date
        """
    ),
    "m_loan_delinquency_tag_history": frozenset({EVERY}),
    "m_savings_account": _columns(
        """
        external_id field_officer_id submittedon_userid approvedon_userid rejectedon_date rejectedon_userid
        withdrawnon_userid activatedon_userid closedon_userid start_interest_calculation_date version
        tax_group_id reason_for_block max_allowed_lien_limit is_lien_allowed created_by last_modified_by
        created_on_utc last_modified_on_utc
        """
    ),
    "m_savings_account_transaction": _columns(
        """
        balance_end_date_derived balance_number_of_days_derived cumulative_balance_derived created_date
        created_by is_manual is_loan_disbursement ref_no reason_for_block last_modified_by created_on_utc
        last_modified_on_utc
        """
    ),
    "m_savings_account_charge": _columns(
        """
        free_withdrawal_count charge_reset_date created_by last_modified_by created_on_utc
        last_modified_on_utc
        """
    ),
    "m_savings_product": _columns(
        """
        accounting_type withdrawal_fee_amount withdrawal_fee_type_enum
        min_overdraft_for_interest_calculation tax_group_id is_dormancy_tracking_active days_to_inactive
        days_to_dormancy days_to_escheat max_allowed_lien_limit is_lien_allowed
        """
    ),
    "m_deposit_account_recurring_detail": _columns("is_calendar_inherited"),
    "m_mandatory_savings_schedule": _columns(
        """
        created_by created_date lastmodified_date last_modified_by created_on_utc last_modified_on_utc
        """
    ),
    "m_deposit_account_on_hold_transaction": _columns(
        """
        created_date created_by last_modified_by created_on_utc last_modified_on_utc
        """
    ),
    "m_savings_account_transaction_tax_details": _columns("tax_component_id"),
    "m_share_account": _columns(
        """
        external_id submitted_userid approved_userid rejected_date rejected_userid activated_userid
        closed_userid allow_dividends_inactive_clients created_date lastmodifiedby_id lastmodified_date
        """
    ),
    "m_share_product": _columns(
        """
        external_id total_shares issued_shares totalsubscribed_shares capital_amount
        allow_dividends_inactive_clients createdby_id created_date lastmodifiedby_id lastmodified_date
        accounting_type
        """
    ),
    "m_charge": _columns("is_deleted is_payment_type payment_type_id income_or_liability_account_id tax_group_id"),
    "m_code": _columns("is_system_defined"),
    "m_code_value": _columns("code_score is_mandatory"),
    "m_office": _columns("parent_id hierarchy external_id"),
    "m_staff": _columns(
        """
        is_loan_officer office_id firstname lastname display_name mobile_no external_id
        organisational_role_enum organisational_role_parent_staff_id is_active joining_date image_id
        email_address
        """
    ),
    "m_payment_type": _columns("is_cash_payment order_position code_name is_system_defined"),
    "m_note": frozenset({EVERY}),
    "m_guarantor": _columns(
        """
        entity_id dob address_line_1 address_line_2 city state country zip house_phone_number mobile_number
        comment
        """
    ),
    "m_portfolio_account_associations": _columns("association_type_enum is_active"),
    "m_account_transfer_details": _columns("from_office_id to_office_id"),
    "m_product_loan": _columns(
        """
        arrearstolerance_amount fund_id allow_variabe_installments allow_partial_period_interest_calcualtion
        accounting_type loan_transaction_strategy_id external_id include_in_borrower_cycle
        use_borrower_cycle grace_on_arrears_ageing overdue_days_for_npa hold_guarantee_funds
        principal_threshold_for_last_installment account_moves_out_of_npa_only_on_arrears_completion
        sync_expected_with_disbursement_date disallow_expected_disbursements
        allow_approved_disbursed_amounts_over_applied over_applied_calculation_type over_applied_number
        delinquency_bucket_id loan_transaction_strategy_code loan_transaction_strategy_name
        due_days_for_repayment_event overdue_days_for_repayment_event enable_installment_level_delinquency
        enable_accrual_activity_posting loan_schedule_processing_type supported_interest_refund_types
        """
    ),
    "m_appuser": _columns(
        """
        is_deleted office_id staff_id password firsttime_login_remaining nonexpired nonlocked
        nonexpired_credentials enabled last_time_password_updated password_never_expires
        is_self_service_user cannot_change_password
        """
    ),
    "m_appuser_role": frozenset({EVERY}),
    "m_role": frozenset({EVERY}),
    "m_permission": frozenset({EVERY}),
    "m_role_permission": frozenset({EVERY}),
    "m_selfservice_beneficiaries_tpt": _columns("client_id account_id"),
    "request_audit_table": frozenset({EVERY}),
    "client_device_registration": _columns("updatedon_date registration_id"),
    "m_group": _columns(
        """
        external_id staff_id hierarchy closure_reason_cv_id activatedon_userid submittedon_userid
        closedon_userid
        """
    ),
    "m_group_level": _columns("parent_id super_parent recursable can_have_clients"),
    "m_portfolio_command_source": frozenset({EVERY}),
    "m_external_event": frozenset({EVERY}),
    "m_external_event_configuration": frozenset({EVERY}),
    "m_hook": frozenset({EVERY}),
    "m_hook_configuration": frozenset({EVERY}),
    "m_hook_registered_events": frozenset({EVERY}),
    "m_business_date": _columns(
        """
        id type created_by created_date version last_modified_by lastmodified_date created_on_utc
        last_modified_on_utc
        """
    ),
    "c_configuration": frozenset({EVERY}),
    "m_address": _columns("latitude longitude created_by created_on updated_by updated_on"),
    "m_family_members": _columns(
        """
        id firstname middlename lastname qualification relationship_cv_id marital_status_cv_id gender_cv_id
        date_of_birth age profession_cv_id mobile_number is_dependent
        """
    ),
    "m_client_non_person": _columns("remarks"),
    "m_document": frozenset({EVERY}),
    "m_survey_scorecards": _columns("user_id created_on"),
    "job_run_history": frozenset({EVERY}),
}
