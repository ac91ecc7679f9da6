//! Every situation and every event: the store's answer, and the record it then shows, must be
//! what the pure state machine says.

use std::sync::Arc;

use punctual::domain::id::JobId;
use punctual::domain::job::{Job, Phase, Tally, Wait};
use punctual::domain::state::{Applied, Change, Event, Order, Rejected, apply};
use punctual::domain::time::Timestamp;
use punctual::store::{
    Absence, Beat, ClaimRequest, Found, NewJob, Outcome, Refusal, Ruling, Settle, Transition,
};

use crate::oracle::{Situation, every_event, every_situation, secret_of};
use crate::stores::{DAY, START, World, counts, for_each_store, ids, name};

/// The longest that any record of the past is kept here.
const LONG: std::time::Duration = DAY.saturating_mul(365);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_half_answers_as_the_oracle() {
    half(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_half_answers_as_the_oracle() {
    half(1).await;
}

/// Every second situation: two tests share the work between cores.
async fn half(remainder: usize) {
    for_each_store(move |world| async move {
        let world = Arc::new(world);
        for (at, situation) in every_situation(START).into_iter().enumerate() {
            if at % 2 != remainder {
                continue;
            }
            for (event_name, event) in every_event(&situation.job()) {
                let pair = Pair { situation: &situation, event_name };
                let checked = pair.check(&world, &event).await;
                if let Err(problem) = checked {
                    panic!("{} / {}: {problem}", pair.situation.name, pair.event_name);
                }
            }
        }
    })
    .await;
}

struct Pair<'a> {
    situation: &'a Situation,
    event_name: String,
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, wanted: &T) -> Result<(), String> {
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{what}:\n got    {got:?}\n wanted {wanted:?}"))
    }
}

impl Pair<'_> {
    /// The store is empty before and after.
    async fn check(&self, world: &World, event: &Event) -> Result<(), String> {
        let (start, now) = (self.situation.fresh.created_at, self.situation.now);
        let new = world.job_with(start, |n| n.job = self.situation.fresh.clone());
        let spec = new.spec.clone();
        let id = world.submit(new, start).await;
        let mut job = self.situation.fresh.clone();
        for (step, at) in &self.situation.path {
            job = fire(world, id, &job, step, *at)
                .await?
                .map_err(|r| format!("{step:?}: {r:?}"))?
                .job;
        }
        // One that waits behind it in line, for seeing who keeps their place.
        let witness = world.submit(another_kind(world.job(now)), now).await;

        let outcome = fire(world, id, &job, event, now).await?;
        let after = outcome.as_ref().map_or_else(|_| job.clone(), |a| a.job.clone());
        let mut expected = vec![(Tally::Queued, 1)];
        if let Ok(Applied { change: Change::Deleted, .. }) = outcome {
            let why = if *event == Event::Delete { Absence::Deleted } else { Absence::Expired };
            same("absence", &world.found(id).await, &Found::Absent(why))?;
        } else {
            let record = world.record(id).await;
            same("record", &record.job, &after)?;
            same("spec", &record.spec, &spec)?;
            expected.push((Tally::of(&after.phase), 1));
        }
        same("tallies", &world.tallies("q", now).await, &counts(&expected))?;
        world.counters_are_exact().await;
        let order = outcome.map_or(Order::Keep, |a| a.order);
        place(world, id, witness, &after, order, now).await?;
        clear(world, &[id, witness], now).await;
        same("jobs left", &world.total(now).await, &0)
    }
}

fn another_kind(mut new: NewJob) -> NewJob {
    new.spec.kind = name("witness");
    new
}

/// Whether the job is before or behind the witness, where that can be seen: when it is queued, or
/// is so again after a withdrawal, which keeps the place.
async fn place(
    world: &World,
    id: JobId,
    witness: JobId,
    job: &Job,
    order: Order,
    now: Timestamp,
) -> Result<(), String> {
    if let Phase::Running(_) = job.phase {
        world.store().withdraw(vec![(id, job.fence)], now).await.unwrap();
    }
    let Found::Here(record) = world.found(id).await else { return Ok(()) };
    let claimable = apply(
        &record.job,
        &Event::Claim {
            worker: crate::oracle::worker(),
            token: world.token().hash(),
            lease: crate::oracle::LEASE,
            trace: None,
        },
        now,
    );
    if claimable.is_err() {
        return Ok(());
    }
    let line = ids(&world.take(2, now).await);
    let wanted = match order {
        Order::Keep => [id, witness],
        Order::Renew => [witness, id],
    };
    same("line", &line.as_slice(), &wanted.as_slice())
}

async fn clear(world: &World, jobs: &[JobId], now: Timestamp) {
    use punctual::domain::job::Requester::Operator;
    for id in jobs {
        let _ = world.store().cancel(*id, Operator, None, true, now).await.unwrap();
        let _ = world.store().delete(*id, std::time::Duration::ZERO, now).await.unwrap();
    }
}

/// Fires the event through its verb and compares the answer with the oracle's, which is returned.
async fn fire(
    world: &World,
    id: JobId,
    job: &Job,
    event: &Event,
    now: Timestamp,
) -> Result<Result<Applied, Rejected>, String> {
    let store = world.store();
    let wanted = apply(job, event, now);
    match event {
        Event::Claim { .. } => return claim(world, id, job, event, now).await,
        Event::Heartbeat { token, extend, progress } => {
            let beat = Beat {
                id,
                token: *token,
                extend: *extend,
                progress: progress.clone(),
                checkpoint: None,
            };
            let rulings = store.heartbeat(vec![beat], now).await.unwrap();
            ruling(job, &rulings, &wanted)?;
        }
        Event::Complete { token } => {
            settle(world, id, job, *token, Outcome::Completed { result: None }, &wanted, now)
                .await?;
        }
        Event::Fail { token, error, retry_after, unit } => {
            let outcome =
                Outcome::Failed { error: error.clone(), retry_after: *retry_after, unit: *unit };
            settle(world, id, job, *token, outcome, &wanted, now).await?;
        }
        Event::Release { token, delay } => {
            let outcome = Outcome::Released { delay: *delay };
            settle(world, id, job, *token, outcome, &wanted, now).await?;
        }
        Event::AgreeToCancel { token } => {
            settle(world, id, job, *token, Outcome::Cancelled, &wanted, now).await?;
        }
        Event::Withdraw { fence } => {
            let done = store.withdraw(vec![(id, *fence)], now).await.unwrap();
            transitions(job, &done, &wanted)?;
        }
        // One look of the reaper does both.
        Event::TakeBack { .. } | Event::MissStart => {
            let wanted = apply(job, &crate::oracle::TAKE_BACK, now)
                .or_else(|r| apply(job, &Event::MissStart, now).map_err(|_| r));
            let done = store.take_back(10, vec![0.5], now).await.unwrap();
            transitions(job, &done, &wanted)?;
            return Ok(wanted);
        }
        Event::Extend => {
            let extended = store.extend_leases(now).await.unwrap();
            let wants = wanted.as_ref().is_ok_and(|a| a.change == Change::Extended);
            same("leases extended", &extended, &u64::from(wants))?;
        }
        Event::Cancel { by, reason, force } => {
            let done = store.cancel(id, *by, reason.clone(), *force, now).await.unwrap();
            ruling(job, &[done], &wanted)?;
        }
        Event::Promote => {
            let ready = store.promote(10, now).await.unwrap();
            let wants = if wanted.is_ok() { vec![(name("q"), 1)] } else { Vec::new() };
            same("promoted", &ready, &wants)?;
        }
        Event::Delete => {
            let done = store.delete(id, LONG, now).await.unwrap();
            ruling(job, &[done], &wanted)?;
        }
        Event::Expire => {
            let retired = store.expire(10, LONG, now).await.unwrap();
            same("jobs expired", &retired.jobs, &u64::from(wanted.is_ok()))?;
        }
    }
    Ok(wanted)
}

/// A claim that finds the job too late for its first start fails it instead.
async fn claim(
    world: &World,
    id: JobId,
    job: &Job,
    event: &Event,
    now: Timestamp,
) -> Result<Result<Applied, Rejected>, String> {
    let Event::Claim { worker, token, lease, .. } = event else { unreachable!("a claim") };
    let request = ClaimRequest {
        worker: worker.clone(),
        kinds: vec![name("k")],
        tokens: vec![secret_of(*token)],
        lease: Some(*lease),
        ..world.ask(&["q"], 0, now)
    };
    let claimed = world.claim(request, now).await;
    let given = apply(job, event, now);
    let missed = match given {
        Err(_) if job.phase == Phase::Pending(Wait::Queued) => apply(job, &Event::MissStart, now),
        Ok(_) | Err(_) => Err(Rejected::NotEligible),
    };
    match &given {
        Ok(applied) => {
            same("claimed", &ids(&claimed.jobs), &vec![id])?;
            let leased = &claimed.jobs[0];
            same("leased job", &leased.job, &applied.job)?;
            same("token", &leased.token.hash(), token)?;
            same("eligible since", &leased.eligible_since, &job.eligible_at)?;
        }
        Err(_) => same("claimed", &claimed.jobs.len(), &0)?,
    }
    transitions(job, &claimed.missed, &missed)?;
    Ok(given.or_else(|r| missed.map_err(|_| r)))
}

async fn settle(
    world: &World,
    id: JobId,
    job: &Job,
    token: punctual::domain::lease::TokenHash,
    outcome: Outcome,
    wanted: &Result<Applied, Rejected>,
    now: Timestamp,
) -> Result<(), String> {
    let settlement = Settle { id, token, outcome };
    let (rulings, claimed) = world.store().settle(vec![settlement], None, now).await.unwrap();
    same("claimed", &claimed.is_none(), &true)?;
    ruling(job, &rulings, wanted)
}

/// A verb that answers each with a ruling.
fn ruling(
    before: &Job,
    rulings: &[Ruling],
    wanted: &Result<Applied, Rejected>,
) -> Result<(), String> {
    same("rulings", &rulings.len(), &1)?;
    match (&rulings[0], wanted) {
        (Ok(got), Ok(wanted)) => transition(before, got, wanted),
        (Err(Refusal::Rejected(got)), Err(wanted)) => same("refusal", got, wanted),
        (got, wanted) => Err(format!("ruling:\n got    {got:?}\n wanted {wanted:?}")),
    }
}

/// A verb that passes over what it cannot change.
fn transitions(
    before: &Job,
    got: &[Transition],
    wanted: &Result<Applied, Rejected>,
) -> Result<(), String> {
    match (got, wanted) {
        ([], Err(_)) => Ok(()),
        ([one], Ok(wanted)) => transition(before, one, wanted),
        (got, wanted) => Err(format!("transitions:\n got    {got:?}\n wanted {wanted:?}")),
    }
}

fn transition(before: &Job, got: &Transition, wanted: &Applied) -> Result<(), String> {
    same("change", &got.change, &wanted.change)?;
    same("job", &got.job, &wanted.job)?;
    same("queue and kind", &(got.queue.as_str(), got.kind.as_str()), &("q", "k"))?;
    let ended = before.lease().is_some() && wanted.job.lease().is_none();
    same("attempt ended", &got.attempt_ended, &ended)
}
