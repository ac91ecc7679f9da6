#!/usr/bin/env bash
# Whether Prometheus 3 takes what Debian's stable Prometheus 2 takes: the rules, their unit tests, the
# example configuration, and every query of the dashboards and rules against a real server.
#
#   bash tests/prometheus3.sh
#
# PROMTOOL3 and PROMETHEUS3 name the two programs. Otherwise they are fetched from Debian testing,
# with the signatures checked, and unpacked below target/: nothing of the system changes.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s\n' "$*"; }

fetch() {
  local dir=$PWD/target/prometheus3
  PROMTOOL3=$dir/root/usr/bin/promtool
  PROMETHEUS3=$dir/root/usr/bin/prometheus
  if [ -x "$PROMTOOL3" ] && [ -x "$PROMETHEUS3" ]; then return; fi
  local tool keys=/usr/share/keyrings/debian-archive-keyring.gpg
  for tool in apt-get dpkg-deb "$keys"; do
    if ! command -v "$tool" >/dev/null && [ ! -f "$tool" ]; then
      echo "no $tool here: name the programs in PROMTOOL3 and PROMETHEUS3" >&2
      exit 1
    fi
  done
  say "fetching prometheus and promtool from Debian testing"
  mkdir -p "$dir"/{lists,cache,root}
  # The mirror that this machine uses.
  local mirror
  mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
    sed -n 's/^Debian //p' | sort -u | head -n 1)
  if [ -z "$mirror" ]; then
    echo "apt knows no mirror of Debian; run apt-get update first" >&2
    exit 1
  fi
  echo "deb [signed-by=$keys] $mirror testing main" >"$dir/sources.list"
  local options=(
    -qq
    -o "Dir::Etc::sourcelist=$dir/sources.list"
    -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$dir/lists"
    -o "Dir::Cache=$dir/cache"
    -o APT::Sandbox::User=
  )
  (
    cd "$dir"
    apt-get "${options[@]}" update
    apt-get "${options[@]}" download prometheus promtool
    for tool in *.deb; do dpkg-deb -x "$tool" root; done
    rm -r -- *.deb lists cache
  )
}

if [ -z "${PROMTOOL3:-}" ] || [ -z "${PROMETHEUS3:-}" ]; then fetch; fi

for program in "$PROMTOOL3" "$PROMETHEUS3"; do
  version=$("$program" --version 2>&1 | head -n 1)
  say "$version"
  case $version in
    *"version 3."*) ;;
    *)
      echo "$program is no Prometheus 3" >&2
      exit 1
      ;;
  esac
done

say "rules"
"$PROMTOOL3" check rules --lint=all --lint-fatal alerts/punctual.rules.yml alerts/punctual.alerts.yml

say "configuration"
"$PROMTOOL3" check config alerts/prometheus.example.yml

say "unit tests of the rules"
"$PROMTOOL3" test rules alerts/tests/*.yml

say "queries of the dashboards and rules"
PROMETHEUS=$PROMETHEUS3 cargo nextest run --test observability -E 'test(=answers::every_query_returns_data)'
