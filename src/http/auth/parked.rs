//! Requests that wait, and the tokens that they came with: what is revoked, or ends, waits no
//! longer. A request that is dropped here is one whose client has left, as far as the engine is
//! concerned: a job that was handed to it at that very moment goes back.

use super::gate::{Standing, Stranger};
use super::{Api, Asker, reason, unknown};
use crate::http::problem::Problem;

/// How a wait ended that is worth nothing to whoever waited.
#[derive(Debug)]
pub(in crate::http) enum Ended {
    /// The token is none any more.
    Refused(Problem),
    /// The token is for other things now than when it was let in.
    Changed,
}

impl Asker {
    /// Waits for `answer` as long as the token is in force, whatever it is for.
    pub(in crate::http) async fn while_known<T>(
        &self,
        api: &Api,
        answer: impl Future<Output = T>,
    ) -> Result<T, Problem> {
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            stranger = self.is_gone(api) => Err(gone(api, stranger)),
        }
    }

    /// Waits for `answer` as long as the token is in force and may do what it could.
    pub(in crate::http) async fn while_unchanged<T>(
        &self,
        api: &Api,
        answer: impl Future<Output = T>,
    ) -> Result<T, Ended> {
        let changed = async {
            match api.gate().until(&self.holder, api.engine(), |s| s != Standing::Same).await {
                Standing::Gone(stranger) => Ended::Refused(gone(api, stranger)),
                Standing::Same | Standing::Changed => Ended::Changed,
            }
        };
        tokio::select! {
            biased;
            answer = answer => Ok(answer),
            ended = changed => Err(ended),
        }
    }

    async fn is_gone(&self, api: &Api) -> Stranger {
        let gone = |standing| matches!(standing, Standing::Gone(_));
        match api.gate().until(&self.holder, api.engine(), gone).await {
            Standing::Gone(stranger) => stranger,
            Standing::Same | Standing::Changed => Stranger::Unknown,
        }
    }
}

fn gone(api: &Api, stranger: Stranger) -> Problem {
    api.engine().events().auth_refused(reason(stranger));
    unknown(stranger)
}
