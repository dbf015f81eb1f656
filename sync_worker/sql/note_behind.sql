-- Copies of which some client could not be copied. They keep the time up to which they were complete, unless their
-- scope changed: then there is none.
INSERT INTO completeness AS known (person_id, state, as_of)
SELECT t.person, 'behind', NULL
FROM unnest(CAST(:people AS text[])) AS t (person)
WHERE EXISTS (SELECT 1 FROM person WHERE person.id = t.person)
    AND NOT EXISTS (
        SELECT 1 FROM completeness AS other
        WHERE other.person_id = t.person AND other.state <> 'complete'
            AND NOT (other.state = 'behind' AND other.as_of IS NOT NULL AND t.person = ANY(CAST(:changed AS text[])))
    )
ORDER BY t.person
ON CONFLICT (person_id) DO UPDATE SET
    state = excluded.state,
    as_of = CASE
        WHEN known.person_id = ANY(CAST(:changed AS text[])) THEN NULL
        WHEN known.state = 'complete' THEN greatest(known.as_of, (SELECT as_of FROM whole_pass))
        ELSE known.as_of
    END
