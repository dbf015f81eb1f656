-- Somebody signed in here; of the places where they did, the newest so many are kept.
WITH oldest AS MATERIALIZED (
    SELECT principal, place FROM familiar_place
    WHERE principal = :principal AND place <> :place
    ORDER BY seen_at DESC, place
    OFFSET :others
),
unlocked AS MATERIALIZED (
    -- A row that another sign-in holds is being renewed, and not among the oldest any more.
    SELECT principal, place FROM familiar_place JOIN oldest USING (principal, place)
    FOR UPDATE OF familiar_place SKIP LOCKED
),
gone AS (
    DELETE FROM familiar_place AS known USING unlocked
    WHERE known.principal = unlocked.principal AND known.place = unlocked.place
)
INSERT INTO familiar_place AS known (principal, place, seen_at)
VALUES (:principal, :place, coalesce(CAST(:at AS timestamptz), statement_timestamp()))
ON CONFLICT (principal, place) DO UPDATE SET seen_at = greatest(known.seen_at, excluded.seen_at)
