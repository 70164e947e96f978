#!/usr/bin/env bash
# MLflow's server for several people, on a unix socket, with PostgreSQL and an S3 store that only it reaches.
# A proxy with nginx.conf stands in front of it. docs/mlflow-server.md tells how to set it up.
#
# What must be set:
#   MLFLOW_PUBLIC_URL            the proxy's address as browsers write it, such as https://mlflow.example:8443
#   MLFLOW_BACKEND_STORE_URI     runs and models, such as postgresql://mlflow@database/mlflow
#   MLFLOW_AUTH_STORE_URI        users and rights, such as postgresql://mlflow@database/mlflow_auth
#   MLFLOW_ARTIFACTS_DESTINATION such as s3://mlflow/artifacts
#   MLFLOW_ADMIN_PASSWORD_FILE   password of the user admin, read until that user exists
#   MLFLOW_SECRET_KEY_FILE       32 random bytes as text; the same in all servers of one site
# What may be set: MLFLOW_SOCKET (/run/mlflow/server.sock), MLFLOW_WORKERS (2), PYTHON (python3), and the names in `kept`
# below. Passwords of the database and keys of the store come from the files that PGPASSFILE and
# AWS_SHARED_CREDENTIALS_FILE name: in an address they would be in the list of processes.
set -euo pipefail
umask 077

refuse() {
    echo "start.sh: $1" >&2
    exit 3
}

# the first line of a file that its owner alone can read
secret() {
    local path=${!1:-}
    [ -n "$path" ] || refuse "$1 is not set: give the path of a file with the secret."
    [ -s "$path" ] || refuse "$1: $path is not there or empty."
    case $(stat --dereference --format=%a "$path") in
        [0-7]00 | [0-7]40) ;;
        *) refuse "$1: others can read $path. Do: chmod 600 $path" ;;
    esac
    head --lines=1 "$path"
}

database() {
    case ${!1:-} in
        postgresql://*:*@*) refuse "$1 holds a password. Put it into the file that PGPASSFILE names." ;;
        postgresql://*) ;;
        *) refuse "$1 must be the address of a PostgreSQL database, such as postgresql://mlflow@database/mlflow." ;;
    esac
}

[ "$(id --user)" -ne 0 ] || refuse "this is root. Start it as a user of its own."
case ${MLFLOW_PUBLIC_URL:-} in
    https://*/*) refuse "MLFLOW_PUBLIC_URL must end after the name or the port." ;;
    https://?*) ;;
    *) refuse "MLFLOW_PUBLIC_URL must be the proxy's address, such as https://mlflow.example:8443." ;;
esac
database MLFLOW_BACKEND_STORE_URI
database MLFLOW_AUTH_STORE_URI
case ${MLFLOW_ARTIFACTS_DESTINATION:-} in
    s3://?*) ;;
    *) refuse "MLFLOW_ARTIFACTS_DESTINATION must be a place in an S3 store, such as s3://mlflow/artifacts." ;;
esac
password=$(secret MLFLOW_ADMIN_PASSWORD_FILE)
key=$(secret MLFLOW_SECRET_KEY_FILE)
[ "${#password}" -ge 12 ] || refuse "MLFLOW_ADMIN_PASSWORD_FILE: a password has 12 characters or more."
[ "${#key}" -ge 32 ] || refuse "MLFLOW_SECRET_KEY_FILE: a key has 32 characters or more."

socket=${MLFLOW_SOCKET:-/run/mlflow/server.sock}
folder=$(dirname "$socket")
# uvicorn lets everybody write to its socket, so the folder decides who reaches it
case $(stat --format=%a "$folder" 2>/dev/null) in
    [0-7]*0) ;;
    *) refuse "the folder $folder must be there and closed to others. Do: chmod 750 $folder" ;;
esac

# A switch of the machine's environment could take a protection away: what is not named here is not handed on.
kept=" PATH HOME LANG TMPDIR PYTHON PGPASSFILE PGSSLMODE PGSSLROOTCERT AWS_SHARED_CREDENTIALS_FILE AWS_DEFAULT_REGION
 AWS_CA_BUNDLE MLFLOW_S3_ENDPOINT_URL MLFLOW_BACKEND_STORE_URI MLFLOW_ARTIFACTS_DESTINATION "
public=${MLFLOW_PUBLIC_URL#https://}
case $public in
    *:*) host=$public ;;
    *) host=$public:443 ;;
esac
users=$MLFLOW_AUTH_STORE_URI
workers=${MLFLOW_WORKERS:-2}
for name in $(compgen -e); do
    [[ $kept =~ [[:space:]]${name}[[:space:]] ]] || unset "$name"
done

# Made anew at each start. A checked password is good for 30 s more: checking takes most of the time of a request, and several
# times in one; a password that is changed through another worker holds as long.
config=$folder/users.ini
cat >"$config" <<INI
[mlflow]
default_permission = NO_PERMISSIONS
grant_default_workspace_access = false
database_uri = ${users//%/%%}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 30
INI
export MLFLOW_AUTH_CONFIG_PATH=$config
export MLFLOW_AUTH_ADMIN_PASSWORD=$password
export MLFLOW_FLASK_SERVER_SECRET_KEY=$key
export MLFLOW_BASIC_AUTH_FAIL_CLOSED=true
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false
export MLFLOW_ALLOW_FILE_STORE=false
export MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true
# nothing of the server runs code for its users
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
export MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS=false
export MLFLOW_ENABLE_REMOTE_ASSISTANT=false

# of a server that was killed
rm -f "$socket"
exec "${PYTHON:-python3}" -m mlflow server \
    --app-name basic-auth \
    --serve-artifacts \
    --workers "$workers" \
    --allowed-hosts "$host" \
    --cors-allowed-origins "https://$public" \
    --x-frame-options DENY \
    --uvicorn-opts "--uds $socket --no-server-header"
