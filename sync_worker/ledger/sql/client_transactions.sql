-- Payments and waivers of client charges. payment_detail_id has no foreign key, so the detail may be gone.
SELECT {columns}
FROM m_client_transaction t
LEFT JOIN m_payment_detail pd ON pd.id = t.payment_detail_id
LEFT JOIN m_payment_type pt ON pt.id = pd.payment_type_id
WHERE t.client_id IN :clients
