-- Columns of the tables that Passbook reads. Names are aliased since MySQL answers them in capitals.
SELECT table_name AS table_name, column_name AS column_name, data_type AS data_type
FROM information_schema.columns
WHERE table_schema = :schema AND table_name IN :tables
