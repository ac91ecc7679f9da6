#!/usr/bin/env bash
# Schemathesis against a real server: requests made from /openapi.json, valid and not, whose answers
# must be what is described there.
#
#   bash tests/schemathesis.sh [SEED...]
#
# EXAMPLES is how many requests each operation gets at most, beside those at the edges (20). It is
# fetched from PyPI, pinned with hashes, into target/; where it cannot be had this says so and is
# skipped, unless REQUIRED=1.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

venv=$PWD/target/schemathesis
pinned=$PWD/tests/schemathesis.txt
hooks=$PWD/tests/schemathesis_hooks.py
config=$PWD/tests/schemathesis.toml
if ! cmp -s "$pinned" "$venv/installed.txt"; then
  say "fetching schemathesis"
  rm -rf "$venv"
  if ! { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --no-deps --only-binary=:all: \
    --require-hashes --requirement "$pinned"; }; then
    echo "SKIPPED: schemathesis cannot be had here (PyPI, Python 3.11 on Linux x86_64)" >&2
    [ -z "${REQUIRED:-}" ]
    exit
  fi
  cp "$pinned" "$venv/installed.txt"
fi

cargo build --quiet
seeds=("$@")
if [ ${#seeds[@]} = 0 ]; then seeds=(1 2); fi
dir=$(mktemp -d)
server=
finish() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
  rm -rf "$dir"
}
trap finish EXIT

NO_COLOR=1 RUST_LOG=info "${CARGO_TARGET_DIR:-target}/debug/punctual" serve --listen 127.0.0.1:0 \
  --store "sqlite://$dir/jobs.db" 2>"$dir/log" &
server=$!
for _ in $(seq 100); do
  port=$(sed -n 's/.*listening on http:\/\/127\.0\.0\.1:\([0-9]*\).*/\1/p' "$dir/log" | head -n 1)
  if [ -n "$port" ]; then break; fi
  sleep 0.1
done
if [ -z "$port" ]; then
  cat "$dir/log" >&2
  exit 1
fi

failed=0
for seed in "${seeds[@]}"; do
  say "seed $seed"
  # It leaves files where it runs.
  (cd "$dir" && SCHEMATHESIS_HOOKS=$hooks PYTHONDONTWRITEBYTECODE=1 \
    "$venv/bin/schemathesis" --config-file "$config" run --no-color \
    --seed "$seed" --max-examples "${EXAMPLES:-20}" --generation-database none --no-shrink \
    --phases examples,coverage,fuzzing,stateful --request-timeout 20 --suppress-health-check all \
    --continue-on-failure "http://127.0.0.1:$port/openapi.json") || failed=1
done
curl --fail --silent --show-error "http://127.0.0.1:$port/livez" >/dev/null
if grep -E ' ERROR ' "$dir/log"; then
  echo "the server logged errors" >&2
  failed=1
fi
exit "$failed"
