-- Counters that make no difference any more: no wait runs, the bucket is empty, less than half a failure is left.
-- A row that is being counted on stays: the sweep waits for nobody.
WITH clock AS MATERIALIZED (
    SELECT coalesce(CAST(:at AS timestamptz), statement_timestamp()) AS at
),
gone AS MATERIALIZED (
    SELECT bucket
    FROM sign_in_counter AS counter, clock
    WHERE counter.updated_at < clock.at - make_interval(secs => :settled)
        AND (counter.blocked_until IS NULL OR counter.blocked_until <= clock.at)
        AND counter.level * power(
            0.5, least(100, extract(
                epoch FROM clock.at - greatest(counter.updated_at, counter.blocked_until)) / :half_life)) < 0.5
    FOR UPDATE OF counter SKIP LOCKED
)
DELETE FROM sign_in_counter AS counter USING gone WHERE counter.bucket = gone.bucket
