//! What each route needs: one table, without which nothing is answered.

use axum::http::{Method, Uri};

use crate::domain::access::Scope::{self, Metrics, Operate, Read, Submit, Work};
use crate::domain::access::Scopes;

/// What a caller must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: for balancers, and whoever looks where things are.
    Nothing,
    /// Any token.
    Token,
    /// One of these scopes; the first is named where there is room for one.
    One(&'static [Scope]),
}

use Need::{Nothing, One, Token};

impl Need {
    pub(super) const fn scopes(self) -> Scopes {
        match self {
            Nothing | Token => Scopes::NONE,
            One(scopes) => Scopes::of(scopes),
        }
    }
}

const SUBMIT: Need = One(&[Submit]);
const WORK: Need = One(&[Work]);
const OPERATE: Need = One(&[Operate]);
const READ: Need = One(&[Read]);
/// To end a job: its owner, and operators.
const END: Need = One(&[Submit, Operate]);
/// Numbers without anything of what is in the jobs.
const NUMBERS: Need = One(&[Read, Metrics]);
const METRICS: Need = One(&[Metrics]);

const GET: &str = "GET";
const POST: &str = "POST";
const DELETE: &str = "DELETE";
const PATCH: &str = "PATCH";

/// By method and route; HEAD needs what GET does. A scope that is implied (see
/// [`Scopes::with_implied`]) is not named again.
const TABLE: &[(&str, &str, Need)] = &[
    (GET, "/", Nothing),
    (GET, "/livez", Nothing),
    // With `?verbose` what the metrics need.
    (GET, "/readyz", Nothing),
    (GET, "/metrics", METRICS),
    (GET, "/v1/meta", Token),
    (POST, "/v1/jobs", SUBMIT),
    (GET, "/v1/jobs", READ),
    (POST, "/v1/jobs/batch", SUBMIT),
    (GET, "/v1/jobs/{id}", READ),
    (DELETE, "/v1/jobs/{id}", END),
    (GET, "/v1/jobs/{id}/result", READ),
    (GET, "/v1/jobs/{id}/timeline", READ),
    (GET, "/v1/jobs/{id}/explain", READ),
    (POST, "/v1/jobs/{id}/cancel", END),
    (POST, "/v1/jobs/{id}/retry", OPERATE),
    (POST, "/v1/jobs/{id}/heartbeat", WORK),
    (POST, "/v1/jobs/{id}/complete", WORK),
    (POST, "/v1/jobs/{id}/fail", WORK),
    (POST, "/v1/jobs/{id}/release", WORK),
    (POST, "/v1/jobs/{id}/cancelled", WORK),
    (POST, "/v1/claims", WORK),
    (POST, "/v1/heartbeats", WORK),
    (POST, "/v1/settlements", WORK),
    (POST, "/v1/workers/{id}/goodbye", WORK),
    (POST, "/v1/workers/{id}/drain", OPERATE),
    (GET, "/v1/workers", READ),
    (GET, "/v1/queues", NUMBERS),
    (GET, "/v1/queues/{q}", NUMBERS),
    (PATCH, "/v1/queues/{q}", OPERATE),
    (GET, "/v1/queues/{q}/explain", READ),
    (POST, "/v1/queues/{q}/pause", OPERATE),
    (POST, "/v1/queues/{q}/resume", OPERATE),
    (GET, "/v1/kinds", NUMBERS),
    (GET, "/v1/episodes", READ),
    (GET, "/v1/tasks", NUMBERS),
    (GET, "/openapi.json", Nothing),
    (GET, "/docs", Nothing),
    (GET, "/problems/{slug}", Nothing),
];

/// What the table says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stated {
    Need(Need),
    /// The route is there and does not take the method.
    OtherMethods,
    /// A route that was forgotten here.
    Nothing,
}

/// `route` as the router writes it; empty where it knows none.
pub(super) fn stated(method: &Method, route: &str, uri: &Uri) -> Stated {
    if route.is_empty() {
        return Stated::Need(Nothing);
    }
    let wanted = if method == Method::HEAD { GET } else { method.as_str() };
    let mut known = false;
    for (method, path, need) in TABLE {
        if *path == route {
            known = true;
            if *method == wanted {
                let verbose = route == "/readyz" && is_verbose(uri);
                return Stated::Need(if verbose { METRICS } else { *need });
            }
        }
    }
    if known { Stated::OtherMethods } else { Stated::Nothing }
}

/// Whether `/readyz` is asked for its checks.
pub(crate) fn is_verbose(uri: &Uri) -> bool {
    uri.query().is_some_and(|q| q.split('&').any(|pair| pair.split('=').next() == Some("verbose")))
}

/// The value of `Allow` for a route.
pub(super) fn allowed(route: &str) -> String {
    let mut methods = Vec::new();
    for (method, _, _) in TABLE.iter().filter(|(_, path, _)| *path == route) {
        methods.push(*method);
        if *method == GET {
            methods.push("HEAD");
        }
    }
    methods.join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::telemetry::labels::{ROUTES, UNMATCHED};

    fn of(method: &Method, route: &str, uri: &str) -> Stated {
        stated(method, route, &uri.parse().unwrap())
    }

    #[test]
    fn every_route_has_a_need_and_no_need_lacks_a_route() {
        let stated: BTreeSet<&str> = TABLE.iter().map(|(_, route, _)| *route).collect();
        let known: BTreeSet<&str> = ROUTES.into_iter().filter(|r| *r != UNMATCHED).collect();
        assert_eq!(stated, known);
        let rows: BTreeSet<_> = TABLE.iter().map(|(method, route, _)| (method, route)).collect();
        assert_eq!(rows.len(), TABLE.len(), "each once");
    }

    #[test]
    fn only_what_balancers_and_newcomers_ask_is_for_all() {
        let open: Vec<&str> =
            TABLE.iter().filter(|(_, _, need)| *need == Nothing).map(|(_, r, _)| *r).collect();
        assert_eq!(open, ["/", "/livez", "/readyz", "/openapi.json", "/docs", "/problems/{slug}"]);
        for query in ["verbose", "verbose=1", "a=b&verbose"] {
            let uri = format!("/readyz?{query}");
            assert_eq!(of(&Method::GET, "/readyz", &uri), Stated::Need(METRICS), "{query}");
        }
        assert_eq!(of(&Method::GET, "/readyz", "/readyz?v=verbose"), Stated::Need(Nothing));
    }

    #[test]
    fn what_is_not_stated_is_not_open() {
        assert_eq!(of(&Method::HEAD, "/v1/jobs", "/v1/jobs"), Stated::Need(READ));
        assert_eq!(of(&Method::PUT, "/v1/jobs", "/v1/jobs"), Stated::OtherMethods);
        assert_eq!(of(&Method::GET, "/v1/new", "/v1/new"), Stated::Nothing);
        assert_eq!(of(&Method::GET, "", "/nowhere"), Stated::Need(Nothing));
        assert_eq!(allowed("/v1/jobs"), "POST, GET, HEAD");
        assert_eq!(allowed("/v1/claims"), "POST");
    }
}
