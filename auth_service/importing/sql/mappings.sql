-- Which clients a user of self-service sees. Rows stay behind when a user is deleted or disabled.
SELECT m.appuser_id AS user_id, m.client_id AS client_id
FROM m_selfservice_user_client_mapping m
ORDER BY m.appuser_id, m.client_id
