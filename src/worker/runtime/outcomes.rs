//! Settling: from the end of the work to the server's verdict.

use std::collections::HashMap;

use tokio::task::{self, JoinError};

use super::Runtime;
use crate::client::ClientError;
use crate::wire;
use crate::worker::handler::{Handler, Outcome};
use crate::worker::held::{Finished, Held, Key, Stage};
use crate::worker::outcome::{self, Refusal};

impl<H: Handler> Runtime<H> {
    pub(super) fn ended(&mut self, ended: Result<(task::Id, Outcome), JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(e) if e.is_cancelled() => (e.id(), Outcome::Released),
            Err(e) => (e.id(), Outcome::failed("panic", panic_message(e))),
        };
        let Some(key) = self.keys.remove(&id) else {
            return;
        };
        match self.leases.get(key).map(|held| &held.stage) {
            Some(Stage::Lost(_)) => {
                self.leases.remove(key);
            }
            Some(Stage::Running(_)) => self.finish(key, outcome),
            Some(Stage::Unconfirmed(_) | Stage::Finished(_)) | None => {}
        }
    }

    pub(super) fn finish(&mut self, key: Key, outcome: Outcome) {
        let Some(held) = self.leases.get(key) else {
            return;
        };
        let settlement = outcome::settlement(&held.job_id, &held.token, outcome, held.told());
        held.stage = Stage::Finished(Box::new(Finished {
            settlement,
            on_the_way: false,
            tries: 0,
            alone: false,
            replaced: false,
        }));
    }

    pub(super) fn settled(&mut self, keys: &[Key], results: Vec<wire::SettlementResult>) {
        let mut results: HashMap<_, _> =
            results.into_iter().map(|r| (r.job_id.clone(), r)).collect();
        let mut later = None;
        for &key in keys {
            let Some(held) = self.leases.get(key) else {
                continue;
            };
            let result = results.remove(&held.job_id).unwrap_or_default();
            if result.ok {
                self.settled_one(key);
            } else if let Some(problem) = result.problem {
                if self.refused(key, &problem) == Refusal::Later {
                    later = Some(problem);
                }
            } else {
                self.put_back(key, false);
                later = Some(no_verdict());
            }
        }
        match later {
            Some(problem) => self.settlements.failed(&problem.title, None),
            None => self.settlements.went_well(),
        }
    }

    pub(super) fn settled_one(&mut self, key: Key) {
        let Some(Held { stage: Stage::Finished(f), .. }) = self.leases.remove(key) else {
            return;
        };
        let count = match f.settlement.outcome.as_str() {
            "completed" => &mut self.summary.completed,
            "failed" => &mut self.summary.failed,
            "cancelled" => &mut self.summary.cancelled,
            _ => &mut self.summary.released,
        };
        *count += 1;
        if let Some(error) = &f.settlement.error {
            let line = error.message.trim_end().lines().next_back().unwrap_or_default();
            tracing::warn!(job_id = %f.settlement.job_id, "the attempt failed: {}: {line}", error.kind);
        }
        tracing::debug!(job_id = %f.settlement.job_id, outcome = %f.settlement.outcome, "settled");
    }

    fn refused(&mut self, key: Key, problem: &wire::Problem) -> Refusal {
        let verdict = outcome::refusal(problem);
        let Some(held) = self.leases.get(key) else {
            return verdict;
        };
        let Stage::Finished(f) = &mut held.stage else {
            return verdict;
        };
        f.on_the_way = false;
        match verdict {
            Refusal::Later => {}
            Refusal::Unfit if !f.replaced => {
                f.settlement = outcome::unfit(&f.settlement, problem);
                f.replaced = true;
            }
            Refusal::Unfit | Refusal::Gone => {
                let (was, code) = (&f.settlement.outcome, &problem.code);
                tracing::warn!(job_id = %held.job_id, "the outcome \"{was}\" came to nothing ({code})");
                self.leases.remove(key);
                self.summary.lost += 1;
            }
        }
        verdict
    }

    fn put_all_back(&mut self, keys: &[Key], alone: bool) {
        for key in keys {
            self.put_back(*key, alone);
        }
    }

    fn put_back(&mut self, key: Key, alone: bool) {
        if let Some(Held { stage: Stage::Finished(f), .. }) = self.leases.get(key) {
            f.on_the_way = false;
            f.alone |= alone;
        }
    }

    /// No verdict on any of them, or one on the whole request.
    pub(super) fn not_settled(&mut self, keys: &[Key], with_claim: bool, error: &ClientError) {
        match (error.as_problem().filter(|p| is_about_content(p)), keys) {
            // What is wrong with a request that holds nothing else is wrong with the outcome.
            (Some(problem), [key]) if !with_claim => {
                self.refused(*key, problem);
            }
            // What is wrong with one part of many shows when each goes alone.
            (Some(_), _) => self.put_all_back(keys, true),
            (None, _) => {
                self.put_all_back(keys, false);
                self.settlements.failed(&error.to_string(), error.retry_after());
            }
        }
    }
}

pub(super) fn no_verdict() -> wire::Problem {
    wire::Problem { title: "the server gave no verdict".into(), ..wire::Problem::default() }
}

/// 4xx that name the body, and not the caller, its rate or the address.
fn is_about_content(problem: &wire::Problem) -> bool {
    matches!(problem.status, 400 | 409 | 413 | 422)
}

fn panic_message(error: JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else {
        return "the handler panicked".to_owned();
    };
    let text = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "the handler panicked".to_owned())
}
