-- Note writes that followed the recorded revision: that one becomes the first of the ancestors.
INSERT INTO projected_document AS known
    (person_id, document_id, client_id, digest, revision, ancestors, deleted, as_of)
SELECT t.person, t.document, t.client, t.digest, t.revision, '{}', t.deleted, t.as_of
FROM unnest(
    CAST(:people AS text[]), CAST(:documents AS text[]), CAST(:clients AS bigint[]), CAST(:digests AS bytea[]),
    CAST(:revisions AS text[]), CAST(:ancestors AS text[]), CAST(:deleted AS boolean[]),
    CAST(:as_of AS timestamptz[])
) AS t (person, document, client, digest, revision, ancestors, deleted, as_of)
-- A person who was erased meanwhile has no row to refer to.
WHERE EXISTS (SELECT 1 FROM person WHERE person.id = t.person)
ON CONFLICT (person_id, document_id) DO UPDATE SET
    client_id = excluded.client_id,
    digest = excluded.digest,
    revision = excluded.revision,
    ancestors = (split_part(known.revision, '-', 2) || known.ancestors)[1:CAST(:kept AS integer)],
    deleted = excluded.deleted,
    as_of = excluded.as_of
WHERE known.as_of <= excluded.as_of AND known.revision <> excluded.revision
