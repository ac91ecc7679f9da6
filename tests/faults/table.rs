//! What was proven, as a table.

use std::fmt::Write as _;

use crate::case::Outcome;
use crate::choice::Extent;
use crate::lab::{Lab, project};
use crate::shorten::{FACTOR, LEAST_FOR, LEAST_RANGE};

const FILE: &str = "docs/ALERTS-PROOF.md";

const RERUN: &str = "UPDATE=1 FULL=1 cargo nextest run --test faults";

pub(crate) fn render(outcomes: &[Outcome]) -> String {
    let mut rows: Vec<[String; 5]> = Vec::new();
    for outcome in outcomes {
        let verdict = outcome.verdict.unwrap_or("–");
        if outcome.rows.is_empty() {
            let heard = if outcome.failure.is_none() { "none" } else { "FAILED" };
            rows.push([outcome.fault, heard, verdict, "–", "–"].map(str::to_owned));
        }
        for (n, row) in outcome.rows.iter().enumerate() {
            let first = |text: &str| if n == 0 { text.to_owned() } else { String::new() };
            rows.push([
                first(outcome.fault),
                row.alert.clone(),
                first(verdict),
                format!("{:.1}", row.detect),
                row.clear.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.1}")),
            ]);
        }
    }
    let heads = ["fault", "alerts", "verdict", "detect s", "clear s"].map(str::to_owned);
    let width = |column: usize| {
        let cells = rows.iter().chain([&heads]).map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    let rule = std::array::from_fn(|column| {
        let dashes = "-".repeat(widths[column] - usize::from(is_number(column)));
        if is_number(column) { dashes + ":" } else { dashes }
    });
    let mut text = String::new();
    for row in [&heads, &rule].into_iter().chain(&rows) {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            if is_number(column) {
                write!(text, "| {cell:>width$} ").expect("text");
            } else {
                write!(text, "| {cell:width$} ").expect("text");
            }
        }
        text.push_str("|\n");
    }
    text
}

const fn is_number(column: usize) -> bool {
    column >= 3
}

/// With `UPDATE=1` writes the file; else checks that it tells of the same faults and alerts. The
/// seconds are this run's, and so is the choice of faults: the others are not compared.
pub(crate) fn keep(table: &str, extent: Extent) {
    if extent == Extent::Selected {
        return;
    }
    let path = project(FILE);
    if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
        assert!(extent == Extent::Full, "{FILE} tells of all faults; run: {RERUN}");
        std::fs::write(path, document(table)).expect("the file can be written");
        return;
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let (mut known, found) = (facts(&committed), facts(table));
    if extent == Extent::Short {
        known.retain(|[fault, ..]| found.iter().any(|[ran, ..]| ran == fault));
    }
    assert!(known == found, "{FILE} tells of other alerts; run: {RERUN}");
}

/// Faults, alerts and verdicts, without the seconds. Each row names its fault.
fn facts(text: &str) -> Vec<[String; 3]> {
    let mut fault = String::new();
    let mut cells = |row: &str| {
        let mut cells = row.split('|').skip(1).map(|cell| cell.trim().to_owned());
        let mut row = [cells.next(), cells.next(), cells.next()].map(Option::unwrap_or_default);
        if row[0].is_empty() {
            row[0].clone_from(&fault);
        } else {
            fault.clone_from(&row[0]);
        }
        row
    };
    let rows = text.lines().filter(|line| line.starts_with('|') && !line.contains("---"));
    rows.map(&mut cells).collect()
}

fn document(table: &str) -> String {
    let [prometheus, alertmanager] = Lab::versions();
    format!(
        "# The alerts, proven\n\
         \n\
         Each fault was made in a real server, seen by a real Prometheus with the delivered rules, \
         and told by a\n\
         real Alertmanager with the example's routes to a receiver. Beside the faults ran a \
         healthy server for two\n\
         minutes: bursts, retries, long jobs, worker deploys, a restart, scheduled jobs, a queue \
         paused and resumed.\n\
         \n\
         - **alerts**: exactly these were told, with the right severity, labels and receiver. \
         `(inhibited)`: it fired and\n  \
           Alertmanager kept it quiet, since another alert says more.\n\
         - **verdict**: what `GET /v1/episodes`, `punctual explain` (which exits with 1) and the \
         alert's label all said.\n\
         - **detect**: seconds from the fault until the receiver had it. **clear**: seconds from \
         the cure until the\n  \
           receiver heard that it is over; – for what tells of an event and was over by itself.\n\
         \n\
         {table}\n\
         What is behind some of the rows:\n\
         \n\
         - one poison job: it kills its worker in each of its 5 attempts and then has failed; the \
         others are done beside it.\n\
         - queue full: the submissions beyond `max_depth` got 503 `queue-full`, and no budget \
         burnt.\n\
         - starts come late: 15 jobs wait for over a minute behind another, in a queue whose \
         `stuck_after` allows it. The\n  \
           minute is the objective's, and not shortened. Submissions unavailable: 4 clients and a \
         locked store. What burnt\n  \
           a budget is in the long ranges for long; the alerts end when it is a small share of \
         what has gone well since.\n\
         - counter changed by hand: a recount finds it, and it is over when the counter is right \
         again. No restart mends it.\n\
         - row deleted by hand: told when somebody asks for the job, once, and for an hour (a \
         {FACTOR}th of it here).\n\
         - drain without end: a client that never sends the body of its request, and a long \
         `shutdown_grace`.\n\
         - collector gone, collector hangs: jobs were accepted and done as before.\n\
         - clock set by an hour: forwards nothing was told, back ClockSkew, until the clock was \
         right again. A job that ran\n  \
           all the time kept its lease and its only attempt. A `timeout` shorter than the step is \
         not waited for: after a\n  \
           step an attempt has at least a lease's length left, and no more.\n\
         - flood of status requests: thousands, as fast as they are answered, half of them for \
         jobs that there are not.\n\
         \n\
         Not here, since one server cannot do it: VersionSkew (two builds) and a leader that is \
         lost to\n\
         another. promtool shows these (`alerts/tests/`), as it does each alert.\n\
         \n\
         Measured with {prometheus} and {alertmanager}, scraped and\n\
         evaluated every second. Durations are shortened so that it takes minutes: what the rules \
         wait for (`for`,\n\
         `keep_firing_for`, ranges, intervals) is a {FACTOR}th of the delivered, but a `for` at \
         least {} s and a range at\n\
         least {} s; `stuck_after` is 5 s (15 s in the soak, 8 s and 30 s where the fault takes \
         its time), the watchdog and\n\
         the sampler look every second (the watchdog every 3 s where the server restarts), the \
         canary and the recount too\n\
         where they are what is to fail, leases last 3 to 10 s, and groups are told after 1 s. \
         Constants in the rules are as\n\
         delivered, such as the 10 s that clocks may differ. So the seconds show what happened \
         here; with the delivered\n\
         durations everything takes longer.\n\
         \n\
         To run it again (Debian: `apt-get install prometheus prometheus-alertmanager faketime`): \
         `FULL=1 cargo nextest run\n\
         --test faults`. Without `FULL` the first rows, up to the soak, and the last; with \
         `FAULTS=\"queue full,crash loop\"`\n\
         those alone. This file is made by `{RERUN}`; without `UPDATE`\n\
         the test checks that it tells of the same faults, alerts and verdicts.\n",
        LEAST_FOR.as_secs(),
        LEAST_RANGE.as_secs(),
    )
}
