-- The day the books are on; read only where the institution moves it itself.
SELECT d.date
FROM m_business_date d
WHERE d.type = 'BUSINESS_DATE'
