//! Reads request bodies: the right media type, not too large, not too slow, not too many at once.
//!
//! Large bodies share a fixed amount of memory, and take of it only for what has arrived: to
//! announce a size costs its sender nothing, so it gains nothing. Bodies that have arrived in part
//! can wait for each other in a circle; therefore nobody waits for long, and whoever gives up
//! leaves what it took to the others. What workers report has room of its own, which no number of
//! clients can fill.

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
use tokio::time::{Instant, timeout, timeout_at};

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

/// The unit in which room is shared out.
const UNIT: usize = 1 << 10;
/// For all bodies but the small ones. One for the process, as memory is.
static CLIENTS: Semaphore = Semaphore::const_new(limits::LARGE_BODIES_BYTES / UNIT);
/// The same for claims, heartbeats and settlements.
static WORKERS: Semaphore = Semaphore::const_new(limits::LARGE_BODIES_BYTES / UNIT);
/// The part of `server.body_timeout` for which one body waits for room, all in all.
const WAIT_PART: u32 = 3;

/// The body of a request that must have one.
pub(super) async fn read(api: &Api, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    read_into(&CLIENTS, api, headers, body).await
}

/// The body of a worker's request that must have one.
pub(super) async fn read_work(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, Problem> {
    read_into(&WORKERS, api, headers, body).await
}

async fn read_into(
    room: &'static Semaphore,
    api: &Api,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, Problem> {
    if !body.is_end_stream() || headers.contains_key(CONTENT_TYPE) {
        media_type_is_json(headers)?;
    }
    bytes(headers, body, api.settings().body_timeout, room).await
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
    bytes(headers, body, api.settings().body_timeout, &CLIENTS).await
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
    let mut share = Share::of(room, announced.unwrap_or(limits::BODY_BYTES));
    match collect(&mut body, patience, &mut share).await {
        Ok(bytes) => Ok(share.keep_for(bytes)),
        Err(Cut::TooLarge) => {
            drop(share);
            discard(body).await;
            Err(too_large())
        }
        Err(Cut::Broken(error)) => {
            Err(Problem::new(Code::BadRequest, format!("the body broke off: {error}")))
        }
        Err(Cut::NoRoom) => {
            drop(share);
            discard(body).await;
            Err(overloaded())
        }
        Err(Cut::TooSlow) => {
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
    let cause = "request bodies fill the memory that is set aside for them";
    Problem::new(Code::Overloaded, detail).retry_soon().caused_by(cause)
}

/// What one body takes of the room for all.
struct Share {
    room: &'static Semaphore,
    /// How large the body may become.
    most: usize,
    permit: Option<SemaphorePermit<'static>>,
}

impl Share {
    fn of(room: &'static Semaphore, most: usize) -> Self {
        Self { room, most, permit: None }
    }

    fn covers(&self) -> usize {
        self.permit.as_ref().map_or(0, SemaphorePermit::num_permits) * UNIT
    }

    /// Waits until there is room for the `size` bytes that have arrived. It asks for twice as much
    /// each time: rarely, and as a buffer grows.
    async fn cover(&mut self, size: usize) {
        let has = self.covers();
        if size <= limits::SMALL_BODY_BYTES || size <= has {
            return;
        }
        let wants = size.max((2 * has).min(self.most)).div_ceil(UNIT);
        let more = self.room.acquire_many((wants - has / UNIT) as u32).await;
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
    TooSlow,
    NoRoom,
    Broken(axum::Error),
}

/// Most bodies are one frame, which is not copied. The time for which the body waits for room is
/// not its sender's.
async fn collect(body: &mut Body, patience: Duration, share: &mut Share) -> Result<Bytes, Cut> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let mut deadline = Instant::now() + patience;
    let mut may_wait = patience / WAIT_PART;
    loop {
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_| Cut::TooSlow)?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(Cut::Broken)?.into_data() else { continue };
        let size = first.len() + all.len() + data.len();
        if size > limits::BODY_BYTES {
            return Err(Cut::TooLarge);
        }
        let asked = Instant::now();
        timeout(may_wait, share.cover(size)).await.map_err(|_| Cut::NoRoom)?;
        let waited = asked.elapsed();
        may_wait = may_wait.saturating_sub(waited);
        deadline += waited;
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            if all.capacity() < size {
                let room = share.covers().max(share.most.min(limits::SMALL_BODY_BYTES)).max(size);
                all.reserve(room - all.len());
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

    /// Bytes that arrive, and then no more for good.
    fn stuck_after(sizes: &[usize]) -> Body {
        let frames: Vec<Result<Bytes, Infallible>> =
            sizes.iter().map(|n| Ok(Bytes::from(vec![b'x'; *n]))).collect();
        let never = stream::pending::<Result<Bytes, Infallible>>();
        Body::from_stream(futures_util::StreamExt::chain(stream::iter(frames), never))
    }

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
    async fn what_is_announced_takes_no_room() {
        let room = room(256 << 10);
        let free = room.available_permits();
        let headers = announcing(limits::BODY_BYTES);
        let soon = Duration::from_millis(200);
        let announced =
            tokio::spawn(async move { bytes(&headers, stuck_after(&[10]), soon, room).await });
        tokio::task::yield_now().await;
        assert_eq!(room.available_permits(), free);
        let other = bytes(&HeaderMap::new(), chunks(&[200 << 10]), LONG, room).await.unwrap();
        assert_eq!(other.len(), 200 << 10);
        assert_eq!(announced.await.unwrap().unwrap_err().code(), Code::RequestTimeout);
    }

    /// Two that each hold half, and each want more: neither waits for the other for good, and a
    /// third one gets what they leave.
    #[tokio::test]
    async fn bodies_that_wait_for_each_other_give_up() {
        let room = room(200 << 10);
        let free = room.available_permits();
        let read = |patience| {
            let frames = [100 << 10, 50 << 10].map(|n| Bytes::from(vec![b'x'; n]));
            // One frame of each at a time.
            let frames = futures_util::StreamExt::then(stream::iter(frames), |frame| async {
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(frame)
            });
            let body = Body::from_stream(frames);
            tokio::spawn(async move { bytes(&announcing(150 << 10), body, patience, room).await })
        };
        let soon = Duration::from_millis(200);
        let (one, other) = (read(soon), read(soon));
        let one = one.await.unwrap().map(|b| b.len()).map_err(|p| p.code());
        let other = other.await.unwrap().map(|b| b.len()).map_err(|p| p.code());
        // The first to give up makes room for the other, if that one still waits.
        assert!(one == Err(Code::Overloaded) || other == Err(Code::Overloaded));
        assert_eq!(room.available_permits(), free);
        assert_eq!(read(LONG).await.unwrap().unwrap().len(), 150 << 10);
    }

    #[tokio::test]
    async fn no_body_leaves_with_its_share() {
        let room = room(limits::BODY_BYTES);
        let free = room.available_permits();
        let soon = Duration::from_millis(20);
        let read = bytes(&HeaderMap::new(), stuck_after(&[100 << 10]), soon, room).await;
        assert_eq!(read.unwrap_err().code(), Code::RequestTimeout);
        let read = bytes(&announcing(limits::BODY_BYTES), stuck_after(&[]), soon, room).await;
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
