//! What a worker asks: claims, heartbeats, settlements, the goodbye.

use std::time::Duration;

use reqwest::Method;

use super::exchange::PATIENCE;
use super::{CONNECT_TIMEOUT, Client, Result};
use crate::wire;

impl Client {
    /// `POST /v1/claims`.
    pub async fn claim(&self, claim: &wire::Claim) -> Result<wire::Claimed> {
        let held = Duration::try_from_secs_f64(claim.wait_seconds.unwrap_or(0.0));
        let patience = PATIENCE + held.unwrap_or_default();
        self.post_patiently(&["claims"], claim, patience).await
    }

    /// `POST /v1/jobs/{id}/heartbeat`.
    pub async fn heartbeat(
        &self,
        id: &str,
        beat: &wire::Heartbeat,
    ) -> Result<wire::HeartbeatAnswer> {
        self.post(&["jobs", id, "heartbeat"], beat).await
    }

    /// `POST /v1/heartbeats`, given up after `patience`: a late answer is of no use to a lease.
    pub async fn heartbeats(
        &self,
        beats: &wire::Heartbeats,
        patience: Duration,
    ) -> Result<wire::HeartbeatsAnswer> {
        self.post_patiently(&["heartbeats"], beats, patience).await
    }

    /// `POST /v1/settlements`.
    pub async fn settle(&self, settlements: &wire::Settlements) -> Result<wire::SettlementsAnswer> {
        let wait = settlements.claim.as_ref().and_then(|c| c.wait_seconds).unwrap_or(0.0);
        let patience = PATIENCE + Duration::try_from_secs_f64(wait).unwrap_or_default();
        self.post_patiently(&["settlements"], settlements, patience).await
    }

    /// `POST /v1/jobs/{id}/complete`.
    pub async fn complete(&self, id: &str, outcome: &wire::Complete) -> Result<wire::Job> {
        self.post(&["jobs", id, "complete"], outcome).await
    }

    /// `POST /v1/jobs/{id}/fail`.
    pub async fn fail(&self, id: &str, outcome: &wire::Fail) -> Result<wire::Job> {
        self.post(&["jobs", id, "fail"], outcome).await
    }

    /// `POST /v1/jobs/{id}/release`.
    pub async fn release(&self, id: &str, outcome: &wire::Release) -> Result<wire::Job> {
        self.post(&["jobs", id, "release"], outcome).await
    }

    /// `POST /v1/jobs/{id}/cancelled`: the worker has stopped, as it was asked to.
    pub async fn agree_to_cancel(
        &self,
        id: &str,
        outcome: &wire::AgreeToCancel,
    ) -> Result<wire::Job> {
        self.post(&["jobs", id, "cancelled"], outcome).await
    }

    /// `POST /v1/workers/{id}/goodbye`: every lease left is released, uncounted.
    pub async fn goodbye(&self, worker_id: &str) -> Result<()> {
        let call = self.call(Method::POST, &["workers", worker_id, "goodbye"]);
        self.send(call.patience(CONNECT_TIMEOUT)).await.map(drop)
    }
}
