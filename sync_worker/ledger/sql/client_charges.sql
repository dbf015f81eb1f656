-- Fees and penalties put on the clients themselves.
SELECT {columns}
FROM m_client_charge cc
JOIN m_charge ch ON ch.id = cc.charge_id
WHERE cc.client_id IN :clients
