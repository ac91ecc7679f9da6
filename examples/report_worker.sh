#!/bin/sh
# The body of a shell worker: one job per run, the payload as JSON on stdin, the report as JSON on stdout.
#
#   punctual work --queue reports --exec examples/report_worker.sh
#   echo '{"file": "orders.csv", "top": 3}' | examples/report_worker.sh          (works without a server, too)
#
# Payload: file (a name in $REPORT_DATA_DIR, by default examples/data beside this script), from and to (months such as
# 2026-03, both included), top (1 to 100, default 5), slow_seconds (0 to 3600, default 0: wait so long first, so that there is
# something to watch and to cancel).
# Exit: 0 done; 65 the input can never work, do not try again; anything else: worth another try. The reason is on stderr.
#
# POSIX sh and awk only. The CSV is read by its quoting rules (commas, doubled quotes and line breaks inside quotes), not by
# splitting at commas; report.py does the same work in Python and must give the same report.
set -u
LC_ALL=C # awk counts and compares bytes: the same order everywhere, and UTF-8 goes through untouched
export LC_ALL

never() {
	printf '%s\n' "report_worker.sh: $*" >&2
	exit 65
}

again() {
	printf '%s\n' "report_worker.sh: $*" >&2
	exit 1
}

# The payload is a flat object of plain strings and whole numbers, so a small strict reader is enough. It prints name=value
# lines, and everything else is refused: better no report than a report of a misread question.
settings=$(awk '
	function refuse(why) { print why; bad = 1; exit 65 }
	{ text = text $0 "\n" }
	END {
		if (bad) exit 65
		space = "[ \t\r\n]*"
		if (!match(text, "^" space "[{]" space)) refuse("the payload must be an object such as {\"file\": \"orders.csv\"}")
		text = substr(text, RLENGTH + 1)
		while (match(text, "^\"[^\"\\\\]*\"" space ":" space)) {
			name = text; sub(/^"/, "", name); sub(/".*/, "", name)
			text = substr(text, RLENGTH + 1)
			if (name !~ /^(file|from|to|top|slow_seconds)$/)
				refuse("unknown payload member \"" name "\"; known are file, from, to, top and slow_seconds")
			if (name in seen) refuse("payload member " name " is there twice")
			seen[name] = 1
			if (name == "top" || name == "slow_seconds") {
				if (!match(text, /^[0-9]+/)) refuse(name " must be a whole number, and not negative")
				value = substr(text, 1, RLENGTH)
			} else {
				if (!match(text, /^"[A-Za-z0-9._-]*"/)) refuse(name == "file" ? "file must be a plain file name such as orders.csv, without a directory" : "from and to must be months such as 2026-03")
				value = substr(text, 2, RLENGTH - 2)
			}
			text = substr(text, RLENGTH + 1)
			print name "=" value
			if (!match(text, "^" space "," space)) break
			text = substr(text, RLENGTH + 1)
			if (text !~ /^"/) refuse("the payload has a comma with no member after it")
		}
		if (text !~ ("^" space "[}]" space "$")) refuse("the payload is not a JSON object of strings and numbers")
	}') || never "$(printf '%s\n' "$settings" | tail -n 1)"

setting() { # setting NAME DEFAULT
	found=$(printf '%s\n' "$settings" | sed -n "s/^$1=//p")
	printf '%s\n' "${found:-$2}"
}

file=$(setting file '')
from=$(setting from 0000-00)
to=$(setting to 9999-99)
top=$(setting top 5)
slow=$(setting slow_seconds 0)

# A plain name only: a client must not be able to make the worker read any file of its machine.
case $file in
'' | .*) never 'file must be a plain file name such as orders.csv, without a directory' ;;
esac
for month in "$from" "$to"; do
	case $month in
	[0-9][0-9][0-9][0-9]-[0-9][0-9]) ;;
	*) never 'from and to must be months such as 2026-03' ;;
	esac
done
if [ "${#top}" -gt 4 ] || [ "$top" -lt 1 ] || [ "$top" -gt 100 ]; then
	never 'top must be a whole number from 1 to 100'
elif [ "${#slow}" -gt 4 ] || [ "$slow" -gt 3600 ]; then
	never 'slow_seconds must be a whole number from 0 to 3600'
fi

data=${REPORT_DATA_DIR:-$(dirname -- "$0")/data}
[ -d "$data" ] || again "the data directory $data is not there; set REPORT_DATA_DIR" # perhaps not mounted yet
[ -e "$data/$file" ] || never "no file $file in the data directory; see what is there and submit again"
[ -r "$data/$file" ] || again "cannot read $data/$file; see its permissions"
if command -v iconv >/dev/null && ! iconv -f UTF-8 -t UTF-8 <"$data/$file" >/dev/null 2>&1; then
	never "$file: not UTF-8"
fi

if [ "$slow" -gt 0 ]; then
	# Cancelling a job sends SIGTERM. A shell hears it only between commands, or in `wait`: so wait for the sleep.
	sleep "$slow" &
	sleeper=$!
	trap 'kill "$sleeper" 2>/dev/null; exit 143' TERM INT HUP
	wait "$sleeper"
	trap - TERM INT HUP
fi

# The report goes to a variable first: a run that fails half-way prints nothing on stdout.
report=$(awk -v file="$file" -v from="$from" -v to="$to" -v top="$top" '
	function refuse(why) { print why; bad = 1; exit 65 }

	# Cuts one physical line into fields; a quoted field may go on in the next line. The state is `quoted`, `field`, `n`, `f`.
	function cut(line,    at) {
		for (;;) {
			if (quoted) {
				at = index(line, "\"")
				if (!at) { field = field line "\n"; return 0 }
				field = field substr(line, 1, at - 1)
				line = substr(line, at + 1)
				if (line ~ /^"/) { field = field "\""; line = substr(line, 2); continue }
				quoted = 0
				sub(/\r$/, "", line)
				if (line != "" && line !~ /^,/) refuse(file ", line " NR ": text after a closing quote")
			} else if (line ~ /^"/ && field == "") {
				quoted = 1
				line = substr(line, 2)
				continue
			} else {
				sub(/\r$/, "", line)
				at = index(line, ",")
				field = at ? substr(line, 1, at - 1) : line
				line = at ? substr(line, at) : ""
			}
			f[++n] = field
			field = ""
			if (line == "") return 1
			line = substr(line, 2) # the comma
			if (line == "" || line == "\r") { f[++n] = ""; return 1 }
		}
	}

	function json(text) {
		gsub(/\\/, "&&", text); gsub(/"/, "\\\"", text)
		gsub(/\n/, "\\n", text); gsub(/\r/, "\\r", text); gsub(/\t/, "\\t", text)
		gsub(/[\001-\037]/, "?", text)
		return "\"" text "\""
	}

	function sorted(table, keys,    key, count, i) { # by bytes, by insertion: these tables have tens of entries
		count = 0
		for (key in table) {
			for (i = ++count; i > 1 && keys[i - 1] "" > key ""; i--) keys[i] = keys[i - 1]
			keys[i] = key
		}
		return count
	}

	NR == 1 { sub(/^\357\273\277/, "") }
	n == 0 && !quoted && /^\r?$/ { next }
	{
		if (!cut($0)) next
		count = n
		n = 0
		if (!header) {
			header = 1
			line = f[1]
			for (i = 2; i <= count; i++) line = line "," f[i]
			expected = "order_id,date,region,product,quantity,unit_price_cents,status"
			if (line != expected) refuse(file ": the first line must be " expected)
			next
		}
		if (count != 7) refuse(file ", line " NR ": " count " fields instead of 7")
		rows++
		month = substr(f[2], 1, 7)
		if (f[5] !~ /^-?[0-9]+$/ || f[6] !~ /^[0-9]+$/ || f[2] !~ /^[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]$/) { incomplete++; next }
		if (month < from || month > to) { outside++; next }
		if (f[7] == "cancelled") { cancelled++; next }
		region = f[3] == "" ? "(none)" : f[3]
		amount = f[5] * f[6]
		orders++
		revenue += amount
		if (amount < 0) refunds += amount
		region_orders[region]++
		region_revenue[region] += amount
		month_orders[month]++
		month_revenue[month] += amount
		cell[month, region] += amount
		sold[f[4]] += f[5]
		earned[f[4]] += amount
	}

	END {
		if (bad) exit 65
		if (quoted) refuse(file ": a quote is opened and never closed")
		if (!header) refuse(file ": the file is empty")
		printf "{\n  \"file\": %s,\n  \"rows\": %d,\n  \"orders\": %d,\n", json(file), rows, orders
		printf "  \"skipped\": {\"incomplete\": %d, \"out_of_range\": %d, \"cancelled\": %d},\n", incomplete, outside, cancelled
		# %.0f and not %d: some awks end %d at 2147483647.
		printf "  \"revenue_cents\": %.0f,\n  \"refunds_cents\": %.0f,\n", revenue, refunds

		printf "  \"regions\": ["
		region_count = sorted(region_orders, region_at)
		for (i = 1; i <= region_count; i++) {
			region = region_at[i]
			printf("%s\n    {\"region\": %s, \"orders\": %d, \"revenue_cents\": %.0f}", i > 1 ? "," : "", json(region), region_orders[region], region_revenue[region])
		}

		printf "\n  ],\n  \"months\": ["
		month_count = sorted(month_orders, month_at)
		for (i = 1; i <= month_count; i++) {
			month = month_at[i]
			printf("%s\n    {\"month\": %s, \"orders\": %d, \"revenue_cents\": %.0f, \"regions\": {", i > 1 ? "," : "", json(month), month_orders[month], month_revenue[month])
			between = ""
			for (j = 1; j <= region_count; j++) if ((month, region_at[j]) in cell) {
				printf "%s%s: %.0f", between, json(region_at[j]), cell[month, region_at[j]]
				between = ", "
			}
			printf "}}"
		}

		printf "\n  ],\n  \"top_products\": ["
		product_count = sorted(earned, product_at)
		for (i = 1; i <= top && i <= product_count; i++) {
			best = 0
			for (j = 1; j <= product_count; j++)
				if (!(j in shown) && (!best || earned[product_at[j]] > earned[product_at[best]])) best = j
			shown[best] = 1
			product = product_at[best]
			printf("%s\n    {\"product\": %s, \"quantity\": %.0f, \"revenue_cents\": %.0f}", i > 1 ? "," : "", json(product), sold[product], earned[product])
		}
		printf "\n  ]\n}\n"
	}' "$data/$file")
code=$?
case $code in
0) printf '%s\n' "$report" ;;
65) never "$(printf '%s\n' "$report" | tail -n 1)" ;;
*) again "awk failed with code $code on $data/$file (job ${PUNCTUAL_JOB_ID:-none}, attempt ${PUNCTUAL_ATTEMPT:-none})" ;;
esac
