-- The current schedule.
SELECT {columns}
FROM m_loan_repayment_schedule s
JOIN m_loan l ON l.id = s.loan_id
WHERE l.client_id IN :clients AND l.loan_status_id IN :loan_statuses
