-- How instalment fees fall on the instalments.
SELECT {columns}
FROM m_loan_installment_charge ic
JOIN m_loan_charge lc ON lc.id = ic.loan_charge_id
JOIN m_loan l ON l.id = lc.loan_id
JOIN m_loan_repayment_schedule s ON s.id = ic.loan_schedule_id
WHERE l.client_id IN :clients AND l.loan_status_id IN :loan_statuses
