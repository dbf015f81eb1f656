-- Changes of scope that were carried out; one for which nothing was counted moved no document. Done they are unless old
-- bodies of what was taken away are still to be thrown away.
UPDATE scope_change AS change SET
    carried_out_at = now(),
    done_at = CASE WHEN person.compaction_due THEN NULL ELSE now() END,
    documents_added = coalesce(change.documents_added, 0),
    documents_removed = coalesce(change.documents_removed, 0),
    clients_failed = t.failed
FROM unnest(CAST(:ids AS bigint[]), CAST(:failed AS integer[])) AS t (id, failed), person
WHERE change.id = t.id AND person.id = change.person_id AND change.carried_out_at IS NULL
