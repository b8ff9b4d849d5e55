#!/bin/sh
# Checks an API against its OpenAPI description with requests that schemathesis makes up.
#
# usage: tests/api_schemathesis.sh collect|serve HEARKEN [EXAMPLES]
#   HEARKEN   the program, e.g. target/release/hearken
#   EXAMPLES  requests per operation and phase (default 60 and 30)
#
# Needs schemathesis 4: python3 -m venv VENV && VENV/bin/pip install 'schemathesis>=4,<5', then
# SCHEMATHESIS=VENV/bin/schemathesis, or schemathesis in PATH. Without it this says so and ends with 0.
set -eu
api=$1
hearken=$2
schemathesis=${SCHEMATHESIS:-schemathesis}
if ! command -v "$schemathesis" >/dev/null 2>&1; then
    echo "skipped: schemathesis is not installed (pip install 'schemathesis>=4,<5'; SCHEMATHESIS names it)" >&2
    exit 0
fi
case $schemathesis in
/*) ;;
*/*) schemathesis=$PWD/$schemathesis ;;
esac
crates=$(cd "$(dirname "$0")/../crates" && pwd)
folder=$(mktemp -d)
service=
finish() {
    if [ -n "$service" ]; then kill "$service" 2>/dev/null || true; wait "$service" 2>/dev/null || true; fi
    rm -rf "$folder"
}
trap finish EXIT INT TERM
# What a schema cannot say is refused: with 422 that a verdict has to fit its item, with 400 or 404 that a model has to be
# served. The configuration beside the tests of each allows that for requests that fit the schema.
case $api in
collect)
    examples=${3:-60}
    at=/api/v1
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
    ;;
serve)
    examples=${3:-30}
    at=
    token=schemathesis
    HEARKEN_API_KEY=$token HEARKEN_ADMIN_KEY=$token "$hearken" serve \
        --model "$crates/hearken-model/tests/fixtures/hf/llama" --name tiny --bind 127.0.0.1:0 \
        >"$folder/url" 2>"$folder/log" &
    service=$!
    ;;
*)
    echo "found the API $api, expected collect or serve" >&2
    exit 1
    ;;
esac
tries=0
until [ -s "$folder/url" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 100 ]; then cat "$folder/log" >&2; exit 1; fi
    sleep 0.1
done
url=$(cat "$folder/url")$at
status=0
# It keeps a cache where it runs.
(cd "$folder" && "$schemathesis" --config-file "$crates/hearken-$api/tests/schemathesis.toml" run "$url/openapi.json" \
    --url "$url" --header "Authorization: Bearer $token" --max-examples "$examples" --generation-database none \
    --seed 1) || status=$?
if ! kill -0 "$service" 2>/dev/null; then
    echo "the service died:" >&2
    cat "$folder/log" >&2
    exit 1
fi
if [ "$status" -ne 0 ]; then grep -i error "$folder/log" >&2 || true; fi
exit "$status"
