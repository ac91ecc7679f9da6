//! Doing a finished job's work again.

use reqwest::Method;

use super::{Client, Result, Snapshot};
use crate::wire;

impl Client {
    /// `POST /v1/jobs/{id}/retry`, once. The answer is the new job, or, `replayed`, the one that
    /// came of an earlier retry: so without `force` it is safe to repeat. With `force` every call
    /// that is carried out makes another job.
    pub async fn retry(
        &self,
        id: &str,
        request: &wire::RetryRequest,
        force: bool,
    ) -> Result<Snapshot> {
        let mut call = self.call(Method::POST, &["jobs", id, "retry"]).json(request)?;
        if force {
            call = call.query(&[("force", "true".to_owned())]);
        }
        self.send(call).await?.snapshot()
    }
}
