-- Columns that may be read of the tables of users. Names are aliased since MySQL answers them in capitals.
SELECT table_name AS table_name, column_name AS column_name
FROM information_schema.columns
WHERE table_schema = :schema AND table_name IN :tables
