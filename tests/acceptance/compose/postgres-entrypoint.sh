#!/bin/sh
# Do what the entry point of PostgreSQL's image does: initialise a new directory, run the scripts of /docker-entrypoint-initdb.d
# while the server listens on its socket alone, then run the server.
set -eu
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chown postgres "$PGDATA" /run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    [ -n "${POSTGRES_PASSWORD:-}" ] || { echo "POSTGRES_PASSWORD is not set" >&2; exit 1; }
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    initdb --username="${POSTGRES_USER:-postgres}" --pwfile=/tmp/password --auth-local=trust --auth-host=trust >/dev/null
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    pg_ctl --silent --wait -o "-c listen_addresses=''" start
    for script in /docker-entrypoint-initdb.d/*.sh; do
        if [ -x "$script" ]; then "$script"; elif [ -e "$script" ]; then . "$script"; fi
    done
    pg_ctl --silent --wait -m fast stop
fi
exec "$@" -c "listen_addresses=*"
