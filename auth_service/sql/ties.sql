-- Who made an administrator, reset their password, gave them a role or let them in again since :since. Where one asked
-- and another approved, both.
WITH told AS (
    SELECT at, actor, event, detail::jsonb AS detail
    FROM audit_event
    WHERE event IN ('AdministratorCreated', 'AdministratorPasswordReset', 'AdministratorChanged')
        AND actor_kind = 'administrator'
        AND at > :since
),
given AS (
    SELECT at, actor, detail ->> 'asked_by' AS asked_by, detail ->> 'administrator' AS made
    FROM told
    WHERE event <> 'AdministratorChanged'
        OR detail -> 'changed' ->> 'role' IS NOT NULL
        OR detail -> 'changed' ->> 'state' = 'active'
)
SELECT at, actor AS maker, made FROM given WHERE actor <> made
UNION ALL
SELECT at, asked_by AS maker, made FROM given WHERE asked_by IS NOT NULL AND asked_by <> made
