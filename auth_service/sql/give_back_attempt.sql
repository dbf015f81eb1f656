-- Take one attempt off these buckets, as if it had not been made. Locked in the order in which they were charged.
WITH mine AS MATERIALIZED (
    SELECT bucket, CAST(
        CASE WHEN bucket = CAST(:account AS bytea) THEN :account_free ELSE :pair_free END AS double precision
    ) AS free
    FROM sign_in_counter
    WHERE bucket = ANY(CAST(:buckets AS bytea[]))
    ORDER BY bucket
    FOR UPDATE
)
UPDATE sign_in_counter AS counter SET
    level = greatest(0, counter.level - 1),
    -- A wait that this attempt alone began goes with it; one that others have earned stays.
    blocked_until = CASE WHEN NOT :undo AND round(counter.level) > mine.free THEN counter.blocked_until END
FROM mine
WHERE counter.bucket = mine.bucket
