//! `GET /v1/jobs`: newest first, in pages that stay put while jobs come and go.

use axum::extract::{Request, State};
use axum::http::header::LINK;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Api;
use super::auth::Asker;
use super::links::Base;
use super::problem::Problem;
use super::query::{KIND_RULE, MOMENT, Query, client_kind};
use super::show::{self, With};
use super::{limits, respond};
use crate::domain::cursor::CursorKey;
use crate::domain::job::{PendingReason, Status};
use crate::domain::names::{NAME_RULE, Name};
use crate::domain::time::Timestamp;
use crate::engine::ListFilter;
use crate::wire;

/// Of cursors; the first had the bare place.
const VERSION: u8 = 2;

#[derive(Debug)]
struct Asked {
    filter: ListFilter,
    stuck: bool,
    before: Option<i64>,
    limit: u32,
}

pub(super) async fn list(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    let key = api.engine().cursor_key();
    let Asked { mut filter, stuck, before, limit } = asked(&parts.uri, &key)?;
    confine(&api, &caller, &mut filter)?;
    let mut page = api.engine().list(&caller, filter, stuck, before, limit).await?;
    page.jobs.retain(|view| caller.sees(&view.record.spec.queue, &view.record.spec.kind));
    let base = Base::of(api.settings(), &parts);
    let next_cursor = page.next.map(|place| cursor(&key, place));
    let next = next_cursor.as_deref().map(|cursor| next_link(&base, &parts.uri, cursor));
    let jobs: Vec<wire::Job> =
        page.jobs.iter().map(|view| show::job(view, &base, With::Neither)).collect();
    let size = jobs.len() * 1_024 + 64;
    let mut response =
        respond::json_sized(StatusCode::OK, &wire::JobList { jobs, next_cursor }, size);
    if let Some(next) = next {
        respond::set(&mut response, LINK, next);
    }
    Ok(response)
}

/// A token that is for some queues or kinds lists those of their jobs: what it names must be among
/// them, and of the others' jobs the page is freed afterwards.
fn confine(api: &Api, caller: &Asker, filter: &mut ListFilter) -> Result<(), Problem> {
    if let Some(queue) = &filter.queue {
        caller.may_use_queue(api, queue)?;
    }
    if let Some(kind) = &filter.kind {
        caller.may_use_kind(api, kind)?;
    }
    if filter.queue.is_none() {
        filter.queue = caller.only_queue().cloned();
    }
    Ok(())
}

fn asked(uri: &Uri, key: &CursorKey) -> Result<Asked, Problem> {
    let mut query = Query::read(uri)?;
    let name = |text: &str| Name::parse(text);
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let filter = ListFilter {
        namespace: None,
        status: query.value(
            "status",
            "pending, running, completed, failed or cancelled",
            Status::parse,
        )?,
        kind: query.value("kind", KIND_RULE, client_kind)?,
        queue: query.value("queue", NAME_RULE, name)?,
        tag: query.value("tag", "a tag", some)?,
        pending_reason: query.value(
            "pending_reason",
            "scheduled, retry_backoff, queue_paused, no_workers, concurrency_limited, rate_limited \
             or queued",
            PendingReason::parse,
        )?,
        error_type: query.value("error_type", "an error's type", some)?,
        created_after: query.value("created_after", MOMENT, Timestamp::parse_rfc3339)?,
        created_before: query.value("created_before", MOMENT, Timestamp::parse_rfc3339)?,
        finished_after: query.value("finished_after", MOMENT, Timestamp::parse_rfc3339)?,
        rate_limited: Vec::new(),
        stuck: None,
    };
    let stuck = query.value("stuck", "true", |text| (text == "true").then_some(()))?;
    let limit = query.value("limit", "1 to 1000", |text| {
        text.parse().ok().filter(|n| limits::LIST.contains(n))
    })?;
    let before =
        query.value("cursor", "the next_cursor of an earlier page", |text| place(key, text))?;
    query.finish()?;
    Ok(Asked {
        filter,
        stuck: stuck.is_some(),
        before,
        limit: limit.unwrap_or(limits::LIST_DEFAULT),
    })
}

/// Opaque to clients, so that what is inside may change: a version, then the place, sealed.
fn cursor(key: &CursorKey, place: i64) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&key.seal(place));
    URL_SAFE_NO_PAD.encode(bytes)
}

fn place(key: &CursorKey, cursor: &str) -> Option<i64> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (version, place) = bytes.split_first()?;
    key.open(place).filter(|_| *version == VERSION)
}

/// The same question, from where this page ends.
fn next_link(base: &Base, uri: &Uri, cursor: &str) -> String {
    let asked = uri.query().unwrap_or_default().split('&');
    let kept = asked.filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("cursor"));
    let mut pairs: Vec<&str> = kept.collect();
    let next = format!("cursor={cursor}");
    pairs.push(&next);
    format!("<{}?{}>; rel=\"next\"", base.path("/v1/jobs"), pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::IdSecret;
    use crate::http::Settings;
    use proptest::prelude::*;

    fn ask(query: &str) -> Result<Asked, Problem> {
        asked(&format!("/v1/jobs?{query}").parse().unwrap(), &key())
    }

    fn key() -> CursorKey {
        CursorKey::new(&IdSecret::new([7; 32]))
    }

    #[test]
    fn filters() {
        let all =
            ask("status=failed&kind=a.b&queue=q&tag=x%20y&pending_reason=queued&error_type=boom\
             &created_after=2030-01-01T00:00:00Z&created_before=2030-01-02T00:00:00%2B01:00\
             &finished_after=2030-01-01T00:00:00Z&stuck=true&limit=1000")
            .unwrap();
        assert_eq!(all.filter.status, Some(Status::Failed));
        assert_eq!(all.filter.tag.as_deref(), Some("x y"));
        assert_eq!((all.limit, all.before), (1000, None));
        assert!(all.filter.created_before.is_some() && all.stuck);
        let none = ask("").unwrap();
        assert_eq!((none.limit, none.stuck), (100, false));
    }

    #[test]
    fn wrong_filters_are_named() {
        for bad in [
            "status=done",
            "limit=0",
            "limit=1001",
            "limit=ten",
            "queue=_q",
            "kind=",
            "cursor=x",
            "cursor=AQAAAAAAAAAB",
            "created_after=yesterday",
            "pending_reason=lazy",
            "stuck=false",
            "statuss=failed",
        ] {
            let problem = ask(bad).unwrap_err();
            assert_eq!(problem.code().slug(), "invalid-query");
            let name = bad.split('=').next().unwrap();
            assert!(problem.detail().contains(name), "{}", problem.detail());
        }
    }

    #[test]
    fn the_next_page_asks_the_same() {
        let settings =
            Settings { public_url: Some("https://jobs.example".into()), ..Settings::default() };
        let (parts, ()) = axum::http::Request::new(()).into_parts();
        let base = Base::of(&settings, &parts);
        let uri = "/v1/jobs?status=failed&cursor=old&tag=a%20b".parse().unwrap();
        assert_eq!(
            next_link(&base, &uri, "new"),
            "<https://jobs.example/v1/jobs?status=failed&tag=a%20b&cursor=new>; rel=\"next\""
        );
        assert!(next_link(&base, &"/v1/jobs".parse().unwrap(), "n").contains("/v1/jobs?cursor=n>"));
    }

    proptest! {
        #[test]
        fn cursors_come_back(place_: i64) {
            prop_assert_eq!(place(&key(), &cursor(&key(), place_)), Some(place_));
        }

        /// Whatever is taken is what was given, so nothing else is.
        #[test]
        fn other_cursors_are_refused(text in ".{0,20}|[A-Za-z0-9_-]{23}|Ag[A-Za-z0-9_-]{21}") {
            if let Some(taken) = place(&key(), &text) {
                prop_assert_eq!(cursor(&key(), taken), text);
            }
        }

        #[test]
        fn a_spoilt_cursor_is_a_wrong_query(place: i64, at in 0usize..23, with in "[ -$'-,.:-@]") {
            let mut text = cursor(&key(), place);
            text.replace_range(at..=at, &with);
            let encoded = text.bytes().fold(String::new(), |all, b| all + &format!("%{b:02x}"));
            let problem = ask(&format!("cursor={encoded}")).unwrap_err();
            prop_assert_eq!(problem.code().slug(), "invalid-query");
        }
    }
}
