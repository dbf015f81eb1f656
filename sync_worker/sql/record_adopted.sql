-- Note documents as CouchDB has them, with the history it told: after a crash, a repair, or another writer.
INSERT INTO projected_document AS known
    (person_id, document_id, client_id, digest, revision, ancestors, deleted, as_of)
SELECT t.person, t.document, t.client, t.digest, t.revision,
       (string_to_array(t.ancestors, ','))[1:CAST(:kept AS integer)], t.deleted, t.as_of
FROM unnest(
    CAST(:people AS text[]), CAST(:documents AS text[]), CAST(:clients AS bigint[]), CAST(:digests AS bytea[]),
    CAST(:revisions AS text[]), CAST(:ancestors AS text[]), CAST(:deleted AS boolean[]),
    CAST(:as_of AS timestamptz[])
) AS t (person, document, client, digest, revision, ancestors, deleted, as_of)
WHERE EXISTS (SELECT 1 FROM person WHERE person.id = t.person)
ON CONFLICT (person_id, document_id) DO UPDATE SET
    client_id = excluded.client_id,
    digest = excluded.digest,
    revision = excluded.revision,
    ancestors = excluded.ancestors,
    deleted = excluded.deleted,
    as_of = excluded.as_of
WHERE known.as_of <= excluded.as_of
