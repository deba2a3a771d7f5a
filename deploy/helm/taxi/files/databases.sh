#!/bin/sh
# Makes a role and a database for every PASSWORD_OF_<context> in the environment. Whoever is not its
# owner may not even connect to it. The image runs this once, when its data directory is empty.
set -eu

run() { psql --set ON_ERROR_STOP=1 --username postgres --dbname postgres; }

env | sed -n 's/^PASSWORD_OF_\([a-z]*\)=.*/\1/p' | while read -r context; do
    run << SQL
\getenv password PASSWORD_OF_$context
CREATE ROLE $context LOGIN PASSWORD :'password';
CREATE DATABASE $context OWNER $context;
REVOKE ALL ON DATABASE $context FROM PUBLIC;
SQL
done

run << SQL
REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;
SQL
