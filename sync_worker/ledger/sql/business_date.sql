-- The day the books are on; read only where the institution moves it itself.
SELECT date FROM m_business_date WHERE type = 'BUSINESS_DATE'
