-- Changes of scope that were carried out; one for which nothing was counted moved no document.
UPDATE scope_change AS change SET
    done_at = now(),
    documents_added = coalesce(change.documents_added, 0),
    documents_removed = coalesce(change.documents_removed, 0),
    clients_failed = t.failed
FROM unnest(CAST(:ids AS bigint[]), CAST(:failed AS integer[])) AS t (id, failed)
WHERE change.id = t.id AND change.done_at IS NULL
