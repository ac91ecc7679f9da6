//! `punctual episodes`.

use std::time::Duration;

use clap::Args;

use super::output::{self, Now, Table};
use super::{Connect, Done, Format};
use crate::client::EpisodesQuery;
use crate::domain::time::Timestamp;
use crate::wire;

#[derive(Debug, Args)]
#[command(
    about = "List when jobs were stuck, and why",
    long_about = "List when jobs were stuck, and why: those episodes that go on, then those that \
                  have ended, latest first.\n\nAn episode begins when jobs of one queue and kind \
                  are stuck, and ends when none is any more. It is kept for 7 days after its \
                  end.",
    after_long_help = "Examples:\n  punctual episodes --open\n  \
                       punctual episodes --queue reports --since 1h\n  \
                       punctual episodes --json | jq '.episodes[].next_step'"
)]
pub(super) struct EpisodesArgs {
    /// Only of this queue
    #[arg(long)]
    queue: Option<String>,
    /// Only of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Only those that go on
    #[arg(long)]
    open: bool,
    /// Only those that go on or ended within this time: 30m, 24h
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    since: Option<Duration>,
    /// How many, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

pub(super) async fn run(args: EpisodesArgs) -> Done {
    let client = args.connect.client()?;
    let query = EpisodesQuery {
        queue: args.queue,
        kind: args.kind,
        open: args.open.then_some(true),
        since: args.since.map(|span| Now::read().minus(span).to_rfc3339()),
        limit: Some(args.limit),
    };
    let list = client.episodes(&query).await?;
    let json = args.format.json;
    let done = output::show(json, &list, || table(&list.episodes, Now::read()))?;
    if list.episodes.is_empty() && !json {
        output::note(if args.open {
            "nothing is stuck; `punctual explain` shows what waits"
        } else {
            "nothing was stuck; `punctual explain` shows what waits"
        });
    }
    if list.episodes.len() == args.limit as usize && !json {
        output::note(
            "there may be more: raise --limit, or narrow it with --queue, --kind, --since",
        );
    }
    Ok(done)
}

fn table(episodes: &[wire::Episode], now: Now) -> String {
    let mut table =
        Table::new(&["QUEUE", "KIND", "VERDICT", ">STUCK", ">PEAK", "SINCE", ">LASTED", "STATE"]);
    for episode in episodes {
        table.row([
            episode.queue.clone(),
            episode.kind.clone(),
            episode.verdict.clone(),
            episode.stuck.to_string(),
            episode.peak_stuck.to_string(),
            episode.since.clone(),
            lasted(episode, now),
            match &episode.ended_at {
                None => "open".to_owned(),
                Some(at) => format!("ended {} ago", now.age(at)),
            },
        ]);
    }
    table.render()
}

/// By the server's clock if it has ended, else so far.
fn lasted(episode: &wire::Episode, now: Now) -> String {
    let moments = |ended: &String| {
        let since = Timestamp::parse_rfc3339(&episode.since)?;
        Some(Timestamp::parse_rfc3339(ended)?.since(since))
    };
    match &episode.ended_at {
        None => now.age(&episode.since),
        Some(ended) => {
            moments(ended).map_or_else(|| "-".to_owned(), |d| output::span(d.as_secs_f64()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_how_long_each_lasted() {
        let episode = wire::Episode {
            queue: "reports".into(),
            kind: "render".into(),
            verdict: "no_workers".into(),
            since: "2026-08-24T10:00:00.000Z".into(),
            peak_stuck: 12,
            ..wire::Episode::default()
        };
        let ended =
            wire::Episode { ended_at: Some("2026-08-24T10:01:30.000Z".into()), ..episode.clone() };
        let text = table(&[ended], Now::read());
        assert!(text.starts_with(
            "QUEUE    KIND    VERDICT     STUCK  PEAK  SINCE                     LASTED  STATE\n\
             reports  render  no_workers      0    12  2026-08-24T10:00:00.000Z   1m30s  ended "
        ));
        assert!(table(&[episode], Now::read()).ends_with("  open\n"));
    }
}
