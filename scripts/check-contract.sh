#!/usr/bin/env bash
# Holds a running server to its OpenAPI document, by others' tools: Redocly lints the document, and Schemathesis makes up
# requests from it and checks the answers by all its checks. The server is `lakegate up` over the sample lake, which asks for
# an API key.
#
#   scripts/check-contract.sh [EXAMPLES]      requests made up for each operation and phase (100)
#
# scripts/contract holds what no schema can say.
# LAKEGATE_TEST_BINARY names another binary than the development build; LAKEGATE_TEST_SEED makes up the same requests again.
# Installs Schemathesis from PyPI and Redocly from npm into the target folder.
set -euo pipefail
cd "$(dirname "$0")/.."
examples=${1:-100}
mkdir -p "${CARGO_TARGET_DIR:-target}/contract"
work="$(cd "${CARGO_TARGET_DIR:-target}/contract" && pwd)"
lakegate=${LAKEGATE_TEST_BINARY:-$work/../debug/lakegate}

[ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==4.32.5"
[ -x "$work/node_modules/.bin/redocly" ] || npm install --silent --no-audit --no-fund --prefix "$work" "@redocly/cli@2.77.0"

project=$(mktemp -d)
served=
trap 'kill "$served" 2>/dev/null && wait "$served"; rm -rf "$project"' EXIT
"$lakegate" init "$project"
"$lakegate" sample "$project/sample"
cp pipelines/*.yaml "$project/pipelines/"
export LAKEGATE_DIR="$project" LAKEGATE_AUTH='{keys: true}' LAKEGATE_API_LISTEN=127.0.0.1:8090 LAKEGATE_ADMIN_LISTEN=127.0.0.1:8091
"$lakegate" up 2>"$work/log" &
served=$!
until curl -fs -o /dev/null http://127.0.0.1:8090/readyz; do
    kill -0 "$served" || { cat "$work/log"; exit 1; }
    sleep 0.2
done
"$lakegate" sync >/dev/null
key=$("$lakegate" keys create contract)
# It is let in once the server has heard of it.
until curl -fs -o "$work/openapi.json" -H "Authorization: Bearer $key" http://127.0.0.1:8090/v1/openapi.json; do sleep 0.2; done

export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true
"$work/node_modules/.bin/redocly" --version
"$work/node_modules/.bin/redocly" lint "$work/openapi.json"
seed=()
[ -z "${LAKEGATE_TEST_SEED:-}" ] || seed=(--seed "$LAKEGATE_TEST_SEED")
export SCHEMATHESIS_HOOKS=hooks PYTHONPATH="$PWD/scripts/contract" PYTHONDONTWRITEBYTECODE=1
rules="$PWD/scripts/contract/schemathesis.toml"
cd "$work"
"$work/venv/bin/schemathesis" --config-file "$rules" run "$work/openapi.json" --url http://127.0.0.1:8090 -H "Authorization: Bearer $key" \
    --checks all --mode all --max-examples "$examples" --continue-on-failure --output-sanitize false "${seed[@]}"
