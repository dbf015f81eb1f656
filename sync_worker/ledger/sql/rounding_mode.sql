-- How the core rounds amounts: the number of a rounding mode, if the institution has switched one on.
SELECT value FROM c_configuration WHERE name = 'rounding-mode' AND enabled
