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
SQL
