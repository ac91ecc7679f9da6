//! One contract: the catalogue, `/metrics`, the documents, the rules and the dashboards say the
//! same. Whatever is renamed, dropped or misread in one of them fails here.
//!
//! # Catalogue and `/metrics`
//!
//! A real server is scraped, fresh and after a scenario that moves every number it can. Each
//! catalogued family is there with its `TYPE` and `HELP`, no other is; every combination of closed
//! labels exists for a queue from the start; every label, value and bucket is one that the
//! catalogue declares. (That the documents follow from the catalogue is `tests/generated.rs`.)
//!
//! # Queries
//!
//! Every expression in `alerts/*.yml`, in `dashboards/*.json` (panels, variables, annotations), in
//! the catalogue's own advice and in the templates of annotations is parsed, with Grafana's
//! variables replaced. Then:
//!
//! - *names, labels, values*: every series is catalogued, recorded by a rule of ours, or
//!   Prometheus's own (`up`, `ALERTS`, `ALERTS_FOR_STATE`). Every label in a matcher, a grouping, a
//!   matching or a template exists on what it is applied to; both sides of an operator have the
//!   same labels, or nothing would ever match. Every matched value is one that can occur.
//! - *kinds*: counters, and the parts of histograms, only inside `rate`, `increase`, `irate`,
//!   `resets` or `changes`; gauges never inside the first three. A bucket's `le` survives until
//!   `histogram_quantile`.
//! - *scope store*: of the aggregations around it, from the inside out, the first that takes away
//!   `instance` and `pod` is `max` or `min`: anything else would count the replicas. Without one it
//!   is refused too, also where it is only compared (`punctual_queue_paused == 1`): each replica
//!   tells the fact, so an alert would come, and a panel show it, once for each. `absent` is
//!   allowed: it asks whether anybody tells.
//! - *scope liveness*: the first aggregation that takes away the replicas is `max` or `min`; by
//!   instance it may stand as it is. A moment (`…_timestamp_seconds`, `process_start_time_seconds`)
//!   only becomes an age (`time() - x`, `timestamp(x) - x`) or is counted with `changes`. Only an
//!   annotation may use a moment as such.
//! - *scope process*: rates of what each replica counts are added, before anything else is done to
//!   the replicas.
//! - *nothing*: no alarm is silent because the series that should tell is not there (`absence`), no
//!   ratio of flows divides by nothing (`ratios`), no bound copies a default of the configuration
//!   (`thresholds`).
//! - *units*: like is added to and compared with like, and panels show what is measured (`units`).
//! - *links* lead to dashboards, variables, documents and headings that there are.
//! - *retained*: of `punctual_jobs` the finished states count what is still kept: no rate and no
//!   ratio over them.
//! - *rule files* aggregate `without`, so that a target's other labels keep fleets apart;
//!   *dashboards* filter by their variables and use `$__rate_interval`.
//!
//! # Completeness
//!
//! Every metric is in a panel or an alert, or says in the catalogue why it is in neither; each
//! store-scope gauge has its recording rule. Dashboards are complete panel by panel. The names that
//! others rely on (alerts, recordings, dashboards, panels) are kept in a snapshot, so that none goes
//! unnoticed.
//!
//! # Answers
//!
//! Prometheus scrapes a server through a scenario, with the rules loaded. Every query of every
//! dashboard and every recording rule returns a number then, unless the panel says when it is right
//! to be empty.
//!
//! Every check is itself tested on a small sin that it must catch, with a message that says where
//! and what to do.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "support/answer.rs"]
#[allow(dead_code, reason = "more than is needed here")]
mod answer;
#[path = "support/described.rs"]
mod described;
#[path = "api/jobs.rs"]
mod jobs;
#[path = "api/kit.rs"]
#[allow(dead_code, reason = "more than is needed here")]
mod kit;
#[path = "support/server.rs"]
mod server;

#[path = "traces/collector.rs"]
#[allow(dead_code, reason = "more than is needed here")]
mod collector;
#[path = "faults/daemon.rs"]
#[allow(dead_code, reason = "more than is needed here")]
mod daemon;

#[path = "observability/absence.rs"]
mod absence;
#[path = "observability/answers.rs"]
mod answers;
#[path = "observability/conventions.rs"]
mod conventions;
#[path = "observability/coverage.rs"]
mod coverage;
#[path = "observability/dashboards.rs"]
mod dashboards;
#[path = "observability/documents.rs"]
mod documents;
#[path = "observability/exposed.rs"]
mod exposed;
#[path = "observability/files.rs"]
mod files;
#[path = "observability/finding.rs"]
mod finding;
#[path = "observability/known.rs"]
mod known;
#[path = "observability/legends.rs"]
mod legends;
#[path = "observability/links.rs"]
mod links;
#[path = "observability/live.rs"]
mod live;
#[path = "observability/matching.rs"]
mod matching;
#[path = "observability/panels.rs"]
mod panels;
#[path = "observability/prometheus.rs"]
mod prometheus;
#[path = "observability/public_names.rs"]
mod public_names;
#[path = "observability/query.rs"]
mod query;
#[path = "observability/ratios.rs"]
mod ratios;
#[path = "observability/recorded.rs"]
mod recorded;
#[path = "observability/rules.rs"]
mod rules;
#[path = "observability/scenario.rs"]
mod scenario;
#[path = "observability/scope.rs"]
mod scope;
#[path = "observability/scrape.rs"]
mod scrape;
#[path = "observability/selectors.rs"]
mod selectors;
#[path = "observability/shape.rs"]
mod shape;
#[path = "observability/templates.rs"]
mod templates;
#[path = "observability/terms.rs"]
mod terms;
#[path = "observability/thresholds.rs"]
mod thresholds;
#[path = "observability/units.rs"]
mod units;
#[path = "observability/values.rs"]
mod values;
