-- Large values are compressed with LZ4 where the server has it (PostgreSQL 14 and later, as nearly all are built), and as
-- before where it does not: to write 64 KiB takes the server half the time of PostgreSQL's own way for what repeats
-- itself, and a quarter for JSON. What is stored stays as it is, and is read as before. By EXECUTE: release 13 cannot
-- even parse it.
DO $do$
DECLARE
  valued text;
BEGIN
  IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
    FOREACH valued IN ARRAY ARRAY['cells', 'log_entries', 'index_entries'] LOOP
      EXECUTE $alter$ALTER TABLE {schema}.$alter$ || valued || ' ALTER COLUMN value SET COMPRESSION lz4';
    END LOOP;
  END IF;
END
$do$;
