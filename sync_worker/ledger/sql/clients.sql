-- The clients of a batch, whatever their status, with the labels that their row points to.
SELECT {columns}
FROM m_client c
LEFT JOIN m_office o ON o.id = c.office_id
LEFT JOIN m_code_value gender ON gender.id = c.gender_cv_id
LEFT JOIN m_image i ON i.id = c.image_id
WHERE c.id IN :clients
