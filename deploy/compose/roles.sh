#!/bin/sh
# Run by PostgreSQL's image when its volume is new: the database, its owner, who records and who reads. docs/how-to/read-the-audit-rows.md
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set owner="$OWNER_PASSWORD" --set writer="$WRITER_PASSWORD" --set reader="$READER_PASSWORD" <<'SQL'
CREATE ROLE spanpost LOGIN PASSWORD :'owner';
CREATE ROLE spanpost_writer LOGIN PASSWORD :'writer';
CREATE ROLE spanpost_reader LOGIN PASSWORD :'reader';
CREATE DATABASE spanpost OWNER spanpost;
REVOKE ALL ON DATABASE spanpost FROM PUBLIC;
GRANT CONNECT ON DATABASE spanpost TO spanpost_writer, spanpost_reader;
-- What PostgreSQL lets every role do: docs/how-to/tenants.md
GRANT TEMPORARY ON DATABASE spanpost TO spanpost_writer;
\connect spanpost
DO $$
DECLARE
  one regprocedure;
BEGIN
  FOR one IN SELECT oid FROM pg_proc WHERE proname ~ '^(pg_(try_)?advisory_|lo_|lowrite|loread)' LOOP
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', one);
    IF one::text ~ 'advisory' THEN
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO spanpost, spanpost_writer', one);
    END IF;
  END LOOP;
END $$;
SQL
