-- Copies that a pass found complete. Those that a whole pass finds as they were are left alone: its own time tells.
INSERT INTO completeness (person_id, state, as_of)
SELECT t.person, 'complete', CAST(:as_of AS timestamptz)
FROM unnest(CAST(:people AS text[])) AS t (person)
-- A person who was erased meanwhile has no row to refer to.
WHERE EXISTS (SELECT 1 FROM person WHERE person.id = t.person)
    AND NOT EXISTS (
        SELECT 1 FROM completeness AS known
        WHERE :whole AND known.person_id = t.person AND known.state = 'complete' AND known.as_of <= :as_of
    )
ORDER BY t.person
ON CONFLICT (person_id) DO UPDATE SET state = excluded.state, as_of = excluded.as_of
