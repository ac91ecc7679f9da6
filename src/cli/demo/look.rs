//! One look at the server: what its engine says of queues and episodes, what its metrics count,
//! and which reports are on their way.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::feed::{Feed, Mood};
use super::scene::{ARCHIVE, REPORTS};
use crate::cli::output;
use crate::client::{Client, ListQuery};
use crate::domain::names::Name;
use crate::domain::time::Timestamp;
use crate::domain::watch::Verdict;
use crate::engine::{Engine, Episode, EpisodeFilter, QueueView};
use crate::telemetry::exposition::Format;

/// The time over which what was done a second is told.
const WINDOW: Duration = Duration::from_secs(10);

/// Episodes in one look.
const EPISODES: u32 = 200;

/// Reports whose progress is shown: as many as run at once.
pub(super) const REPORTS_SHOWN: u32 = 2;

/// What is known at one moment. While the server does not answer, what was known before.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    pub(super) rows: Vec<Row>,
    pub(super) reports: Vec<Report>,
    pub(super) archive: Archive,
}

/// One queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    pub(super) queue: String,
    pub(super) waiting: u64,
    pub(super) running: u64,
    pub(super) retrying: u64,
    pub(super) done_per_second: f64,
    pub(super) failed: u64,
    /// How long the oldest eligible job has waited.
    pub(super) oldest: Option<Duration>,
    pub(super) workers: u64,
    pub(super) stuck: u64,
    pub(super) verdict: Option<Verdict>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report {
    pub(super) percent: f64,
    pub(super) message: String,
}

/// The story of the queue without workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Archive {
    #[default]
    Waiting,
    Stuck,
    /// It was stuck, and is no more.
    Cured,
}

#[derive(Debug)]
pub(super) struct Looker {
    engine: Engine,
    client: Client,
    started: Timestamp,
    told: Told,
    counts: VecDeque<(Instant, Counts)>,
    last: Look,
}

impl Looker {
    pub(super) fn new(engine: Engine, client: Client) -> Self {
        let started = engine.now();
        let (told, counts, last) = (Told::default(), VecDeque::new(), Look::default());
        Self { engine, client, started, told, counts, last }
    }

    /// Looks, and tells the feed of episodes that opened, changed or ended.
    pub(super) async fn look(&mut self, feed: &Feed, now: Instant) -> Look {
        let filter = EpisodeFilter { ended_after: Some(self.started), ..EpisodeFilter::default() };
        let episodes = self.engine.episodes(filter, None, EPISODES).await;
        let (Ok(queues), Ok(episodes)) = (self.engine.queues().await, episodes) else {
            return self.last.clone();
        };
        for (mood, text) in self.told.news(&episodes) {
            feed.tell(mood, &text);
        }
        let counts = Counts::read(&self.engine.events().render(Format::Text));
        self.counts.push_back((now, counts));
        while self.counts.len() > 2 && now - self.counts[1].0 >= WINDOW {
            self.counts.pop_front();
        }
        let rows = queues.iter().map(|queue| self.row(queue, &episodes)).collect();
        self.last = Look { rows, reports: self.reports().await, archive: archive(&episodes) };
        self.last.clone()
    }

    fn row(&self, queue: &QueueView, episodes: &[Episode]) -> Row {
        let name = &queue.state.name;
        let open = episodes.iter().filter(|e| e.queue == *name && e.ended_at.is_none());
        Row {
            waiting: queue.eligible,
            running: queue.running,
            retrying: queue.retry_backoff,
            done_per_second: rate(&self.counts, name.as_str()),
            failed: self.counts.back().map_or(0, |(_, c)| c.of(name.as_str()).failed),
            oldest: (queue.eligible > 0).then_some(queue.oldest_pending_age),
            workers: queue.workers,
            stuck: queue.stuck,
            verdict: open.map(|e| e.verdict).min().filter(|_| queue.stuck > 0),
            queue: name.to_string(),
        }
    }

    /// The reports that run, first started first.
    async fn reports(&self) -> Vec<Report> {
        let query = ListQuery {
            queue: Some(REPORTS.to_owned()),
            status: Some("running".to_owned()),
            limit: Some(REPORTS_SHOWN),
            ..ListQuery::default()
        };
        let Ok(mut list) = self.client.list(&query).await else { return Vec::new() };
        list.jobs.sort_by(|a, b| (&a.started_at, &a.job_id).cmp(&(&b.started_at, &b.job_id)));
        let report = |job: crate::wire::Job| {
            let progress = job.progress.unwrap_or_default();
            Report {
                percent: progress.percent.unwrap_or(0.0),
                message: output::printable(progress.message.as_deref().unwrap_or("starts")),
            }
        };
        list.jobs.into_iter().map(report).collect()
    }

    /// Jobs completed, and jobs failed, in all.
    pub(super) fn done(&self) -> (u64, u64) {
        let counts = self.counts.back().map(|(_, counts)| counts);
        let all = counts.into_iter().flat_map(|counts| counts.0.values());
        all.fold((0, 0), |(done, failed), c| (done + c.completed, failed + c.failed))
    }
}

fn archive(episodes: &[Episode]) -> Archive {
    let mut of_archive = episodes.iter().filter(|e| e.queue.as_str() == ARCHIVE).peekable();
    if of_archive.peek().is_none() {
        Archive::Waiting
    } else if of_archive.any(|e| e.ended_at.is_none()) {
        Archive::Stuck
    } else {
        Archive::Cured
    }
}

/// Finished jobs of one queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    completed: u64,
    failed: u64,
}

/// By queue, as `/metrics` has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counts(HashMap<String, Count>);

impl Counts {
    fn read(metrics: &str) -> Self {
        let mut counts = Self::default();
        for line in metrics.lines() {
            let Some(rest) = line.strip_prefix("punctual_jobs_finished_total{") else { continue };
            let Some((labels, value)) = rest.rsplit_once("} ") else { continue };
            let label = |name: &str| {
                let start = format!("{name}=\"");
                let mut labels = labels.split(',');
                labels.find_map(|l| l.strip_prefix(start.as_str())?.strip_suffix('"'))
            };
            let (Some(queue), Some(status)) = (label("queue"), label("status")) else { continue };
            let value = value.parse::<f64>().unwrap_or_default() as u64;
            let count = counts.0.entry(queue.to_owned()).or_default();
            match status {
                "completed" => count.completed = value,
                "failed" => count.failed = value,
                _ => {}
            }
        }
        counts
    }

    fn of(&self, queue: &str) -> Count {
        self.0.get(queue).copied().unwrap_or_default()
    }
}

/// Jobs completed a second between the first and the last of these counts.
fn rate(counts: &VecDeque<(Instant, Counts)>, queue: &str) -> f64 {
    let (Some((first, before)), Some((last, after))) = (counts.front(), counts.back()) else {
        return 0.0;
    };
    let passed = (*last - *first).as_secs_f64();
    if passed <= 0.0 {
        return 0.0;
    }
    let done = after.of(queue).completed.saturating_sub(before.of(queue).completed);
    done as f64 / passed
}

/// What has been told of episodes.
#[derive(Debug, Default)]
struct Told {
    open: HashMap<(Name, Name, Timestamp), Verdict>,
    ended: HashSet<(Name, Name, Timestamp)>,
}

impl Told {
    fn news(&mut self, episodes: &[Episode]) -> Vec<(Mood, String)> {
        let mut news = Vec::new();
        for e in episodes {
            let key = (e.queue.clone(), e.kind.clone(), e.since);
            let (place, verdict) = (format!("{} {}", e.queue, e.kind), e.verdict.as_str());
            if let Some(ended_at) = e.ended_at {
                if self.ended.insert(key.clone()) {
                    self.open.remove(&key);
                    let lasted = output::span(ended_at.since(e.since).as_secs_f64());
                    let most = jobs(e.peak_jobs);
                    let text =
                        format!("episode ended: {place} {verdict}, {lasted}, at most {most}");
                    news.push((Mood::Good, text));
                }
                continue;
            }
            match self.open.insert(key, e.verdict) {
                None => {
                    let stuck = jobs(e.jobs);
                    let text = format!("episode opened: {place} {verdict}, {stuck} stuck");
                    news.push((Mood::Bad, text));
                }
                Some(before) if before != e.verdict => {
                    let before = before.as_str();
                    let text = format!("episode changed: {place} {before} to {verdict}");
                    news.push((Mood::Bad, text));
                }
                Some(_) => {}
            }
        }
        news
    }
}

fn jobs(n: u64) -> String {
    if n == 1 { "1 job".to_owned() } else { format!("{n} jobs") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::watch::Evidence;

    fn episode(since: i64, verdict: Verdict, ended_at: Option<i64>) -> Episode {
        Episode {
            queue: Name::trusted(ARCHIVE),
            kind: Name::trusted("archive.pack"),
            verdict,
            since: Timestamp::from_millis(since),
            jobs: 1,
            peak_jobs: 9,
            oldest_jobs: Vec::new(),
            evidence: Evidence::default(),
            ended_at: ended_at.map(Timestamp::from_millis),
        }
    }

    #[test]
    fn each_turn_of_an_episode_is_told_once() {
        let mut told = Told::default();
        let mut news = |episodes: &[Episode]| -> Vec<String> {
            told.news(episodes).into_iter().map(|(_, text)| text).collect()
        };
        let open = episode(1_000, Verdict::NoWorkers, None);
        let changed = episode(1_000, Verdict::WorkersSaturated, None);
        let ended = episode(1_000, Verdict::WorkersSaturated, Some(66_000));
        let again = episode(90_000, Verdict::NoWorkers, None);
        let opened = ["episode opened: archive archive.pack no_workers, 1 job stuck"];
        assert_eq!(news(std::slice::from_ref(&open)), opened);
        assert_eq!(news(&[open]), [""; 0]);
        assert_eq!(
            news(&[changed]),
            ["episode changed: archive archive.pack no_workers to workers_saturated"]
        );
        assert_eq!(
            news(std::slice::from_ref(&ended)),
            ["episode ended: archive archive.pack workers_saturated, 1m5s, at most 9 jobs"]
        );
        assert_eq!(news(&[again, ended]), opened);
    }

    #[test]
    fn the_story_of_the_archive() {
        let open = episode(5, Verdict::NoWorkers, None);
        let ended = episode(1, Verdict::NoWorkers, Some(3));
        assert_eq!(archive(&[]), Archive::Waiting);
        assert_eq!(archive(std::slice::from_ref(&ended)), Archive::Cured);
        assert_eq!(archive(&[open, ended]), Archive::Stuck);
    }

    #[tokio::test]
    async fn rates_come_from_what_the_metrics_count() {
        let text = |done: u64| {
            format!(
                "# TYPE punctual_jobs_finished_total counter\n\
                 punctual_jobs_finished_total{{queue=\"mail\",status=\"completed\"}} {done}\n\
                 punctual_jobs_finished_total{{queue=\"mail\",status=\"failed\"}} 3\n\
                 punctual_jobs_finished_total{{queue=\"mail\",status=\"cancelled\"}} 8\n\
                 punctual_jobs_lost_total 0\n"
            )
        };
        let now = Instant::now();
        let later = now + Duration::from_secs(4);
        let counts =
            VecDeque::from([(now, Counts::read(&text(10))), (later, Counts::read(&text(30)))]);
        assert_eq!(counts[1].1.of("mail"), Count { completed: 30, failed: 3 });
        assert!((rate(&counts, "mail") - 5.0).abs() < 1e-9);
        assert!(rate(&counts, "other").abs() < 1e-9);
        assert!(rate(&VecDeque::new(), "mail").abs() < 1e-9);
    }
}
