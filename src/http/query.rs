//! Query strings, read as strictly as bodies: a filter that is silently ignored lies.

use axum::extract::Query as Pairs;
use axum::http::{Method, Uri};

use super::problem::{Code, Problem};
use crate::domain::names::{Name, is_reserved_kind};

/// What a parameter that is a moment must be.
pub(super) const MOMENT: &str = "an RFC 3339 moment; mind that + is written %2B";

pub(super) const KIND_RULE: &str =
    "1 to 128 characters of a-z 0-9 . _ : -, the first a letter or digit, and not system.*";

/// A kind that clients may have used.
pub(super) fn client_kind(text: &str) -> Option<Name> {
    Name::parse(text).filter(|kind| !is_reserved_kind(kind.as_str()))
}

/// The routes below `/v1` whose handlers read the query.
const READ: &[(&str, &str)] = &[
    ("GET", "/v1/episodes"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/{id}"),
    ("GET", "/v1/jobs/{id}/result"),
    ("POST", "/v1/jobs/{id}/retry"),
    // They take none, and count what they refuse.
    ("POST", "/v1/jobs"),
    ("POST", "/v1/jobs/batch"),
];

/// Refuses a query where there is none to send.
pub(super) fn expected(method: &Method, route: &str, uri: &Uri) -> Result<(), Problem> {
    if uri.query().is_none() || !route.starts_with("/v1/") {
        return Ok(());
    }
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    if READ.contains(&(method, route)) { Ok(()) } else { Query::read(uri)?.finish() }
}

/// The parameters, until each has been taken.
pub(super) struct Query {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Query {
    pub(super) fn read(uri: &Uri) -> Result<Self, Problem> {
        let pairs = match uri.query() {
            None | Some("") => Vec::new(),
            Some(_) => {
                Pairs::<Vec<(String, String)>>::try_from_uri(uri)
                    .map_err(|_| invalid("is not application/x-www-form-urlencoded"))?
                    .0
            }
        };
        Ok(Self { pairs, known: Vec::new() })
    }

    /// The parameter, if it is there; once.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        self.known.push(name);
        let Some(found) = self.pairs.iter().position(|(n, _)| n == name) else { return Ok(None) };
        let value = self.pairs.swap_remove(found).1;
        if self.pairs.iter().any(|(n, _)| n == name) {
            return Err(invalid(&format!("has {name} twice")));
        }
        Ok(Some(value))
    }

    /// The parameter as `read` understands it; `rule` says what would do.
    pub(super) fn value<T>(
        &mut self,
        name: &'static str,
        rule: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match read(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(invalid(&format!("has {name}={text:?}, which must be {rule}"))),
        }
    }

    /// Refuses what was not asked for.
    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => {
                let known = match self.known.join(", ") {
                    none if none.is_empty() => "there are none here".to_owned(),
                    known => format!("known are {known}"),
                };
                Err(invalid(&format!("has the unknown parameter {name:?}; {known}")))
            }
        }
    }
}

pub(super) fn invalid(why: &str) -> Problem {
    Problem::new(Code::InvalidQuery, format!("the query {why}"))
}

/// What [`expected`] leaves to handlers.
#[cfg(test)]
pub(super) fn is_read(method: &Method, route: &str) -> bool {
    READ.contains(&(method.as_str(), route))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::read(&format!("/x?{text}").parse().unwrap()).unwrap()
    }

    #[test]
    fn takes_each_once_and_refuses_the_rest() {
        let mut q = query("a=1&b=x%20y");
        assert_eq!(q.value("a", "a number", |t| t.parse::<u32>().ok()).unwrap(), Some(1));
        assert_eq!(q.text("b").unwrap().as_deref(), Some("x y"));
        assert_eq!(q.text("c").unwrap(), None);
        assert!(q.finish().is_ok());

        assert!(query("a=1&a=2").text("a").is_err());
        let mut q = query("a=1&limt=5");
        q.text("a").unwrap();
        q.text("limit").unwrap();
        let problem = q.finish().unwrap_err();
        assert_eq!(
            problem.detail(),
            "the query has the unknown parameter \"limt\"; known are a, limit"
        );
    }

    #[test]
    fn no_query_is_empty() {
        for uri in ["/x", "/x?"] {
            assert!(Query::read(&uri.parse().unwrap()).unwrap().finish().is_ok());
        }
        let problem = query("a=1").finish().unwrap_err();
        assert_eq!(
            problem.detail(),
            "the query has the unknown parameter \"a\"; there are none here"
        );
    }

    #[test]
    fn a_wrong_value_says_what_would_do() {
        let problem =
            query("limit=x").value("limit", "1 to 9", |t| t.parse::<u8>().ok()).unwrap_err();
        assert_eq!(problem.detail(), "the query has limit=\"x\", which must be 1 to 9");
    }
}
