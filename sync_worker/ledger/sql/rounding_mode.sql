-- How the core rounds amounts: the number of a rounding mode.
SELECT value FROM c_configuration WHERE name = 'rounding-mode'
