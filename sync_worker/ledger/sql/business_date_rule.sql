-- Whether the institution moves its business date itself.
SELECT 1 FROM c_configuration WHERE name = 'enable-business-date' AND enabled
