#!/bin/bash
# Makes the role that the gateway works as. PostgreSQL's image runs this once, when it has made the database.
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
\getenv password GATEWAY_PASSWORD
create role gateway_runtime login password :'password';
SQL
