#!/bin/sh
# Checks the API against its OpenAPI description with requests that schemathesis makes up.
#
# usage: tests/api_schemathesis.sh HEARKEN [EXAMPLES]
#   HEARKEN   the program, e.g. target/release/hearken
#   EXAMPLES  requests per operation and phase (default 30)
#
# Needs schemathesis 4: python3 -m venv VENV && VENV/bin/pip install 'schemathesis>=4,<5', then
# SCHEMATHESIS=VENV/bin/schemathesis, or schemathesis in PATH. Without it this says so and ends with 0.
set -eu
hearken=$1
examples=${2:-30}
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
model=$here/../../hearken-model/tests/fixtures/hf/llama
HEARKEN_API_KEY=schemathesis HEARKEN_ADMIN_KEY=schemathesis "$hearken" serve --model "$model" --name tiny \
    --bind 127.0.0.1:0 >"$folder/url" 2>"$folder/log" &
service=$!
tries=0
until [ -s "$folder/url" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 100 ]; then cat "$folder/log" >&2; exit 1; fi
    sleep 0.1
done
url=$(cat "$folder/url")
status=0
# What a schema cannot say (a model has to be served, a prompt has to leave room) is refused with 400 or 404;
# the configuration beside this file allows that for requests that fit the schema. It runs in the folder
# because it keeps a cache where it runs.
(cd "$folder" && "$schemathesis" --config-file "$here/schemathesis.toml" run "$url/openapi.json" --url "$url" \
    --header "Authorization: Bearer schemathesis" --max-examples "$examples" --generation-database none \
    --seed 1) || status=$?
if ! kill -0 "$service" 2>/dev/null; then
    echo "the service died:" >&2
    cat "$folder/log" >&2
    exit 1
fi
if [ "$status" -ne 0 ]; then grep -i error "$folder/log" >&2 || true; fi
exit "$status"
