-- Whether the institution moves its business date itself.
SELECT 1
FROM c_configuration s
WHERE s.name = 'enable-business-date' AND s.enabled
