-- Add to what pending changes of scope brought and took away so far.
UPDATE scope_change AS change SET
    documents_added = coalesce(change.documents_added, 0) + t.added,
    documents_removed = coalesce(change.documents_removed, 0) + t.removed
FROM unnest(CAST(:ids AS bigint[]), CAST(:added AS integer[]), CAST(:removed AS integer[])) AS t (id, added, removed)
WHERE change.id = t.id AND change.carried_out_at IS NULL
