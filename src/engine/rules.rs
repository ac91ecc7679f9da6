//! What is in force in each queue: the configuration, with the overrides of operators over it.
//!
//! One value holds it all and is replaced whole, so nobody sees half of a change. Whoever changes
//! it has written it to the store first and takes turns with the others; should an answer of the
//! store be lost, the next sample brings in what it has.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::domain::defaults::{JobDefaults, QueueWatch};
use crate::domain::names::Name;
use crate::domain::overrides::{Changes, IfMatch, Overrides};
use crate::store::{Changed, Overriding, QueueLimits, QueueState, StoreError, StuckAfter};

use super::rates::Rates;
use super::watchdog::WatchSettings;
use super::{Engine, Failure, QueueView};

/// What is configured for queues.
#[derive(Debug, Clone)]
pub struct QueueDefaults {
    pub default_jobs: Arc<JobDefaults>,
    /// Queues with defaults of their own.
    pub queue_jobs: HashMap<String, Arc<JobDefaults>>,
    pub watch: WatchSettings,
}

/// What is in force in one queue.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct QueueRules {
    pub(super) jobs: Arc<JobDefaults>,
    pub(super) watch: QueueWatch,
}

#[derive(Debug)]
pub(super) struct InForce {
    configured: QueueDefaults,
    overrides: HashMap<Name, Arc<Overrides>>,
    /// Queues that are configured or overridden.
    queues: HashMap<Name, QueueRules>,
    stuck_after: StuckAfter,
}

impl InForce {
    fn new(configured: QueueDefaults, overrides: HashMap<Name, Arc<Overrides>>) -> Self {
        let watch = &configured.watch;
        let limits: HashMap<&Name, &QueueLimits> =
            watch.limits.iter().map(|q| (&q.name, q)).collect();
        let names: HashSet<Name> = (configured.queue_jobs.keys().map(|name| Name::trusted(name)))
            .chain(watch.limits.iter().map(|q| q.name.clone()))
            .chain(watch.stuck_after.queues.keys().cloned())
            .chain(watch.start_rates.keys().cloned())
            .chain(watch.keyed.iter().cloned())
            .chain(overrides.keys().cloned())
            .collect();
        let rules = |name: Name| {
            let limits = limits.get(&name);
            let jobs = configured.queue_jobs.get(name.as_str());
            let own = QueueRules {
                jobs: Arc::clone(jobs.unwrap_or(&configured.default_jobs)),
                watch: QueueWatch {
                    stuck_after: watch.stuck_after.of(name.as_str()),
                    max_running: limits.and_then(|q| q.max_running),
                    max_depth: limits.and_then(|q| q.max_depth),
                    start_rate: watch.start_rates.get(&name).copied(),
                    require_key: watch.keyed.contains(&name),
                },
            };
            let rules = match overrides.get(&name) {
                None => own,
                Some(over) => {
                    QueueRules { jobs: over.jobs(&own.jobs), watch: over.watch(own.watch) }
                }
            };
            (name, rules)
        };
        let queues: HashMap<Name, QueueRules> = names.into_iter().map(rules).collect();
        let thresholds = queues.iter().map(|(name, rules)| (name.clone(), rules.watch.stuck_after));
        let stuck_after =
            StuckAfter { default: watch.stuck_after.default, queues: thresholds.collect() };
        Self { configured, overrides, queues, stuck_after }
    }

    fn with(&self, queue: &Name, overrides: &Arc<Overrides>) -> Self {
        let mut all = self.overrides.clone();
        if overrides.is_empty() {
            all.remove(queue);
        } else {
            all.insert(queue.clone(), Arc::clone(overrides));
        }
        Self::new(self.configured.clone(), all)
    }

    fn jobs(&self, queue: &str) -> &Arc<JobDefaults> {
        self.queues.get(queue).map_or(&self.configured.default_jobs, |rules| &rules.jobs)
    }

    fn watch(&self, queue: &str) -> QueueWatch {
        let plain = QueueWatch {
            stuck_after: self.configured.watch.stuck_after.default,
            max_running: None,
            max_depth: None,
            start_rate: None,
            require_key: false,
        };
        self.queues.get(queue).map_or(plain, |rules| rules.watch)
    }

    /// The limits of the queue where nothing lies over them.
    fn configured_limits(&self, queue: &Name) -> QueueLimits {
        let limits = self.configured.watch.limits.iter().find(|q| q.name == *queue);
        limits.cloned().unwrap_or_else(|| QueueLimits::none(queue.clone()))
    }

    fn start_rates(&self) -> HashMap<Name, f64> {
        let rate =
            |(name, rules): (&Name, &QueueRules)| Some((name.clone(), rules.watch.start_rate?));
        self.queues.iter().filter_map(rate).collect()
    }

    /// Queues in which more may start than before, or at another pace.
    fn loosened<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a Name> {
        let names: HashSet<&Name> = self.queues.keys().chain(before.queues.keys()).collect();
        names.into_iter().filter(|name| {
            let (now, then) = (self.watch(name.as_str()), before.watch(name.as_str()));
            now.max_running != then.max_running || now.start_rate != then.start_rate
        })
    }
}

#[derive(Debug)]
pub(super) struct Rules {
    now: RwLock<Arc<InForce>>,
    /// Held by whoever changes something, from the look at what is there to the end.
    turn: tokio::sync::Mutex<()>,
}

impl Rules {
    pub(super) fn new(configured: QueueDefaults) -> Self {
        let now = InForce::new(configured, HashMap::new());
        Self { now: RwLock::new(Arc::new(now)), turn: tokio::sync::Mutex::default() }
    }

    pub(super) fn now(&self) -> Arc<InForce> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts what `change` makes of it in force, together with its rates; what was before, and what
    /// is now. `None` from `change`: it stays.
    fn replace(
        &self,
        rates: &Rates,
        change: impl FnOnce(&Arc<InForce>) -> Option<InForce>,
    ) -> Option<(Arc<InForce>, Arc<InForce>)> {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let next = Arc::new(change(&now)?);
        // Inside, so that of two changes the later one's rates stay.
        rates.set(&next.start_rates());
        let before = std::mem::replace(&mut *now, Arc::clone(&next));
        Some((before, next))
    }

    pub(super) fn start_rates(&self) -> HashMap<Name, f64> {
        self.now().start_rates()
    }
}

impl Engine {
    /// What a queue's jobs get when their submission is silent.
    pub fn defaults(&self, queue: &str) -> Arc<JobDefaults> {
        Arc::clone(self.0.rules.now().jobs(queue))
    }

    /// Whether a submission to the queue must have an idempotency key.
    pub fn requires_key(&self, queue: &Name) -> bool {
        self.0.rules.now().watch(queue.as_str()).require_key
    }

    /// How long an eligible job of the queue may wait before it is stuck.
    pub(super) fn stuck_after(&self, queue: &Name) -> Option<Duration> {
        self.0.rules.now().stuck_after.of(queue.as_str())
    }

    /// The same for all queues.
    pub(super) fn all_stuck_after(&self) -> StuckAfter {
        self.0.rules.now().stuck_after.clone()
    }

    /// Whether the queue has a limit on what runs at once.
    pub(super) fn limited(&self, queue: &Name) -> bool {
        self.0.rules.now().watch(queue.as_str()).max_running.is_some()
    }

    /// Puts in force what is configured, and over it what operators have set, as the store
    /// remembers it; before anybody claims.
    pub async fn set_limits(&self) -> Result<(), StoreError> {
        let _turn = self.0.rules.turn.lock().await;
        let watch = self.0.rules.now().configured.watch.clone();
        self.0.store.limit_names(watch.names_per_namespace);
        self.0.store.set_limits(watch.limits, self.now()).await?;
        let sample = self.0.store.sample(self.now()).await?;
        let overridden = overridden(sample.queues.iter().map(|q| &q.state));
        for (queue, overrides) in &overridden {
            for (key, set) in overrides.iter() {
                tracing::info!(
                    %queue, key = key.name(), value = %set.value, set_by = set.by,
                    set_at = set.at.to_rfc3339(),
                    "an override is in force; `punctual queues set --unset` takes it back"
                );
            }
        }
        self.put_in_force(|now| Some(InForce::new(now.configured.clone(), overridden)));
        Ok(())
    }

    /// What is configured is this from now on; overrides stay over it. All of it, or after an error
    /// nothing: it is answered when that is known, however slow the store is.
    pub async fn reconfigure(&self, configured: QueueDefaults) -> Result<(), Failure> {
        let engine = self.clone();
        self.outlive_to_the_end(async move {
            let _turn = engine.0.rules.turn.lock().await;
            let limits = configured.watch.limits.clone();
            engine.0.store.set_limits(limits, engine.now()).await?;
            engine.0.store.limit_names(configured.watch.names_per_namespace);
            engine.put_in_force(|now| Some(InForce::new(configured, now.overrides.clone())));
            Ok(())
        })
        .await
    }

    /// Changes a queue's settings over the configuration, at once and until they are taken back. A
    /// queue that was never used can be set too. The values must be in range. `by` is remembered.
    pub async fn override_settings(
        &self,
        by: &str,
        queue: &Name,
        changes: Changes,
        if_match: IfMatch,
    ) -> Result<QueueView, Failure> {
        let (engine, name, by) = (self.clone(), queue.clone(), by.to_owned());
        self.outlive(async move {
            let _turn = engine.0.rules.turn.lock().await;
            let now = engine.now();
            let in_force = engine.0.rules.now();
            let over = in_force.overrides.get(&name).cloned().unwrap_or_default();
            let configured = in_force.configured.queue_jobs.get(name.as_str());
            let configured = configured.unwrap_or(&in_force.configured.default_jobs);
            if !over.changed(&changes, &by, now).backoff_rises(configured) {
                return Err(Failure::BackoffFalls);
            }
            let change = Overriding {
                changes: changes.clone(),
                by: by.clone(),
                if_match,
                configured: in_force.configured_limits(&name),
            };
            let outcome = engine.0.store.override_settings(change, now).await?;
            let state = after(&name, outcome)?;
            engine.put_in_force(|now| Some(now.with(&name, &state.overrides)));
            for (key, value) in changes {
                let value = value.map_or_else(|| "as configured".to_owned(), |v| v.to_string());
                tracing::info!(queue = %name, key = key.name(), value, by, "a queue was set");
            }
            Ok(())
        })
        .await?;
        self.queue(queue).await
    }

    fn put_in_force(&self, change: impl FnOnce(&Arc<InForce>) -> Option<InForce>) {
        let Some((before, now)) = self.0.rules.replace(&self.0.rates, change) else { return };
        for queue in now.loosened(&before) {
            self.0.claims.wake(queue, None, u64::MAX);
        }
    }

    /// What the store has is in force, unless `known`, which was in force before it was asked, has
    /// been replaced since.
    pub(super) fn settings_sampled<'a>(
        &self,
        known: &Arc<InForce>,
        states: impl Iterator<Item = &'a QueueState>,
    ) {
        let sampled = overridden(states);
        if sampled == known.overrides {
            return;
        }
        self.put_in_force(|now| {
            let same = Arc::ptr_eq(now, known);
            same.then(|| InForce::new(now.configured.clone(), sampled))
        });
    }
}

/// The queue as it is after a change of it.
pub(super) fn after(queue: &Name, outcome: Changed) -> Result<QueueState, Failure> {
    match outcome {
        Changed::Done(state) => Ok(state),
        Changed::OtherRevision => Err(Failure::OtherRevision),
        Changed::TooManyNames => {
            tracing::info!(%queue, "a queue was not made: one name too many");
            Err(Failure::NoRoomForQueue { queue: queue.clone() })
        }
    }
}

fn overridden<'a>(states: impl Iterator<Item = &'a QueueState>) -> HashMap<Name, Arc<Overrides>> {
    let set = states.filter(|q| !q.overrides.is_empty());
    set.map(|q| (q.name.clone(), Arc::clone(&q.overrides))).collect()
}
