-- Movements on savings accounts, undone ones included, those of accounting alone left out.
SELECT {columns}
FROM m_savings_account_transaction t
JOIN m_savings_account a ON a.id = t.savings_account_id
LEFT JOIN m_payment_detail pd ON pd.id = t.payment_detail_id
LEFT JOIN m_payment_type pt ON pt.id = pd.payment_type_id
WHERE a.client_id IN :clients AND a.status_enum IN :savings_statuses
  AND t.transaction_type_enum NOT IN :hidden_savings_transactions
