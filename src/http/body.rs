//! Reads request bodies: the right media type, not too large, not too slow, not too many at once.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::Api;
use super::limits;
use super::problem::{Code, Problem};

/// How much of a refused body is still read, so that its sender gets to see the answer instead
/// of a broken connection; and for how long.
const DISCARD_BYTES: usize = 64 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(2);

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The unit in which [`ROOM`] is shared out.
const UNIT: usize = 1 << 10;
/// For all bodies but the small ones. One for the process, as memory is.
static ROOM: Semaphore = Semaphore::const_new(limits::ALL_BODIES_BYTES / UNIT);

/// The body of a request that must have one.
pub(super) async fn read(api: &Api, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    if !body.is_end_stream() || headers.contains_key(CONTENT_TYPE) {
        media_type_is_json(headers)?;
    }
    bytes(headers, body, api.settings().body_timeout, &ROOM).await
}

/// The body of a PATCH: a JSON merge patch (RFC 7396), called that or just JSON.
pub(super) async fn read_merge_patch(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, Problem> {
    media_type_is(headers, &[MERGE_PATCH, JSON]).map_err(|problem| {
        // RFC 5789 section 2.2.
        let known = HeaderValue::from_static("application/merge-patch+json, application/json");
        problem.header(ACCEPT_PATCH, known)
    })?;
    bytes(headers, body, api.settings().body_timeout, &ROOM).await
}

/// The body of a request that may go without.
pub(super) async fn read_if_any(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
) -> Result<Option<Bytes>, Problem> {
    if body.is_end_stream() {
        return Ok(None);
    }
    read(api, headers, body).await.map(Some)
}

fn media_type_is_json(headers: &HeaderMap) -> Result<(), Problem> {
    // RFC 9110 section 15.5.16: Accept names what would do.
    let json = HeaderValue::from_static(JSON);
    media_type_is(headers, &[JSON]).map_err(|problem| problem.header(ACCEPT, json))
}

fn media_type_is(headers: &HeaderMap, wanted: &[&str]) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let detail = match given {
        Some(text) if wanted.iter().any(|wanted| is(text, wanted)) => {
            match headers.get(CONTENT_ENCODING) {
                None => return Ok(()),
                Some(encoding) if encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
                    return Ok(());
                }
                Some(_) => "the body must not be compressed; leave Content-Encoding out".to_owned(),
            }
        }
        Some(text) => format!("the body is sent as {text:?}; send JSON as application/json"),
        None => "Content-Type is missing; send JSON as application/json".to_owned(),
    };
    Err(Problem::new(Code::UnsupportedMediaType, detail))
}

fn is(media_type: &str, wanted: &str) -> bool {
    let mut parts = media_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case(wanted)
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                let value = value.trim().trim_matches('"');
                value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8")
            }
            Some(_) | None => true,
        })
}

async fn bytes(
    headers: &HeaderMap,
    mut body: Body,
    patience: Duration,
    room: &'static Semaphore,
) -> Result<Bytes, Problem> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<usize>().ok());
    if announced.is_some_and(|n| n > limits::BODY_BYTES) {
        // Whoever waits for 100 Continue has sent nothing yet.
        if !headers.contains_key(EXPECT) {
            discard(body).await;
        }
        return Err(too_large());
    }
    let announced = announced.unwrap_or(0);
    let mut share = Share::of(room);
    if timeout(patience, share.cover(announced)).await.is_err() {
        if !headers.contains_key(EXPECT) {
            discard(body).await;
        }
        return Err(overloaded());
    }
    // Only now the client is asked for it, and its time begins.
    match timeout(patience, collect(&mut body, announced, &mut share)).await {
        Ok(Ok(bytes)) => Ok(share.keep_for(bytes)),
        Ok(Err(Cut::TooLarge)) => {
            drop(share);
            discard(body).await;
            Err(too_large())
        }
        Ok(Err(Cut::Broken(error))) => {
            Err(Problem::new(Code::BadRequest, format!("the body broke off: {error}")))
        }
        Err(_) if share.waits => {
            drop(share);
            discard(body).await;
            Err(overloaded())
        }
        Err(_) => {
            let detail = format!("the body did not arrive within {} s", patience.as_secs_f64());
            let close = HeaderValue::from_static("close");
            Err(Problem::new(Code::RequestTimeout, detail).header(CONNECTION, close))
        }
    }
}

fn too_large() -> Problem {
    Problem::too_large("the request body", limits::BODY_BYTES)
}

fn overloaded() -> Problem {
    let detail = "the server holds as many large bodies as it can; repeat it after Retry-After";
    let cause = format!("request bodies fill their {} MiB", limits::ALL_BODIES_BYTES >> 20);
    Problem::new(Code::Overloaded, detail).retry_soon().caused_by(cause)
}

/// What one body takes of the room for all.
struct Share {
    room: &'static Semaphore,
    permit: Option<SemaphorePermit<'static>>,
    /// In the queue for more.
    waits: bool,
}

impl Share {
    fn of(room: &'static Semaphore) -> Self {
        Self { room, permit: None, waits: false }
    }

    /// Waits until there is room for `size` bytes in all. Whoever did not announce them asks for
    /// twice as much each time: rarely, and as a buffer grows.
    async fn cover(&mut self, size: usize) {
        let has = self.permit.as_ref().map_or(0, SemaphorePermit::num_permits);
        if size <= limits::SMALL_BODY_BYTES || size <= has * UNIT {
            return;
        }
        let wants = size.div_ceil(UNIT).max((2 * has).min(limits::BODY_BYTES / UNIT));
        self.waits = true;
        let more = self.room.acquire_many((wants - has) as u32).await;
        self.waits = false;
        let more = more.expect("the room is never closed");
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
    }

    /// For as long as anybody has them.
    fn keep_for(self, bytes: Bytes) -> Bytes {
        match self.permit {
            None => bytes,
            Some(permit) => Bytes::from_owner(Kept { bytes, _permit: permit }),
        }
    }
}

struct Kept {
    bytes: Bytes,
    _permit: SemaphorePermit<'static>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

enum Cut {
    TooLarge,
    Broken(axum::Error),
}

/// Most bodies are one frame, which is not copied.
async fn collect(body: &mut Body, announced: usize, share: &mut Share) -> Result<Bytes, Cut> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Cut::Broken)?.into_data() else { continue };
        let size = first.len() + all.len() + data.len();
        if size > limits::BODY_BYTES {
            return Err(Cut::TooLarge);
        }
        share.cover(size).await;
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                all.reserve(announced.max(size));
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

async fn discard(mut body: Body) {
    let read = async {
        let mut left = DISCARD_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(size) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Either way the answer follows.
    drop(timeout(DISCARD_TIME, read).await);
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::convert::Infallible;

    /// Nobody else's.
    fn room(size: usize) -> &'static Semaphore {
        Box::leak(Box::new(Semaphore::new(size / UNIT)))
    }

    fn chunks(sizes: &[usize]) -> Body {
        let frames: Vec<Result<Bytes, Infallible>> =
            sizes.iter().map(|n| Ok(Bytes::from(vec![b'x'; *n]))).collect();
        Body::from_stream(stream::iter(frames))
    }

    async fn status(headers: &HeaderMap, body: Body) -> Result<usize, u16> {
        let read = bytes(headers, body, Duration::from_secs(5), room(limits::BODY_BYTES)).await;
        read.map(|b| b.len()).map_err(|p| p.code().status())
    }

    #[test]
    fn only_plain_json_will_do() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
        ] {
            assert!(is(good, JSON), "{good}");
        }
        for bad in [
            "",
            "text/json",
            "application/problem+json",
            "application/json; charset=latin1",
            "json",
        ] {
            assert!(!is(bad, JSON), "{bad}");
        }
    }

    #[test]
    fn says_what_would_do() {
        let refused = media_type_is_json(&HeaderMap::new()).unwrap_err().render("r", None);
        assert_eq!(refused.status(), 415);
        assert_eq!(refused.headers()[ACCEPT], "application/json");
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert!(media_type_is_json(&headers).is_ok());
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(media_type_is_json(&headers).is_err());
    }

    #[tokio::test]
    async fn bodies_are_joined_and_bounded() {
        let none = HeaderMap::new();
        assert_eq!(status(&none, Body::empty()).await, Ok(0));
        assert_eq!(status(&none, Body::from("abc")).await, Ok(3));
        assert_eq!(status(&none, chunks(&[1, 2, 0, 3])).await, Ok(6));
        let max = limits::BODY_BYTES;
        assert_eq!(status(&none, chunks(&[max / 2, max / 2])).await, Ok(max));
        assert_eq!(status(&none, chunks(&[max, 1])).await, Err(413));
        assert_eq!(status(&none, chunks(&[max / 2; 20])).await, Err(413));
    }

    #[tokio::test]
    async fn an_announced_size_is_believed_when_it_is_too_large() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(limits::BODY_BYTES + 1));
        assert_eq!(status(&headers, Body::from("a")).await, Err(413));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(1));
        let max = limits::BODY_BYTES;
        assert_eq!(status(&headers, chunks(&[max, max])).await, Err(413), "and not when it lies");
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up() {
        let never = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let patience = Duration::from_millis(10);
        let read = bytes(&HeaderMap::new(), never, patience, room(0)).await;
        assert_eq!(read.unwrap_err().code(), Code::RequestTimeout);
    }

    fn announcing(size: usize) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(size))])
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn large_bodies_share_a_room() {
        let room = room(256 << 10);
        let free = room.available_permits();
        for headers in [announcing(200 << 10), HeaderMap::new()] {
            let large = || chunks(&[100 << 10, 100 << 10]);
            let first = bytes(&headers, large(), LONG, room).await.unwrap();
            let part = first.slice(7..);
            drop(first);
            assert!(room.available_permits() <= free - 200, "all of it is still in memory");
            let none = HeaderMap::new();
            let small = bytes(&none, chunks(&[limits::SMALL_BODY_BYTES]), LONG, room).await;
            assert_eq!(small.unwrap().len(), limits::SMALL_BODY_BYTES);
            // A large one waits, and is told so in the end.
            let soon = Duration::from_millis(20);
            let second = bytes(&headers, large(), soon, room).await.unwrap_err();
            assert_eq!(second.code(), Code::Overloaded);
            let answer = second.render("r", None);
            assert_eq!(answer.status(), 503);
            assert!(answer.headers().contains_key(axum::http::header::RETRY_AFTER));
            // Or it gets what the first one leaves.
            let waits = tokio::spawn(async move { bytes(&headers, large(), LONG, room).await });
            tokio::task::yield_now().await;
            assert!(!waits.is_finished());
            drop(part);
            assert_eq!(waits.await.unwrap().unwrap().len(), 200 << 10);
            assert_eq!(room.available_permits(), free);
        }
    }

    #[tokio::test]
    async fn no_body_leaves_with_its_share() {
        let room = room(limits::BODY_BYTES);
        let free = room.available_permits();
        let soon = Duration::from_millis(20);
        let never = stream::pending::<Result<Bytes, Infallible>>;
        let start = stream::iter([Ok(Bytes::from(vec![b'x'; 100 << 10]))]);
        let stuck = Body::from_stream(futures_util::StreamExt::chain(start, never()));
        let read = bytes(&HeaderMap::new(), stuck, soon, room).await;
        assert_eq!(read.unwrap_err().code(), Code::RequestTimeout);
        let stuck = Body::from_stream(never());
        let read = bytes(&announcing(limits::BODY_BYTES), stuck, soon, room).await;
        assert_eq!(read.unwrap_err().code(), Code::RequestTimeout);
        let broken = stream::iter([Ok(Bytes::from(vec![b'x'; 100 << 10])), Err("broken")]);
        let read = bytes(&HeaderMap::new(), Body::from_stream(broken), LONG, room).await;
        assert_eq!(read.unwrap_err().code(), Code::BadRequest);
        let max = limits::BODY_BYTES;
        let read = bytes(&HeaderMap::new(), chunks(&[max - 1, 2]), LONG, room).await;
        assert_eq!(read.unwrap_err().code(), Code::PayloadTooLarge);
        assert_eq!(room.available_permits(), free);
    }
}
