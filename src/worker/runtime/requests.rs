//! Sending: what goes when.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Runtime;
use crate::wire;
use crate::worker::calls::{self, BATCH_BYTES, BATCH_ITEMS, Reply};
use crate::worker::handler::Handler;
use crate::worker::held::{Held, Stage};
use crate::worker::outcome;

impl<H: Handler> Runtime<H> {
    pub(super) fn send_what_is_due(&mut self, now: Instant) {
        if self.heartbeats.is_free(now) && self.beat_due().is_some_and(|due| now >= due) {
            self.send_heartbeats();
        }
        if self.settlements.is_free(now) && self.has_outcomes() {
            self.send_settlements(now);
        }
        let free = self.free_places();
        if free > 0 && self.claims.is_free(now) {
            self.send_claim(free);
        }
    }

    fn send_claim(&mut self, free: usize) {
        let held = self.leases.job_ids();
        let claim = calls::claim(&self.config, free, self.shortest_lease, true, held);
        let config = Arc::clone(&self.config);
        let task = self.requests.spawn(async move {
            let sent = Instant::now();
            Reply::Claim { sent, answer: config.client.claim(&claim).await }
        });
        self.claims.occupy(task);
    }

    /// Sends the outcomes that wait, and with them the claim for the places that they leave. A
    /// claim that is parked already stays so.
    fn send_settlements(&mut self, now: Instant) {
        let held = self.leases.job_ids();
        let (mut keys, mut settlements) = (Vec::new(), Vec::new());
        let (mut bytes, mut alone) = (0, false);
        for key in self.leases.keys() {
            let Some(Held { stage: Stage::Finished(f), .. }) = self.leases.get(key) else {
                continue;
            };
            if f.on_the_way {
                continue;
            }
            bytes += outcome::weight(&f.settlement);
            if !keys.is_empty() && (bytes > BATCH_BYTES || keys.len() == BATCH_ITEMS) {
                break;
            }
            if f.alone && !keys.is_empty() {
                continue;
            }
            f.on_the_way = true;
            f.tries += 1;
            keys.push(key);
            settlements.push(f.settlement.clone());
            alone = f.alone;
            if alone {
                break;
            }
        }
        let free = self.free_places();
        let claim = (free > 0 && !alone && self.claims.is_free(now))
            .then(|| calls::claim(&self.config, free, self.shortest_lease, false, held));
        let with_claim = claim.is_some();
        let body = wire::Settlements {
            worker_id: self.config.worker_id.clone(),
            settlements,
            claim,
            // The claim carries the list. Without one there is nothing to repair by it: leases
            // that an unheard answer granted go with the next claim or the goodbye.
            held: None,
        };
        let config = Arc::clone(&self.config);
        let task = self.requests.spawn(async move {
            let sent = Instant::now();
            Reply::Settle { sent, keys, with_claim, answer: config.client.settle(&body).await }
        });
        if with_claim {
            self.claims.occupy(task.clone());
        }
        self.settlements.occupy(task);
    }

    fn send_heartbeats(&mut self) {
        let (mut leases, mut sent_progress) = (Vec::new(), Vec::new());
        let mut patience = Duration::from_secs(10);
        let mut ours: Vec<_> = self.leases.iter().filter(|(_, held)| held.is_ours()).collect();
        ours.sort_by_key(|(_, held)| held.clock.beat_at());
        for (key, held) in ours.into_iter().take(BATCH_ITEMS) {
            let progress = held.progress.take();
            patience = patience.min(held.clock.length() / 3);
            leases.push(wire::HeartbeatItem {
                job_id: held.job_id.clone(),
                lease_token: held.token.clone(),
                progress: progress.clone(),
            });
            sent_progress.push((key, progress));
        }
        self.has_news = false;
        self.last_beat = Instant::now();
        let beats = wire::Heartbeats { worker_id: self.config.worker_id.clone(), leases };
        let config = Arc::clone(&self.config);
        let task = self.requests.spawn(async move {
            let sent = Instant::now();
            let answer = config.client.heartbeats(&beats, patience).await;
            Reply::Beat { sent, sent_progress, answer }
        });
        self.heartbeats.occupy(task);
    }
}
