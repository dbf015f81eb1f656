-- Fees and penalties on savings accounts.
SELECT {columns}
FROM m_savings_account_charge sc
JOIN m_savings_account a ON a.id = sc.savings_account_id
JOIN m_charge ch ON ch.id = sc.charge_id
WHERE a.client_id IN :clients AND a.status_enum IN :savings_statuses
