-- What running Passbook takes, for a role that does not own the tables. `{role}` is a quoted identifier.
GRANT SELECT, INSERT, UPDATE, DELETE ON
    activation, administrator_act, person, person_client, device, scope_change, projected_document, dead_letter, administrator, session,
    refresh_token, signing_key, sign_in_counter, familiar_place, tenant, approval, written, device_checkpoint, wipe_order, audit_repeat,
    witnessed
    TO {role};
GRANT SELECT ON alembic_version TO {role};
-- The audit log only grows, and not even its owner's triggers are needed to hold this role to it.
REVOKE ALL ON audit_event FROM {role};
GRANT SELECT, INSERT ON audit_event TO {role};
