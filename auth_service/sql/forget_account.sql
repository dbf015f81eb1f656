-- Everything counted for one account, wherever it was tried from: its keys begin with its digest.
WITH gone AS MATERIALIZED (
    SELECT bucket FROM sign_in_counter
    WHERE bucket >= CAST(:account AS bytea) AND bucket < CAST(:after AS bytea)
    ORDER BY bucket
    FOR UPDATE
)
DELETE FROM sign_in_counter AS counter USING gone WHERE counter.bucket = gone.bucket
