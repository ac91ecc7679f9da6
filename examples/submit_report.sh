#!/bin/sh
# Orders a report and waits for it, with nothing but curl: submit, follow Location, obey Retry-After, fetch the result.
#
#   examples/submit_report.sh                                                the whole year of examples/data/orders.csv
#   examples/submit_report.sh '{"file": "orders.csv", "from": "2026-01", "to": "2026-03"}'
#   examples/submit_report.sh -k q1-2026 -o q1.json '{"file": "orders.csv", "from": "2026-01", "to": "2026-03"}'
#
#   -k KEY     the idempotency key (default: a random one, printed). The same key asks for the same job again: safe to repeat
#              after a crash or a lost connection, never a second report
#   -o FILE    where the report goes (default: stdout); written only when it is complete
#   -q QUEUE   the queue (default: reports)
#   -K KIND    the kind (default: report.render)
#
# PUNCTUAL_URL       the server (default http://127.0.0.1:8080)
# PUNCTUAL_TOKEN     a bearer token, if the server wants one
# PUNCTUAL_PATIENCE  give up after so many seconds without a usable answer (default 120); a slow job is not such a case
#
# Exit: 0 completed; 1 the job failed, was cancelled, or its outcome is gone; 2 usage, or the server refused the request;
# 3 the server could not be reached. Progress is on stderr.
set -u

server=${PUNCTUAL_URL:-http://127.0.0.1:8080}
server=${server%/}
patience=${PUNCTUAL_PATIENCE:-120}
queue=reports kind=report.render key='' out=''

say() {
	printf '%s\n' "$*" >&2
}

quit() { # quit CODE WHY
	code=$1
	shift
	say "submit_report.sh: $*"
	exit "$code"
}

while getopts k:o:q:K: option; do
	case $option in
	k) key=$OPTARG ;;
	o) out=$OPTARG ;;
	q) queue=$OPTARG ;;
	K) kind=$OPTARG ;;
	*) quit 2 'usage: submit_report.sh [-k KEY] [-o FILE] [-q QUEUE] [-K KIND] [PAYLOAD-JSON]' ;;
	esac
done
shift $((OPTIND - 1))
[ $# -le 1 ] || quit 2 "one payload at most; quote it: '{\"file\": \"orders.csv\"}'"
payload=${1-'{"file": "orders.csv"}'}
case $queue$kind in
*[!a-z0-9._:-]*) quit 2 'a queue and a kind have only the characters a-z 0-9 . _ : -' ;;
esac
[ -n "$key" ] || key=report-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
case $key in
*[!a-zA-Z0-9._:-]*) quit 2 'use only letters, digits and . _ : - in a key' ;; # the header allows more; this needs no quoting
esac
command -v curl >/dev/null || quit 2 'curl is needed and not there; install it'

tmp=$(mktemp -d) || quit 2 'no temporary directory; see TMPDIR'
trap 'rm -rf "$tmp"' EXIT
trap 'say "interrupted; the job goes on, and -k $key finds it again"; exit 130' INT
trap 'exit 143' TERM

# The token goes by file, in a directory that only we can read: an argument could be read by every user of this machine.
: >"$tmp/auth"
[ -z "${PUNCTUAL_TOKEN-}" ] || printf 'Authorization: Bearer %s\n' "$PUNCTUAL_TOKEN" >"$tmp/auth"
printf '{"kind":"%s","queue":"%s","payload":%s}' "$kind" "$queue" "$payload" >"$tmp/request"

# member FILE NAME: one member of the JSON object in FILE, and only of its outermost level: a result may have a "done", too.
# Strings come without their quotes, anything else as it stands, nothing when it is not there.
member() {
	awk -v want="\"$2\"" '
		{ text = text $0 "\n" }
		END {
			while (match(text, /"([^"\\]|\\.)*"|[][{},:]/)) {
				token = substr(text, RSTART, RLENGTH)
				before = substr(text, 1, RSTART - 1)
				text = substr(text, RSTART + RLENGTH)
				if (depth == 1 && taking && (token == "," || token == "}")) { value = value before; break }
				if (taking) value = value before token
				if (token == "{" || token == "[") depth++
				else if (token == "}" || token == "]") depth--
				else if (depth == 1 && token == ":") taking = taking || last == want
				last = token
			}
			gsub(/^[ \t\r\n]+|[ \t\r\n]+$/, "", value)
			if (value ~ /^"/) {
				value = substr(value, 2, length(value) - 2)
				gsub(/\\n/, " ", value); gsub(/\\"/, "\"", value); gsub(/\\\//, "/", value); gsub(/\\\\/, "\\", value)
			}
			if (taking) print value
		}' "$1"
}

# header NAME: a response header of the latest answer (curl writes one block of headers for each answer on the way).
header() {
	awk -v want="$1:" '
		/^HTTP\// { value = "" }
		tolower(substr($0, 1, length(want))) == want { value = substr($0, length(want) + 1); gsub(/^[ \t]+|[ \t\r]+$/, "", value) }
		END { print value }' "$tmp/head"
}

absolute() { # absolute REFERENCE: HTTP allows a link to be just a path on the same server
	case $1 in
	/*) printf '%s%s\n' "$(printf '%s\n' "$server" | sed 's|^\([a-zA-Z]*://[^/]*\).*|\1|')" "$1" ;;
	*) printf '%s\n' "$1" ;;
	esac
}

# ask URL [curl options]: one request. Sets $status (000: no answer) and leaves $tmp/answer and $tmp/head.
ask() {
	url=$1
	shift
	: >"$tmp/answer"
	: >"$tmp/head"
	status=$(curl -sS --connect-timeout 5 --max-time 60 -o "$tmp/answer" -D "$tmp/head" -w '%{http_code}' \
		-H @"$tmp/auth" "$@" "$url" 2>"$tmp/error") || status=000 # also for half an answer
}

# retry WHAT: after an answer that says "not now", waits as long as the server asks or, when it said nothing, a growing time.
# Gives up when nothing has worked for $patience seconds.
retry() {
	if [ "$status" = 000 ]; then
		why=$(sed -n '1s/^curl: //p' "$tmp/error")
	else
		why="$status $(member "$tmp/answer" title)"
	fi
	[ $(($(date +%s) - good_since)) -lt "$patience" ] ||
		quit 3 "$1: no usable answer from $server for $patience s ($why); is it running? Then repeat with -k $key"
	pause=$(header retry-after)
	case $pause in
	'' | *[!0-9]*)
		pause=$backoff
		backoff=$((backoff < 8 ? backoff * 2 : 10))
		;;
	esac
	say "$1: $why; again in $pause s"
	sleep "$pause"
}

worked() { # a usable answer: patience starts anew
	good_since=$(date +%s)
	backoff=1
}

problem() { # problem WHAT CODE: ends with what the server says is wrong
	quit "$2" "$1: $status $(member "$tmp/answer" title): $(member "$tmp/answer" detail) $(member "$tmp/answer" errors)"
}

gone() {
	quit 1 "$1: $status $(member "$tmp/answer" code): this job was there and its outcome is no longer kept; look whether its effects are there before ordering it again with a new key"
}

# 1. Submit. Whatever goes wrong on the way, the same key makes it the same job.
say "key $key"
worked
while :; do
	ask "$server/v1/jobs" -H 'Content-Type: application/json' -H "Idempotency-Key: \"$key\"" --data-binary @"$tmp/request"
	case $status in
	200 | 202) break ;;
	409)
		[ "$(member "$tmp/answer" code)" = idempotency-in-flight ] || problem submit 2
		retry submit
		;;
	410) gone submit ;;
	000 | 429 | 5??) retry submit ;;
	*) problem submit 2 ;;
	esac
done
worked
monitor=$(absolute "$(header location)")
[ -n "$monitor" ] || quit 2 'submit: the answer has no Location; is this a Punctual server?'
etag=$(header etag)
mv "$tmp/answer" "$tmp/job"
say "job $(member "$tmp/job" job_id)$([ -z "$(header idempotent-replayed)" ] || printf ' (known already)')"

# 2. Wait. The loop is on `done`, never on a list of states: pending, running and pending again (a retry) are all normal, and
# a state that does not exist yet must not break this script.
until [ "$(member "$tmp/job" 'done')" = true ]; do
	member "$tmp/job" progress >"$tmp/progress"
	pause=$(header retry-after)
	case $pause in
	'' | *[!0-9]*) pause=2 ;;
	esac
	line=$(member "$tmp/job" status)
	percent=$(member "$tmp/progress" percent)
	for part in "$(member "$tmp/job" pending_reason)" "${percent:+$percent %}" "$(member "$tmp/progress" message)"; do
		[ -z "$part" ] || line="$line, $part"
	done
	say "$line; next look in $pause s"
	sleep "$pause"
	while :; do
		# If-None-Match with wait: the server answers when something has changed, or after 20 s that nothing has.
		ask "$monitor" -H "If-None-Match: $etag" -H 'Prefer: wait=20'
		case $status in
		200)
			etag=$(header etag)
			mv "$tmp/answer" "$tmp/job"
			break
			;;
		304) break ;; # what we have is still true; its fresh Retry-After is in the headers
		410) gone wait ;;
		000 | 429 | 5??) retry wait ;;
		*) problem wait 1 ;;
		esac
	done
	worked
done

# 3. The outcome.
outcome=$(member "$tmp/job" status)
case $outcome in
completed) ;;
failed)
	member "$tmp/job" error >"$tmp/failure"
	quit 1 "failed at attempt $(member "$tmp/failure" attempt): $(member "$tmp/failure" type): $(member "$tmp/failure" message)"
	;;
*) quit 1 "$outcome $(member "$tmp/job" cancel_reason)" ;;
esac

say 'completed; fetching the result'
while :; do
	ask "$(absolute "$(member "$tmp/job" result_url)")" -L # -L: a result kept elsewhere is one redirect away; curl does not take the token there
	case $status in
	200) break ;;
	410) gone result ;;
	000 | 429 | 5??) retry result ;;
	*) problem result 1 ;;
	esac
done
if [ -z "$out" ]; then
	cat "$tmp/answer"
elif cp "$tmp/answer" "$out.part" && mv "$out.part" "$out"; then
	say "report in $out"
else
	quit 2 "the report is done, but $out cannot be written; repeat with -k $key and another -o"
fi
