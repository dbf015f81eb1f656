-- The tables that the current user of a PostgreSQL ledger may write, in any column.
SELECT class.relname
FROM pg_class AS class
WHERE class.relnamespace = CAST(current_schema() AS regnamespace) AND class.relkind IN ('r', 'p')
    AND (has_table_privilege(class.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
        OR has_any_column_privilege(class.oid, 'INSERT, UPDATE'))
ORDER BY class.relname
