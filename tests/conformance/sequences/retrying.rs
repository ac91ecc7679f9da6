//! The model's side of a retry: a new job, or the one that came of it before.

use punctual::domain::id::JobId;
use punctual::domain::job::{Record, Standing};
use punctual::domain::rerun::{Changes, rerun};
use punctual::domain::state::Rejected;
use punctual::store::{NewJob, Retried};

use super::{Known, Run, queue};

impl Run {
    /// Mostly one of the first few that have ended, so that some are retried twice.
    fn pick_to_retry(&self, n: usize) -> Option<JobId> {
        let ended = |id: &&JobId| {
            let known = &self.jobs[*id];
            known.gone.is_none() && known.job.status().is_done()
        };
        let few: Vec<JobId> = self.order.iter().filter(ended).take(3).copied().collect();
        if few.is_empty() || n.is_multiple_of(4) { self.pick(n) } else { Some(few[n % few.len()]) }
    }

    pub(super) async fn retry(&mut self, job: usize, again: bool, to: Option<u8>) {
        let Some(source) = self.pick_to_retry(job) else { return };
        let now = self.now;
        let known = &self.jobs[&source];
        // As it was read before: by now it may be gone.
        let record = Record {
            spec: known.new.spec.clone(),
            job: known.job.clone(),
            result: None,
            retried_as: known.retried_as,
            standing: Standing::default(),
        };
        let changes = Changes { queue: to.map(queue), ..Changes::default() };
        let made = rerun(&record, self.w.id(now), &changes, now);
        let ended = made.is_ok();
        let new = match made {
            Ok((spec, job)) => NewJob { spec, job, key: None },
            // Whoever asks all the same gets nothing for it.
            Err(_) => self.w.job(now),
        };
        let id = new.spec.id;
        let got = self.w.store().retry(source, new.clone(), again, now).await.unwrap();
        match (known.gone, known.retried_as.filter(|_| !again)) {
            (Some(why), _) => assert_eq!(got, Retried::Gone(why)),
            (None, _) if !ended => {
                assert_eq!(got, Retried::Refused(Rejected::JobNotFinished));
            }
            (None, Some(before)) => {
                if let Some(why) = self.jobs[&before].gone {
                    assert_eq!(got, Retried::ReplayedGone(before, why));
                    return;
                }
                let Retried::Replayed(record) = got else { panic!("{got:?}") };
                assert_eq!(record.spec.id, before);
                assert_eq!(record.job, self.jobs[&before].job);
                self.reached.insert("RetryReplayed".to_owned());
            }
            (None, None) => {
                assert_eq!(got, Retried::Created);
                let sequence = self.next_sequence();
                let job = new.job.clone();
                let made = Known { new, job, sequence, gone: None, retried_as: None };
                self.jobs.insert(id, made);
                self.order.push(id);
                self.known(source).expect("it is there").retried_as = Some(id);
                self.reached.insert("Retried".to_owned());
            }
        }
    }
}
