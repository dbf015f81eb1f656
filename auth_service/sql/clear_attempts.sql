-- The password was right: nothing is held against this account at this place any more.
WITH gone AS MATERIALIZED (
    SELECT bucket FROM sign_in_counter
    WHERE bucket IN (CAST(:pair AS bytea), CAST(:pair AS bytea) || CAST('!' AS bytea))
    ORDER BY bucket
    FOR UPDATE
)
DELETE FROM sign_in_counter AS counter USING gone WHERE counter.bucket = gone.bucket
