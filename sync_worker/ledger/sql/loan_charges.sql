-- Fees and penalties on loans; a tranche charge is due when its tranche is paid out.
SELECT {columns}
FROM m_loan_charge lc
JOIN m_loan l ON l.id = lc.loan_id
JOIN m_charge ch ON ch.id = lc.charge_id
LEFT JOIN m_loan_tranche_disbursement_charge td ON td.loan_charge_id = lc.id
LEFT JOIN m_loan_disbursement_detail d ON d.id = td.disbursement_detail_id
WHERE l.client_id IN :clients AND l.loan_status_id IN :loan_statuses
