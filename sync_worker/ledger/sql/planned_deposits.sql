-- The plans of recurring deposits.
SELECT {columns}
FROM m_mandatory_savings_schedule ms
JOIN m_savings_account a ON a.id = ms.savings_account_id
WHERE a.client_id IN :clients AND a.status_enum IN :savings_statuses
