-- Movements on loans, undone ones included, those of accounting alone left out.
SELECT {columns}
FROM m_loan_transaction t
JOIN m_loan l ON l.id = t.loan_id
LEFT JOIN m_payment_detail pd ON pd.id = t.payment_detail_id
LEFT JOIN m_payment_type pt ON pt.id = pd.payment_type_id
WHERE l.client_id IN :clients AND l.loan_status_id IN :loan_statuses
  AND t.transaction_type_enum NOT IN :hidden_loan_transactions
