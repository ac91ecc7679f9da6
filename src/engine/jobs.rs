//! What clients ask of a job: its state, its result, its end.

use std::time::Duration;

use crate::domain::cursor::CursorKey;
use crate::domain::id::JobId;
use crate::domain::job::{Job, Record, Requester, Status};
use crate::store::{Absence, Found, ListFilter, Refusal, ResultBody, Ruling, Stuck};

use super::{
    Caller, Engine, Failure, Gone, JobsPage, MAX_WAIT, ResultView, TOMBSTONE_AGE, TimelineEvent,
    View, lock, timeline,
};

/// Lost jobs remembered, so that each is told once; more than these need no more telling.
const LOST_LIMIT: usize = 10_000;

impl Engine {
    pub async fn job(&self, caller: &Caller, id: JobId, payload: bool) -> Result<View, Failure> {
        self.verify(caller, id)?;
        Ok(self.view(self.record(id, payload).await?))
    }

    /// Waits until the job's version differs from `known_version`, or, without one, until it is
    /// done; at most `wait`, and not while draining. Answers the job as it is then.
    pub async fn wait_for_job(
        &self,
        caller: &Caller,
        id: JobId,
        known_version: Option<u64>,
        wait: Duration,
        payload: bool,
    ) -> Result<View, Failure> {
        self.verify(caller, id)?;
        let enough = move |job: &Job| match known_version {
            Some(version) => job.version != version,
            None => job.status().is_done(),
        };
        self.wait_until(id, wait.min(MAX_WAIT), payload, enough).await
    }

    pub(super) async fn wait_until(
        &self,
        id: JobId,
        wait: Duration,
        payload: bool,
        enough: impl Fn(&Job) -> bool,
    ) -> Result<View, Failure> {
        let ticket = self.0.jobs.register(id);
        let mut draining = self.0.draining.subscribe();
        let end = tokio::time::sleep(wait);
        tokio::pin!(end);
        let mut last = false;
        loop {
            let change = ticket.change();
            let record = self.record(id, payload).await?;
            let finished = record.job.status().is_done();
            if last || finished || enough(&record.job) || *draining.borrow_and_update() {
                return Ok(self.view(record));
            }
            tokio::select! {
                () = change => {}
                () = tokio::time::sleep(self.0.settings.poll_fallback) => {}
                () = &mut end => last = true,
                _ = draining.changed() => last = true,
            }
        }
    }

    pub(super) async fn record(&self, id: JobId, payload: bool) -> Result<Record, Failure> {
        match self.0.store.get(id, payload).await? {
            Found::Here(record) => Ok(record),
            Found::Absent(absence) => Err(self.absent(id, absence)),
        }
    }

    /// The id was issued by this store, and there is no job: gone, unless it cannot be.
    pub(super) fn absent(&self, id: JobId, absence: Absence) -> Failure {
        let created = id.created_at();
        match absence {
            Absence::Deleted => Failure::Gone { id, why: Gone::Deleted },
            Absence::Unknown
                if self.now().since(created) < TOMBSTONE_AGE
                    && created >= self.0.store.identity().created_at =>
            {
                self.tell_lost(id);
                Failure::Lost
            }
            Absence::Expired | Absence::Unknown => Failure::Gone { id, why: Gone::Expired },
        }
    }

    /// Once for each job, however often it is asked for.
    fn tell_lost(&self, id: JobId) {
        let mut told = lock(&self.0.lost);
        if told.len() < LOST_LIMIT && told.insert(id) {
            self.0.events.job_lost();
            tracing::error!(job_id = %id, "a job that was accepted is not in the store: it was lost");
        }
    }

    pub async fn result(
        &self,
        caller: &Caller,
        id: JobId,
        wait: Duration,
    ) -> Result<ResultView, Failure> {
        self.verify(caller, id)?;
        if !wait.is_zero() {
            self.wait_until(id, wait.min(MAX_WAIT), false, |job| job.status().is_done()).await?;
        }
        let mut body = self.result_body(id).await?;
        let mut waiting = None;
        if matches!(&body, ResultBody::NotCompleted(state) if !state.0.is_done()) {
            let view = self.view(self.record(id, false).await?);
            if view.retry_after.is_none() {
                // It ended between the two looks.
                body = self.result_body(id).await?;
            }
            waiting = Some(view);
        }
        Ok(match body {
            ResultBody::Elsewhere { location, expires_at } => {
                ResultView::Elsewhere { location, expires_at }
            }
            // The bytes of a completed job never change again: any constant makes a strong tag.
            ResultBody::Bytes { content_type, body, expires_at } => {
                ResultView::Bytes { content_type, body, version: 1, expires_at }
            }
            ResultBody::NotCompleted(state) => match *state {
                (Status::Cancelled, _) => ResultView::Cancelled,
                (Status::Failed, Some(error)) => ResultView::Failed(error),
                (Status::Pending | Status::Running | Status::Completed | Status::Failed, _) => {
                    match waiting {
                        Some(view) => ResultView::NotReady(Box::new(view)),
                        None => return Err(Failure::NoSuchJob),
                    }
                }
            },
        })
    }

    async fn result_body(&self, id: JobId) -> Result<ResultBody, Failure> {
        match self.0.store.result(id).await? {
            Found::Absent(absence) => Err(self.absent(id, absence)),
            Found::Here(body) => Ok(body),
        }
    }

    /// Seals the places from which lists go on.
    pub fn cursor_key(&self) -> CursorKey {
        CursorKey::new(self.0.mint.secret())
    }

    /// `stuck`: only jobs that are.
    pub async fn list(
        &self,
        caller: &Caller,
        filter: ListFilter,
        stuck: bool,
        before: Option<i64>,
        limit: u32,
    ) -> Result<JobsPage, Failure> {
        // As the list was filtered, so it is shown.
        let stuck = stuck.then(|| Stuck { after: self.all_stuck_after(), now: self.now() });
        let filter = ListFilter { rate_limited: self.0.rates.spent(), stuck, ..filter };
        let page = self.0.store.list(Self::scoped(caller, filter), before, limit).await?;
        let jobs = page.jobs.into_iter().map(|record| self.view_as_it_stands(record)).collect();
        Ok(JobsPage { jobs, next: page.next })
    }

    /// A pending job is cancelled at once; of a running one the worker is asked, unless `force`.
    pub async fn cancel(
        &self,
        caller: &Caller,
        id: JobId,
        reason: Option<String>,
        force: bool,
    ) -> Result<View, Failure> {
        self.verify(caller, id)?;
        let by = if force { Requester::Operator } else { Requester::Client };
        let engine = self.clone();
        self.outlive(async move {
            let ruling = engine.0.store.cancel(id, by, reason, force, engine.now()).await?;
            engine.conclude(id, ruling).await
        })
        .await?;
        Ok(self.view(self.record(id, false).await?))
    }

    /// Forgets a finished job.
    pub async fn delete(&self, caller: &Caller, id: JobId) -> Result<(), Failure> {
        self.verify(caller, id)?;
        let engine = self.clone();
        self.outlive(async move {
            let ruling = engine.0.store.delete(id, TOMBSTONE_AGE, engine.now()).await?;
            engine.conclude(id, ruling).await
        })
        .await
    }

    pub async fn timeline(
        &self,
        caller: &Caller,
        id: JobId,
    ) -> Result<Vec<TimelineEvent>, Failure> {
        self.verify(caller, id)?;
        let record = self.record(id, false).await?;
        let episodes = self.episodes_of(&record).await;
        Ok(timeline::of(&record, &episodes, self.now()))
    }

    async fn conclude(&self, id: JobId, ruling: Ruling) -> Result<(), Failure> {
        match ruling {
            Ok(transition) => {
                self.after(&transition);
                Ok(())
            }
            Err(Refusal::Absent(why)) => Err(self.absent(id, why)),
            Err(Refusal::Rejected(rejected)) => Err(Failure::Rejected {
                id,
                rejected,
                status: self.record(id, false).await.ok().map(|r| r.job.status()),
            }),
        }
    }
}
