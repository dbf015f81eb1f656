-- Savings and deposit accounts that a device may hold. The extra rows of deposits are one to one; should a
-- ledger hold two, the first counts.
SELECT {columns}
FROM m_savings_account a
LEFT JOIN m_savings_product p ON p.id = a.product_id
LEFT JOIN m_deposit_account_term_and_preclosure dt ON dt.savings_account_id = a.id
LEFT JOIN m_deposit_account_recurring_detail dr ON dr.savings_account_id = a.id
WHERE a.client_id IN :clients AND a.status_enum IN :savings_statuses
ORDER BY a.id, dt.id, dr.id
