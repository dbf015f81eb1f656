-- The world's currencies.
SELECT {columns}
FROM m_currency cur
