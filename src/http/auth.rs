//! Who asks, and whether he may: the first thing that is decided about a request.
//!
//! [`admit`] stands before every handler, and before the body is read. It finds what the route
//! needs ([`needs`], one table; what is not stated there is not answered), whose token it is
//! ([`Gate`]), whether the token has the scope, and whether it has a request left. A handler gets
//! the result as an [`Asker`], and asks it about the queues, kinds and payloads that it finds in
//! the request.
//!
//! Invariants:
//! - no token is in a log, an error, a metric or a trace, and none is kept: only hashes are;
//! - whether a token is known is found in a time that says nothing about the others;
//! - what is in force changes as a whole, between two requests.

mod gate;
mod needs;
mod parked;
mod quota;

use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::header::{ALLOW, WWW_AUTHENTICATE};
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, Uri};

pub use gate::{Gate, Keys};
pub(super) use needs::is_verbose;
pub(super) use parked::Ended;
pub(super) use quota::POLICY;

use super::Api;
use super::problem::{Code, Problem};
use crate::domain::access::{Lists, Permit, Scope, Scopes};
use crate::domain::names::Name;
use crate::engine::{Caller, Presence};
use crate::telemetry::events::Submission;
use crate::telemetry::labels::AuthRefusal;

use gate::{Holder, Stranger};
use needs::{Need, Stated};
use quota::{Left, Rate};

const REALM: &str = "Bearer realm=\"jobs\"";

/// On whose behalf a request is, as far as it has been let in.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    holder: Arc<Holder>,
    /// One of the holder's, by what the route is for.
    caller: Arc<Caller>,
    request_id: HeaderValue,
}

impl Deref for Asker {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl Asker {
    /// Of a request that [`admit`] let in with a need.
    pub(super) fn of(extensions: &Extensions) -> Option<Self> {
        extensions.get::<Self>().cloned()
    }

    #[cfg(test)]
    pub(super) fn test(name: &str, request_id: &'static str) -> Self {
        let holder = Holder::test(name);
        let caller = Arc::clone(&holder.caller);
        Self { holder, caller, request_id: HeaderValue::from_static(request_id) }
    }

    fn permit(&self) -> &Permit {
        &self.holder.permit
    }

    /// The token's name.
    pub(super) fn name(&self) -> &Name {
        &self.permit().name
    }

    pub(super) fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    /// The kinds that it is confined to.
    pub(super) fn kinds(&self) -> Option<&[Name]> {
        self.permit().lists.kinds.as_deref()
    }

    /// The only queue that it is confined to.
    pub(super) fn only_queue(&self) -> Option<&Name> {
        match self.permit().lists.queues.as_deref() {
            Some([only]) => Some(only),
            Some(_) | None => None,
        }
    }

    /// Whether it is confined to some queues or kinds.
    pub(super) fn is_confined(&self) -> bool {
        self.permit().lists != Lists::ALL
    }

    pub(super) fn sees_queue(&self, queue: &Name) -> bool {
        self.permit().lists.allows_queue(queue)
    }

    pub(super) fn sees(&self, queue: &Name, kind: &Name) -> bool {
        self.permit().lists.allow(queue, kind)
    }

    /// The queues and kinds that it is for.
    pub(super) fn lists(&self) -> &Lists {
        &self.permit().lists
    }

    /// Refuses a queue that is not on the token's list.
    pub(super) fn may_use_queue(&self, api: &Api, queue: &Name) -> Result<(), Problem> {
        if self.permit().lists.allows_queue(queue) {
            Ok(())
        } else {
            Err(self.unlisted(api, "queue", queue))
        }
    }

    pub(super) fn may_use_kind(&self, api: &Api, kind: &Name) -> Result<(), Problem> {
        if self.permit().lists.allows_kind(kind) {
            Ok(())
        } else {
            Err(self.unlisted(api, "kind", kind))
        }
    }

    pub(super) fn may_use(&self, api: &Api, queue: &Name, kind: &Name) -> Result<(), Problem> {
        self.may_use_queue(api, queue)?;
        self.may_use_kind(api, kind)
    }

    /// Refuses what concerns a worker that takes other jobs too than the token is for.
    pub(super) fn may_send_away(&self, api: &Api, worker: &Presence) -> Result<(), Problem> {
        if self.lists().allow_all_of(&worker.queues, &worker.kinds) {
            return Ok(());
        }
        api.engine().events().auth_refused(AuthRefusal::List);
        let detail = format!(
            "the worker takes jobs of queues or kinds that the token {} is not for",
            self.name()
        );
        Err(beyond_lists(detail))
    }

    fn unlisted(&self, api: &Api, what: &str, name: &Name) -> Problem {
        api.engine().events().auth_refused(AuthRefusal::List);
        beyond_lists(format!("the token {} is not for {what} {name}", self.name()))
    }

    /// Refuses a token with none of these scopes, for what needs more than its route does. `what`
    /// that is, for people.
    pub(super) fn needs(&self, api: &Api, scopes: &[Scope], what: &str) -> Result<(), Problem> {
        if self.permit().has_one_of(Scopes::of(scopes)) {
            return Ok(());
        }
        api.engine().events().auth_refused(AuthRefusal::Scope);
        Err(insufficient(self.permit(), scopes, what))
    }
}

/// What is told with the answer to a request that counts against a rate.
#[derive(Debug)]
pub(super) struct Metered {
    holder: Arc<Holder>,
    left: Left,
}

impl Metered {
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        if let Some(rate) = &self.holder.rate {
            rate.tell(self.left, headers);
        }
    }

    fn told_in(&self, problem: Problem) -> Problem {
        let mut headers = HeaderMap::new();
        self.tell(&mut headers);
        with_headers(problem, headers)
    }
}

#[expect(clippy::disallowed_methods, reason = "rates are measured by a clock that never steps")]
fn instant() -> Instant {
    Instant::now()
}

/// Since the first request, or before.
fn uptime() -> Duration {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(instant).elapsed()
}

/// Whether the request is let in; then its handler finds the [`Asker`] in its extensions.
pub(super) fn admit(
    api: &Api,
    request: &mut Request,
    route: &str,
    request_id: &HeaderValue,
) -> Result<Option<Metered>, Problem> {
    let need = match needs::stated(request.method(), route, request.uri()) {
        Stated::Need(Need::Nothing) => return Ok(None),
        Stated::Need(need) => need,
        Stated::OtherMethods => return Err(other_methods(route)),
        Stated::Nothing => {
            let cause = format!("no need is stated for {} {route}", request.method());
            let problem = Problem::new(Code::InternalError, "report this with the request id");
            return Err(problem.caused_by(cause));
        }
    };
    let holder = api.gate().holder(request.headers(), api.engine().now());
    let holder = holder.map_err(|stranger| {
        refused(api, request.method(), route, reason(stranger));
        unknown(stranger)
    })?;
    let mut metered = None;
    if let Some(rate) = &holder.rate {
        let (taken, left) = rate.take(uptime());
        if !taken {
            refused(api, request.method(), route, AuthRefusal::Rate);
            return Err(too_fast(&holder.permit, rate, left));
        }
        metered = Some(Metered { holder: Arc::clone(&holder), left });
    }
    // After the rate: to try out what a token may do costs as much as to do it.
    if let Need::One(scopes) = need
        && !holder.permit.has_one_of(need.scopes())
    {
        refused(api, request.method(), route, AuthRefusal::Scope);
        let problem = insufficient(&holder.permit, scopes, "this");
        return Err(metered.iter().fold(problem, |problem, metered| metered.told_in(problem)));
    }
    let works = need == Need::One(&[Scope::Work]);
    let caller = Arc::clone(if works { &holder.worker } else { &holder.caller });
    request.extensions_mut().insert(Asker { holder, caller, request_id: request_id.clone() });
    Ok(metered)
}

/// Counts it; a submission has an outcome, also when it is not let in.
fn refused(api: &Api, method: &Method, route: &str, reason: AuthRefusal) {
    let events = api.engine().events();
    events.auth_refused(reason);
    if method == Method::POST && matches!(route, "/v1/jobs" | "/v1/jobs/batch") {
        let outcome = match reason {
            AuthRefusal::Rate => Submission::RateLimited,
            AuthRefusal::NoToken
            | AuthRefusal::Malformed
            | AuthRefusal::Unknown
            | AuthRefusal::Expired
            | AuthRefusal::Scope
            | AuthRefusal::List => Submission::Unauthorized,
        };
        events.submission(None, outcome);
    }
}

fn reason(stranger: Stranger) -> AuthRefusal {
    match stranger {
        Stranger::NoToken => AuthRefusal::NoToken,
        Stranger::Malformed { .. } => AuthRefusal::Malformed,
        Stranger::Unknown => AuthRefusal::Unknown,
        Stranger::Expired => AuthRefusal::Expired,
    }
}

/// What a route asks for: one of these scopes, any token if there are none; `None`: nothing.
pub(super) fn needed(method: &Method, route: &str) -> Option<&'static [Scope]> {
    match needs::stated(method, route, &Uri::from_static("/")) {
        Stated::Need(Need::One(scopes)) => Some(scopes),
        Stated::Need(Need::Token) => Some(&[]),
        Stated::Need(Need::Nothing) | Stated::OtherMethods | Stated::Nothing => None,
    }
}

fn challenge(parameters: &str) -> HeaderValue {
    HeaderValue::try_from(format!("{REALM}{parameters}")).unwrap_or(HeaderValue::from_static(REALM))
}

fn unknown(stranger: Stranger) -> Problem {
    let (detail, sent) = match stranger {
        Stranger::NoToken => {
            ("send Authorization: Bearer and a token of this server".to_owned(), false)
        }
        Stranger::Malformed { why, token } => (format!("Authorization {why}"), token),
        Stranger::Unknown => {
            ("this server has no such token; it may have been replaced".to_owned(), true)
        }
        Stranger::Expired => ("the token has expired; get a new one".to_owned(), true),
    };
    let parameters = if sent { ", error=\"invalid_token\"" } else { "" };
    Problem::new(Code::Unauthenticated, detail).header(WWW_AUTHENTICATE, challenge(parameters))
}

/// RFC 6750, section 3.1.
fn insufficient(permit: &Permit, scopes: &[Scope], what: &str) -> Problem {
    let names: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
    let detail = format!(
        "{what} needs a token with the scope {}; {} has {}",
        names.join(" or "),
        permit.name,
        permit.scopes,
    );
    let first = names.first().copied().unwrap_or_default();
    let parameters = format!(", error=\"insufficient_scope\", scope=\"{first}\"");
    Problem::new(Code::InsufficientScope, detail).header(WWW_AUTHENTICATE, challenge(&parameters))
}

fn beyond_lists(detail: String) -> Problem {
    Problem::new(Code::InsufficientScope, detail)
        .header(WWW_AUTHENTICATE, challenge(", error=\"insufficient_scope\""))
}

fn too_fast(permit: &Permit, rate: &Rate, left: Left) -> Problem {
    let detail =
        format!("the token {} has no request left; try again after Retry-After", permit.name);
    let mut headers = HeaderMap::new();
    rate.tell(left, &mut headers);
    with_headers(Problem::new(Code::RateLimited, detail).retry_after(left.seconds), headers)
}

fn with_headers(problem: Problem, headers: HeaderMap) -> Problem {
    headers.into_iter().fold(problem, |problem, (name, value)| match name {
        Some(name) => problem.header(name, value),
        None => problem,
    })
}

fn other_methods(route: &str) -> Problem {
    let problem = Problem::new(Code::MethodNotAllowed, "Allow lists the methods that work here");
    match HeaderValue::try_from(needs::allowed(route)) {
        Ok(allow) => problem.header(ALLOW, allow),
        Err(_) => problem,
    }
}
