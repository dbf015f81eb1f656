-- Users of self-service where Fineract's own table has them, among the staff. No password is read.
SELECT u.id AS id,
       u.username AS username,
       u.enabled AS enabled,
       u.is_deleted AS is_deleted,
       u.nonlocked AS nonlocked,
       u.nonexpired AS nonexpired
FROM m_appuser u
WHERE u.is_self_service_user
ORDER BY u.id
