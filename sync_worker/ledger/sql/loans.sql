-- Loans that a device may hold. Loans of a group alone have no client and are nobody's own.
SELECT {columns}
FROM m_loan l
LEFT JOIN m_product_loan p ON p.id = l.product_id
LEFT JOIN m_code_value purpose ON purpose.id = l.loanpurpose_cv_id
WHERE l.client_id IN :clients AND l.loan_status_id IN :loan_statuses
