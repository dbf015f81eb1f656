-- The currencies the institution uses, with digits and sign of its own.
SELECT {columns}
FROM m_organisation_currency cur
