-- Places from which somebody has not signed in for long.
WITH clock AS MATERIALIZED (
    SELECT coalesce(CAST(:at AS timestamptz), statement_timestamp()) AS at
),
gone AS MATERIALIZED (
    SELECT principal, place
    FROM familiar_place AS known, clock
    WHERE known.seen_at <= clock.at - make_interval(days => :familiar_days)
    FOR UPDATE OF known SKIP LOCKED
)
DELETE FROM familiar_place AS known USING gone
WHERE known.principal = gone.principal AND known.place = gone.place
