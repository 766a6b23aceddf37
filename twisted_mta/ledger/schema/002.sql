-- What the octets were when they came, so that a disk which changes them is found
-- out: SHA-256, as sha256sum says it of a file. NULL: stored before there was one.

ALTER TABLE content ADD COLUMN hash BLOB;
