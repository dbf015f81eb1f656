-- Whoever changes what decides about access tells every gateway and worker, in the same transaction: no program,
-- and nobody with a prompt, can change it in silence.

CREATE FUNCTION passbook_tell_access() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    row_now record;
BEGIN
    IF TG_OP = 'DELETE' THEN row_now := OLD; ELSE row_now := NEW; END IF;
    IF TG_TABLE_NAME = 'tenant' THEN
        PERFORM pg_notify('passbook_access', 'tenant');
    ELSE
        PERFORM pg_notify('passbook_access', TG_TABLE_NAME || ' ' || row_now.id);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER tell_access_changed AFTER UPDATE OF revoked_at, expires_at, person_id, secret_digest ON device
    FOR EACH ROW WHEN (
        OLD.revoked_at IS DISTINCT FROM NEW.revoked_at OR NEW.expires_at < OLD.expires_at
        OR OLD.person_id <> NEW.person_id OR OLD.secret_digest <> NEW.secret_digest
    ) EXECUTE FUNCTION passbook_tell_access();
CREATE TRIGGER tell_access_deleted AFTER DELETE ON device
    FOR EACH ROW EXECUTE FUNCTION passbook_tell_access();
CREATE TRIGGER tell_access_changed AFTER UPDATE OF state, database_name, generation ON person
    FOR EACH ROW WHEN (
        OLD.state <> NEW.state OR OLD.database_name <> NEW.database_name OR OLD.generation <> NEW.generation
    ) EXECUTE FUNCTION passbook_tell_access();
CREATE TRIGGER tell_access_deleted AFTER DELETE ON person
    FOR EACH ROW EXECUTE FUNCTION passbook_tell_access();
CREATE TRIGGER tell_access_changed AFTER UPDATE ON tenant
    FOR EACH ROW EXECUTE FUNCTION passbook_tell_access();

-- The worker carries out changes of scope, and finishes deletions, within seconds.

CREATE FUNCTION passbook_tell_scope() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'person' THEN
        PERFORM pg_notify('passbook_scope', NEW.id);
    ELSE
        PERFORM pg_notify('passbook_scope', NEW.person_id);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER tell_scope AFTER INSERT ON scope_change
    FOR EACH ROW EXECUTE FUNCTION passbook_tell_scope();
CREATE TRIGGER tell_scope AFTER UPDATE OF state ON person
    FOR EACH ROW WHEN (NEW.state = 'deleting' AND OLD.state <> 'deleting')
    EXECUTE FUNCTION passbook_tell_scope();

-- The audit log only grows. This holds for the owner of the table as well; a role that is not the owner cannot
-- take the triggers away either.

CREATE FUNCTION passbook_audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log only grows' USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER only_grows BEFORE UPDATE OR DELETE ON audit_event
    FOR EACH ROW EXECUTE FUNCTION passbook_audit_only_grows();
CREATE TRIGGER only_grows_all BEFORE TRUNCATE ON audit_event
    FOR EACH STATEMENT EXECUTE FUNCTION passbook_audit_only_grows();
ALTER TABLE audit_event ENABLE ALWAYS TRIGGER only_grows;
ALTER TABLE audit_event ENABLE ALWAYS TRIGGER only_grows_all;
