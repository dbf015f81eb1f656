-- What the current user may do with each column of each table here. Rows can only be removed whole: column ''.
SELECT class.relname AS "table", attribute.attname AS "column", privilege.name AS privilege
FROM pg_class AS class
JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid AND attribute.attnum > 0 AND NOT attribute.attisdropped
CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE')) AS privilege (name)
WHERE class.relnamespace = CAST(current_schema() AS regnamespace) AND class.relkind IN ('r', 'p')
    AND has_column_privilege(class.oid, attribute.attnum, privilege.name)
UNION ALL
SELECT class.relname, '', 'DELETE'
FROM pg_class AS class
WHERE class.relnamespace = CAST(current_schema() AS regnamespace) AND class.relkind IN ('r', 'p')
    AND has_table_privilege(class.oid, 'DELETE')
