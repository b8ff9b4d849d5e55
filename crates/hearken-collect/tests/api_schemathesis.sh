#!/bin/sh
# Checks the REST API against its OpenAPI description with requests that schemathesis makes up.
#
# usage: tests/api_schemathesis.sh HEARKEN [EXAMPLES]
#   HEARKEN   the program, e.g. target/debug/hearken
#   EXAMPLES  requests per operation and phase (default 60)
#
# Needs schemathesis 4: python3 -m venv VENV && VENV/bin/pip install 'schemathesis>=4,<5', then
# SCHEMATHESIS=VENV/bin/schemathesis, or schemathesis in PATH. Without it this says so and ends with 0.
set -eu
hearken=$1
examples=${2:-60}
schemathesis=${SCHEMATHESIS:-schemathesis}
if ! command -v "$schemathesis" >/dev/null 2>&1; then
    echo "skipped: schemathesis is not installed (pip install 'schemathesis>=4,<5'; SCHEMATHESIS names it)" >&2
    exit 0
fi
case $schemathesis in
/*) ;;
*/*) schemathesis=$PWD/$schemathesis ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
service=
finish() {
    if [ -n "$service" ]; then kill "$service" 2>/dev/null || true; wait "$service" 2>/dev/null || true; fi
    rm -rf "$folder"
}
trap finish EXIT INT TERM
number=0
while [ "$number" -lt 300 ]; do
    number=$((number + 1))
    echo "{\"id\": \"item-$number\", \"task\": \"pairwise\", \"prompt\": [{\"role\": \"user\", \"content\": \"$number?\"}], \
\"candidates\": [{\"text\": \"yes\"}, {\"text\": \"no\"}], \"overlap\": 100}"
done >"$folder/items.jsonl"
token=$("$hearken" collect --store "$folder/store.db" --add-token schemathesis --scopes read,write,label,manage)
"$hearken" collect --store "$folder/store.db" --items "$folder/items.jsonl" --bind 127.0.0.1:0 \
    >"$folder/url" 2>"$folder/log" &
service=$!
tries=0
until [ -s "$folder/url" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 100 ]; then cat "$folder/log" >&2; exit 1; fi
    sleep 0.1
done
url=$(cat "$folder/url")
status=0
# What a schema cannot say (a verdict has to fit its item, a pairwise item has two candidates) is refused
# with 422; the configuration beside this file allows that for requests that fit the schema. It runs in
# the folder because it keeps a cache where it runs.
(cd "$folder" && "$schemathesis" --config-file "$here/schemathesis.toml" run "$url/api/v1/openapi.json" \
    --url "$url/api/v1" \
    --header "Authorization: Bearer $token" --max-examples "$examples" --generation-database none \
    --seed 1) || status=$?
if ! kill -0 "$service" 2>/dev/null; then
    echo "the service died:" >&2
    cat "$folder/log" >&2
    exit 1
fi
if [ "$status" -ne 0 ]; then grep -i error "$folder/log" >&2 || true; fi
exit "$status"
