-- Passwords of programs log in by SCRAM, too; empty: made before they could.

ALTER TABLE app_password ADD COLUMN scram_sha256 TEXT NOT NULL DEFAULT '';
ALTER TABLE app_password ADD COLUMN scram_sha1 TEXT NOT NULL DEFAULT '';
