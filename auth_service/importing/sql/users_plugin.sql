-- Users of self-service where the plugin's table has them, and nobody else. No password is read.
SELECT u.id AS id,
       u.username AS username,
       u.enabled AS enabled,
       u.is_deleted AS is_deleted,
       u.nonlocked AS nonlocked,
       u.nonexpired AS nonexpired
FROM m_appselfservice_user u
ORDER BY u.id
