-- Tranches; products without tranches have no rows here.
SELECT {columns}
FROM m_loan_disbursement_detail d
JOIN m_loan l ON l.id = d.loan_id
WHERE l.client_id IN :clients AND l.loan_status_id IN :loan_statuses
