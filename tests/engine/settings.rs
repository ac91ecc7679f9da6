//! Settings that change while the server runs, and workers that are asked to leave.

use std::collections::HashMap;
use std::time::Duration;

use punctual::domain::directive::Directive;
use punctual::domain::names::{Name, WorkerId};
use punctual::domain::overrides::{Changes, IfMatch, QueueKey, Setting};
use punctual::engine::{ClaimOrder, Failure, QueueView, WatchSettings};
use punctual::store::{QueueLimits, StuckAfter};

use super::watch::{MINUTE, SCAN};
use super::{World, queue_defaults, world_with};

fn queue() -> Name {
    Name::trusted("default")
}

fn configured(max_running: Option<u32>, start_rate: Option<f64>) -> WatchSettings {
    WatchSettings {
        stuck_after: StuckAfter { default: Some(5 * MINUTE), queues: HashMap::new() },
        limits: vec![QueueLimits { max_running, ..QueueLimits::none(queue()) }],
        start_rates: start_rate.map(|rate| (queue(), rate)).into_iter().collect(),
        ..WatchSettings::default()
    }
}

async fn world(max_running: Option<u32>, start_rate: Option<f64>) -> World {
    let w = world_with(configured(max_running, start_rate));
    w.engine.set_limits().await.expect("limits");
    w
}

impl World {
    async fn set(&self, key: QueueKey, value: Option<Setting>) -> QueueView {
        let changes = Changes::from([(key, value)]);
        let name = queue();
        let set = self.engine.override_settings("operator", &name, changes, IfMatch::Any);
        set.await.expect("set")
    }

    fn waits(&self, worker: &str) -> tokio::task::JoinHandle<punctual::engine::Grant> {
        let (engine, everyone) = (self.engine.clone(), self.everyone.clone());
        let order = ClaimOrder {
            worker: WorkerId::trusted(worker),
            ..Self::order(Duration::from_secs(50))
        };
        tokio::spawn(async move { engine.claim(&everyone, order).await.expect("a claim") })
    }

    async fn looked(&self, looks: u32) {
        let series = "punctual_store_operation_duration_seconds_count{operation=\"claim\"}";
        self.until_counted(&format!("{series} {looks}")).await;
    }
}

#[tokio::test]
async fn more_running_wakes_who_is_parked() {
    let w = world(Some(1), None).await;
    let jobs = [w.submit().await, w.submit().await];
    assert_eq!(w.take("a", 5).await.jobs.len(), 1);
    let parked = w.waits("b");
    w.looked(2).await;
    let view = w.set(QueueKey::MaxRunning, Some(Setting::Count(2))).await;
    assert_eq!((view.state.max_running, view.state.revision), (Some(2), 1));
    // The poll of last resort is 5 s away.
    let grant = tokio::time::timeout(Duration::from_secs(4), parked).await.expect("woken");
    assert_eq!(grant.expect("the claim").jobs[0].spec.id, jobs[1]);
}

#[tokio::test]
async fn another_pace_holds_at_once() {
    let w = world(None, Some(0.001)).await;
    for _ in 0..3 {
        w.submit().await;
    }
    assert_eq!(w.take("a", 5).await.jobs.len(), 1);
    let parked = w.waits("b");
    w.looked(2).await;
    let view = w.set(QueueKey::StartRate, Some(Setting::Real(50.0))).await;
    assert_eq!(view.start_rate_limit, Some(50.0));
    let grant = tokio::time::timeout(Duration::from_secs(4), parked).await.expect("woken");
    assert_eq!(grant.expect("the claim").jobs.len(), 1, "not after a thousand seconds");
    w.set(QueueKey::StartRate, Some(Setting::Off)).await;
    assert_eq!(w.take("a", 5).await.jobs.len(), 1);
    let back = w.set(QueueKey::StartRate, None).await;
    assert_eq!(back.start_rate_limit, Some(0.001), "as configured");
}

#[tokio::test]
async fn thresholds_and_defaults_hold_at_once() {
    let w = world(None, None).await;
    w.submit().await;
    w.pass(2 * MINUTE).await;
    assert_eq!(w.verdict().await, None);
    let view = w.set(QueueKey::StuckAfter, Some(Setting::Span(MINUTE))).await;
    assert_eq!(view.stuck_after, Some(MINUTE));
    w.pass(2 * SCAN).await;
    assert!(w.verdict().await.is_some(), "stuck by the new threshold");
    w.set(QueueKey::StuckAfter, Some(Setting::Off)).await;
    w.pass(2 * SCAN).await;
    assert_eq!(w.verdict().await, None, "and by none");

    let lease = Duration::from_secs(90);
    let view = w.set(QueueKey::Lease, Some(Setting::Span(lease))).await;
    assert_eq!((view.jobs.lease, w.engine.defaults("default").lease), (lease, lease));
    let grant = w.claim().await;
    let held = grant.jobs[0].job.lease().expect("leased").expires_at;
    assert_eq!(held, grant.now.plus(lease));
    assert!(!w.engine.requires_key(&queue()));
    w.set(QueueKey::RequireKey, Some(Setting::Switch(true))).await;
    assert!(w.engine.requires_key(&queue()));
}

#[tokio::test]
async fn what_does_not_fit_or_is_meant_for_another_revision_changes_nothing() {
    let w = world(None, None).await;
    let set = |key, value, if_match| {
        let changes = Changes::from([(key, Some(value))]);
        let engine = w.engine.clone();
        async move { engine.override_settings("operator", &queue(), changes, if_match).await }
    };
    let day = Setting::Span(Duration::from_secs(86_400));
    let refused = set(QueueKey::BackoffInitial, day, IfMatch::Any).await;
    assert_eq!(refused.expect_err("longer than the longest"), Failure::BackoffFalls);
    let stale = IfMatch::OneOf(vec![7]);
    let refused = set(QueueKey::MaxDepth, Setting::Count(1), stale).await;
    assert_eq!(refused.expect_err("stale"), Failure::OtherRevision);
    let view = w.engine.queue(&queue()).await.expect("the queue");
    assert!(view.state.overrides.is_empty() && view.state.max_depth.is_none());
    let meant = IfMatch::OneOf(vec![view.state.revision]);
    set(QueueKey::MaxDepth, Setting::Count(1), meant).await.expect("the revision");
}

#[tokio::test]
async fn a_reload_leaves_overrides_where_they_are() {
    let w = world(Some(3), Some(1.0)).await;
    w.set(QueueKey::MaxRunning, Some(Setting::Count(9))).await;
    let mut queues = queue_defaults(configured(Some(4), None));
    let lease = Duration::from_secs(77);
    let mut jobs = (*queues.default_jobs).clone();
    jobs.lease = lease;
    queues.default_jobs = std::sync::Arc::new(jobs);
    queues.watch.keyed.insert(queue());
    w.engine.reconfigure(queues).await.expect("reloaded");
    let view = w.engine.queue(&queue()).await.expect("the queue");
    assert_eq!((view.state.max_running, view.start_rate_limit), (Some(9), None));
    assert_eq!((view.jobs.lease, view.require_key), (lease, true));
    assert_eq!(w.engine.defaults("another").lease, lease);
    let back = w.set(QueueKey::MaxRunning, None).await;
    assert_eq!(back.state.max_running, Some(4), "as it is configured now");
}

#[tokio::test]
async fn what_the_store_has_is_in_force_after_a_start_and_a_lost_answer() {
    let w = world(Some(3), None).await;
    w.set(QueueKey::RequireKey, Some(Setting::Switch(true))).await;
    // Another configuration forgets nothing, and neither does the look at the store.
    w.engine.sample().await.expect("a sample");
    assert!(w.engine.requires_key(&queue()));
    w.engine.set_limits().await.expect("as at a start");
    assert!(w.engine.requires_key(&queue()));
}

#[tokio::test]
async fn a_worker_that_is_asked_to_leave_gets_nothing_more() {
    let w = world(None, None).await;
    let worker = WorkerId::trusted("w");
    let unknown = w.engine.drain_worker(&worker).await;
    assert_eq!(unknown.expect_err("who is that?"), Failure::NoSuchWorker);
    w.submit().await;
    let held = w.take("w", 1).await;
    assert_eq!(held.directive, Directive::Continue);
    let parked = w.waits("w");
    w.looked(2).await;
    let view = w.engine.drain_worker(&worker).await.expect("known");
    assert_eq!((view.presence.directive, view.leases), (Directive::Drain, 1));
    let grant = tokio::time::timeout(Duration::from_secs(4), parked).await.expect("woken");
    let grant = grant.expect("the claim");
    assert_eq!((grant.jobs.len(), grant.directive), (0, Directive::Drain));
    w.submit().await;
    let again = w.waits("w").await.expect("answered at once");
    assert_eq!((again.jobs.len(), again.directive), (0, Directive::Drain));
    let other = w.take("v", 5).await;
    assert_eq!((other.jobs.len(), other.directive), (1, Directive::Continue));
    assert_eq!(w.engine.drain_worker(&worker).await.expect("again").leases, 1);
    w.complete(&held).await.expect("what it holds it may finish");
    w.engine.goodbye(&w.everyone, worker.clone()).await.expect("goodbye");
    assert_eq!(w.engine.directive(&worker), Directive::Continue);
}
