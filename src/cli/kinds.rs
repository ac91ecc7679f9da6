//! `punctual kinds`.

use clap::Args;

use super::output::{self, Table};
use super::{Connect, Done, Format};
use crate::wire;

#[derive(Debug, Args)]
#[command(
    about = "Show how long each kind of job takes, and how good Retry-After is",
    after_long_help = "Examples:\n  punctual kinds\n  punctual kinds --json"
)]
pub(super) struct KindsArgs {
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

pub(super) async fn run(args: KindsArgs) -> Done {
    let list = args.connect.client()?.kinds().await?;
    let done = output::show(args.format.json, &list, || table(&list.kinds))?;
    if list.kinds.is_empty() && !args.format.json {
        output::note("nothing is known yet: no job was claimed within a day");
    }
    Ok(done)
}

fn table(kinds: &[wire::Kind]) -> String {
    let mut table = Table::new(&[
        "KIND",
        ">SAMPLES",
        ">RUN P50",
        ">P99",
        ">WAIT P50",
        ">P99",
        ">FAILED",
        ">EARLY P50",
        ">LATE P50",
    ]);
    for kind in kinds {
        let of = |spread: Option<wire::Spread>, part: fn(wire::Spread) -> f64| {
            output::dash(spread.map(|s| output::span(part(s))).as_deref())
        };
        let failed = kind.failure_ratio.map(|share| format!("{:.1}%", share * 100.0));
        table.row([
            kind.kind.clone(),
            kind.samples.to_string(),
            of(kind.run_seconds, |s| s.p50),
            of(kind.run_seconds, |s| s.p99),
            of(kind.wait_seconds, |s| s.p50),
            of(kind.wait_seconds, |s| s.p99),
            output::dash(failed.as_deref()),
            of(kind.retry_after.early_seconds, |s| s.p50),
            of(kind.retry_after.late_seconds, |s| s.p50),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_a_dash() {
        let run = wire::Spread { p50: 90.0, p90: 120.0, p99: 300.0 };
        let known = wire::Kind {
            kind: "a".into(),
            samples: 7,
            run_seconds: Some(run),
            failure_ratio: Some(0.125),
            ..wire::Kind::default()
        };
        let rows = table(&[known, wire::Kind { kind: "b".into(), ..wire::Kind::default() }]);
        let cells: Vec<Vec<&str>> =
            rows.lines().skip(1).map(|row| row.split_whitespace().collect()).collect();
        let (long, longer) = (output::span(90.0), output::span(300.0));
        assert_eq!(cells[0], ["a", "7", &long, &longer, "-", "-", "12.5%", "-", "-"]);
        assert_eq!(cells[1], ["b", "0", "-", "-", "-", "-", "-", "-", "-"]);
    }
}
