-- Who writes documents to people's databases says so, in the transaction that notes what was written: gateways wake
-- the devices that wait. `written` is the net under the notice: whoever lost one finds there another time than the
-- one they were told. It is the transaction's own time, one for all that it wrote; whoever commits last leaves theirs.

CREATE FUNCTION passbook_tell_written() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    told_at text := to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
    batch text;
BEGIN
    INSERT INTO written (person_id, at)
        SELECT person_id, now() FROM (SELECT DISTINCT person_id FROM changed ORDER BY person_id) AS one
        WHERE EXISTS (SELECT FROM person WHERE person.id = one.person_id)
        ON CONFLICT (person_id) DO UPDATE SET at = excluded.at;
    -- A notice holds 8,000 bytes at most; an id has 39, and 70 leave room.
    FOR batch IN
        SELECT string_agg(person_id, ' ')
        FROM (SELECT person_id, row_number() OVER () / 70 AS part FROM (SELECT DISTINCT person_id FROM changed) AS p)
            AS parted
        GROUP BY part
    LOOP
        PERFORM pg_notify('passbook_written', told_at || ' ' || batch);
    END LOOP;
    RETURN NULL;
END $$;

CREATE TRIGGER tell_written_new AFTER INSERT ON projected_document
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION passbook_tell_written();
CREATE TRIGGER tell_written AFTER UPDATE ON projected_document
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION passbook_tell_written();
