-- One attempt to sign in: decide, and count it, in one statement.
--
-- An attempt counts as failed from here on, and is given back if it turns out well: guesses made in parallel are all
-- counted before the first is answered. What is refused writes nothing (but once a minute that it was), so that a
-- flood finds no row to lock and repeating during a wait does not lengthen it.
--
-- Rows are decided twice. `standing` looks at them as they are when the statement begins. The two inserts look again
-- at each row under its lock, whatever another process did meanwhile, and leave out those that are full by now; the
-- caller sees that fewer were `charged` than `wanted`, gives back and repeats. Rows are locked in one order.
--
-- The time is given by tests alone: the database's clock is the one that all processes share.
WITH clock AS MATERIALIZED (
    SELECT coalesce(CAST(:at AS timestamptz), statement_timestamp()) AS at
),
known AS MATERIALIZED (
    SELECT EXISTS (
        SELECT FROM familiar_place
        WHERE principal = CAST(:principal AS text) AND place = CAST(:place AS bytea)
            AND seen_at > clock.at - make_interval(days => :familiar_days)
    ) AS familiar
    FROM clock
),
-- Failures: so many are free, then waits of 1, 2, 4 … seconds.
account_rule (kind, bucket, free) AS (
    SELECT 'pair', CAST(:pair AS bytea), CAST(:pair_free AS double precision)
    UNION ALL
    SELECT 'account', CAST(:account AS bytea), CAST(:account_free AS double precision)
    FROM known WHERE NOT familiar
),
-- Attempts: a bucket that holds `burst` and loses `rate` a second.
flow_rule (kind, bucket, burst, rate) AS (
    SELECT kind, bucket, burst, rate
    FROM known JOIN (VALUES
        (true, 'habit', CAST(:habit AS bytea),
            CAST(:habit_burst AS double precision), CAST(:habit_rate AS double precision)),
        (false, 'address', CAST(:address AS bytea),
            CAST(:address_burst AS double precision), CAST(:address_rate AS double precision)),
        (false, 'everybody', CAST(:everybody AS bytea),
            CAST(:everybody_burst AS double precision), CAST(:everybody_rate AS double precision))
    ) AS rule (familiar, kind, bucket, burst, rate) USING (familiar)
),
standing AS MATERIALIZED (
    SELECT kind, bucket, wait
    FROM (
        SELECT kind, bucket, extract(epoch FROM counter.blocked_until - clock.at) AS wait
        FROM clock, account_rule JOIN sign_in_counter AS counter USING (bucket)
        UNION ALL
        SELECT kind, bucket,
            (1 - burst + greatest(0, counter.level - rate * greatest(
                0, extract(epoch FROM clock.at - counter.updated_at)))) / rate
        FROM clock, flow_rule JOIN sign_in_counter AS counter USING (bucket)
    ) AS rule
    WHERE wait > 1e-6
    ORDER BY wait DESC
    LIMIT 1
),
charged_account AS (
    INSERT INTO sign_in_counter AS counter (bucket, level, blocked_until, updated_at)
    SELECT bucket, 1, CASE WHEN free <= 1 THEN clock.at + make_interval(secs => 1) END, clock.at
    FROM account_rule, clock
    WHERE NOT EXISTS (SELECT FROM standing)
    ORDER BY bucket
    ON CONFLICT (bucket) DO UPDATE SET (level, blocked_until, updated_at) = (
        SELECT
            next.level,
            -- Rounded: a fifth failure is the fifth although the first has faded a little.
            CASE WHEN round(next.level) >= next.free THEN excluded.updated_at
                + make_interval(secs => least(:longest, power(2, round(next.level) - next.free))) END,
            greatest(counter.updated_at, excluded.updated_at)
        FROM (
            SELECT rule.free, least(
                -- Forgotten from the end of the wait on: who comes back at its end has earned the next. Not more
                -- than 100 half-lives: PostgreSQL has an error where a power becomes 0.
                1 + counter.level * power(0.5, least(100, greatest(0, extract(
                    epoch FROM excluded.updated_at - greatest(counter.updated_at, counter.blocked_until)
                )) / :half_life)),
                -- More would only take longer to be forgotten: the wait is the longest already.
                rule.free + ceil(log(2.0, CAST(:longest AS numeric)))
            ) AS level
            FROM account_rule AS rule WHERE rule.bucket = counter.bucket
        ) AS next
    )
    WHERE counter.blocked_until IS NULL OR counter.blocked_until <= excluded.updated_at
    RETURNING bucket
),
charged_flow AS (
    INSERT INTO sign_in_counter AS counter (bucket, level, updated_at)
    SELECT bucket, 1, clock.at
    FROM flow_rule, clock
    WHERE (SELECT count(*) FROM charged_account) = (SELECT count(*) FROM account_rule)
        AND NOT EXISTS (SELECT FROM standing)
    ORDER BY bucket
    ON CONFLICT (bucket) DO UPDATE SET (level, updated_at) = (
        SELECT
            1 + greatest(0, counter.level - rule.rate * greatest(
                0, extract(epoch FROM excluded.updated_at - counter.updated_at))),
            greatest(counter.updated_at, excluded.updated_at)
        FROM flow_rule AS rule WHERE rule.bucket = counter.bucket
    )
    WHERE 1e-6 + (SELECT rule.burst FROM flow_rule AS rule WHERE rule.bucket = counter.bucket) >= 1 + greatest(
        0,
        counter.level - (SELECT rule.rate FROM flow_rule AS rule WHERE rule.bucket = counter.bucket)
            * greatest(0, extract(epoch FROM excluded.updated_at - counter.updated_at)))
    RETURNING bucket
),
charged AS (
    SELECT bucket FROM charged_account UNION ALL SELECT bucket FROM charged_flow
),
-- Beside the bucket stands until when its refusals have been told: the audit log has one a minute, not each.
told AS (
    INSERT INTO sign_in_counter AS counter (bucket, level, blocked_until, updated_at)
    SELECT bucket || CAST('!' AS bytea), 0, clock.at + make_interval(secs => greatest(wait, :told)), clock.at
    FROM standing, clock
    WHERE NOT EXISTS (
        SELECT FROM sign_in_counter AS before
        WHERE before.bucket = standing.bucket || CAST('!' AS bytea) AND before.blocked_until > clock.at
    )
    ON CONFLICT (bucket) DO UPDATE SET blocked_until = excluded.blocked_until, updated_at = excluded.updated_at
    WHERE counter.blocked_until <= excluded.updated_at
    RETURNING bucket
)
SELECT
    (SELECT familiar FROM known) AS familiar,
    (SELECT kind FROM standing) AS refused_by,
    CAST((SELECT wait FROM standing) AS double precision) AS wait,
    EXISTS (SELECT FROM told) AS began,
    (SELECT count(*) FROM account_rule) + (SELECT count(*) FROM flow_rule) AS wanted,
    CAST(ARRAY(SELECT bucket FROM charged) AS bytea[]) AS charged
