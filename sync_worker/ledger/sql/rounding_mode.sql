-- How the core rounds amounts: the number of a rounding mode, if the institution has switched one on.
SELECT s.value
FROM c_configuration s
WHERE s.name = 'rounding-mode' AND s.enabled
