//! The listener: from connections to requests, with a limit on how many and how slow.
//!
//! HTTP/1.1 with keep-alive. A connection over the limit takes the place of the one that has been
//! idle for longest; if none is, it waits, the others behind it in the system's backlog. A client
//! that is slow with its headers is cut off, so is one that stops reading its answer, and one that
//! is idle is let be for a while, as long as nobody needs its place.
//!
//! Ending takes two steps, because a balancer needs a moment to look elsewhere. First the engine
//! drains while the listener goes on answering: [`InFlight::wait_for_zero`] tells when nobody
//! waits for anything any more. Then `shutdown` completes, and [`serve`] stops accepting, lets
//! answers reach their clients and closes every connection. Idle ones hold nothing up.

mod places;
mod watched;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::forwarded::Peer;
use places::{Place, Places};
use watched::{Head, HeadClock, Watched};

/// How long a connection may be idle between requests: longer than any worker's heartbeat or
/// client's poll is apart, so that those find it open.
const IDLE: Duration = Duration::from_secs(120);
/// Request line and headers together; more is 431.
pub(super) const HEAD_BYTES: usize = 64 << 10;
/// Of headers; more is 431. What hyper allows by itself: to set it would cost every request.
pub(super) const HEAD_LINES: usize = 100;
/// For answers on their way to their clients once everything else has ended.
const FLUSH: Duration = Duration::from_secs(2);
/// Before trying again when no connection can be accepted, such as without file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How connections are treated.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// From connection, or a request's first byte, to complete headers. Default 10 s.
    pub header_timeout: Duration,
    /// For a client that reads its answer to make room for more of it; however slow it is, each
    /// bit of progress gives it as much again. Default 30 s.
    pub write_timeout: Duration,
    /// Default 10 000.
    pub max_connections: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            max_connections: 10_000,
        }
    }
}

/// How many requests are being answered. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct InFlight(Arc<Counter>);

#[derive(Debug, Default)]
struct Counter {
    requests: AtomicUsize,
    none: Notify,
}

impl InFlight {
    pub fn count(&self) -> usize {
        self.0.requests.load(Ordering::SeqCst)
    }

    /// Completes once no request is being answered, which it may be at once.
    pub async fn wait_for_zero(&self) {
        loop {
            // Registered before the look, so that the last one's word is not missed.
            let mut none = pin!(self.0.none.notified());
            none.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            none.await;
        }
    }

    fn enter(&self) -> Entered {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        Entered(self.clone())
    }
}

struct Entered(InFlight);

impl Drop for Entered {
    fn drop(&mut self) {
        if self.0.0.requests.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.0.none.notify_waiters();
        }
    }
}

/// Serves `router` on `listener` until `shutdown` completes, and then until every connection has
/// closed, at most 2 s. Dropping the future ends every connection at once.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: Options,
    in_flight: InFlight,
    shutdown: impl Future<Output = ()>,
) {
    let places = Places::new(options.max_connections);
    let (stop, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    // Accepted, and without a place yet.
    let mut newcomer = None;
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if newcomer.is_none() => match accepted {
                Ok(accepted) => newcomer = Some(accepted),
                Err(error) => refused(&error).await,
            },
            place = places.next(), if newcomer.is_some() => {
                if let Some((stream, peer)) = newcomer.take() {
                    let (service, stop) = (TowerToHyperService::new(router.clone()), stop.subscribe());
                    let (peer, in_flight) = (Peer(peer), in_flight.clone());
                    connections.spawn(connection(stream, peer, service, options, in_flight, stop, place));
                }
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(FLUSH, all).await.is_err() {
        tracing::info!("connections were still open at the end and are closed");
    }
}

/// One client's hurry is no reason to stop; running out of descriptors is one to wait.
async fn refused(error: &io::Error) {
    let passing = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    );
    if !passing {
        tracing::error!(
            %error,
            "cannot accept connections; mind server.max_connections and the limit on open files"
        );
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

async fn connection(
    stream: TcpStream,
    peer: Peer,
    router: TowerToHyperService<Router>,
    options: Options,
    in_flight: InFlight,
    mut stop: watch::Receiver<bool>,
    place: Place,
) {
    // Answers are written whole: waiting for more would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
    let head = Arc::clone(place.head());
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&head), options.write_timeout));
    let service = Counted { router, peer, in_flight, head: Arc::clone(&head) };
    let mut conn = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE.max(options.header_timeout))
            .max_header_size(HEAD_BYTES)
            .serve_connection(io, service)
    );
    let mut clock = HeadClock::new(options.header_timeout);
    let mut ending = *stop.borrow_and_update();
    if ending {
        conn.as_mut().graceful_shutdown();
    }
    loop {
        tokio::select! {
            biased;
            ended = conn.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke");
                }
                return;
            }
            () = poll_fn(|cx| clock.poll_overdue(&head, cx)) => {
                tracing::debug!("a client was too slow with its headers");
                return;
            }
            changed = stop.changed(), if !ending => {
                // A sender that is gone wants the same.
                drop(changed);
                ending = true;
                conn.as_mut().graceful_shutdown();
            }
            () = place.is_wanted(), if !ending => {
                // A request that has arrived by now is still answered.
                ending = true;
                conn.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The router, with every request counted while it is being answered.
struct Counted {
    router: TowerToHyperService<Router>,
    peer: Peer,
    in_flight: InFlight,
    head: Arc<Head>,
}

type Answer = Result<Response<axum::body::Body>, Infallible>;

impl Service<Request<Incoming>> for Counted {
    type Response = Response<axum::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.head.complete();
        request.extensions_mut().insert(self.peer);
        let entered = Answering { _entered: self.in_flight.enter(), head: Arc::clone(&self.head) };
        let answer = self.router.call(request);
        Box::pin(async move {
            // Also when the client leaves and this future is dropped.
            let _entered = entered;
            answer.await
        })
    }
}

struct Answering {
    _entered: Entered,
    head: Arc<Head>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.head.answered();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    const LONG: Duration = Duration::from_secs(20);
    /// More than any system buffers between two ends.
    const LARGE: usize = 64 << 20;

    struct Server {
        at: std::net::SocketAddr,
        in_flight: InFlight,
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
        release: Arc<Notify>,
    }

    async fn start(options: Options) -> Server {
        let release = Arc::new(Notify::new());
        let gate = Arc::clone(&release);
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/large", get(|| async { vec![b'x'; LARGE] }))
            .route("/echo", post(|body: String| async move { body }))
            .route(
                "/slow",
                get(move || async move {
                    gate.notified().await;
                    "slow"
                }),
            );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let in_flight = InFlight::default();
        let counter = in_flight.clone();
        let task = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            serve(listener, router, options, counter, shutdown).await;
        });
        Server { at, in_flight, stop, task, release }
    }

    async fn send(server: &Server, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(server.at).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// Reads until `end` has come.
    async fn until(stream: &mut TcpStream, end: &str) -> String {
        let mut got = Vec::new();
        let mut buf = [0; 1024];
        while !String::from_utf8_lossy(&got).contains(end) {
            let n = timeout(LONG, stream.read(&mut buf)).await.unwrap().unwrap();
            assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&buf[..n]);
        }
        String::from_utf8_lossy(&got).into_owned()
    }

    async fn is_closed(stream: &mut TcpStream) {
        let mut rest = Vec::new();
        drop(timeout(LONG, stream.read_to_end(&mut rest)).await.expect("closes"));
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n";

    #[tokio::test]
    async fn idle_connections_do_not_hold_up_the_end() {
        let server = start(Options::default()).await;
        let mut idle = send(&server, GET).await;
        until(&mut idle, "hello").await;
        let _silent = TcpStream::connect(server.at).await.unwrap();
        server.stop.send(()).unwrap();
        timeout(LONG, server.task).await.unwrap().unwrap();
        is_closed(&mut idle).await;
    }

    #[tokio::test]
    async fn requests_in_flight_are_known_and_finish() {
        let server = start(Options::default()).await;
        let mut slow = send(&server, SLOW).await;
        timeout(LONG, async {
            while server.in_flight.count() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        let mut other = send(&server, GET).await;
        until(&mut other, "hello").await;
        let zero = tokio::spawn({
            let in_flight = server.in_flight.clone();
            async move { in_flight.wait_for_zero().await }
        });
        server.stop.send(()).unwrap();
        server.release.notify_one();
        assert!(until(&mut slow, "slow").await.starts_with("HTTP/1.1 200"));
        timeout(LONG, zero).await.unwrap().unwrap();
        timeout(LONG, server.task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn whoever_leaves_is_not_in_flight() {
        let server = start(Options::default()).await;
        let slow = send(&server, SLOW).await;
        timeout(LONG, async {
            while server.in_flight.count() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        drop(slow);
        timeout(LONG, server.in_flight.wait_for_zero()).await.unwrap();
    }

    #[tokio::test]
    async fn slow_headers_are_cut_off_and_idleness_is_not() {
        let options = Options { header_timeout: Duration::from_millis(200), ..Options::default() };
        let server = start(options).await;
        let mut idle = send(&server, GET).await;
        until(&mut idle, "hello").await;
        // Each is cut off only after the time-out, so the idle one has been idle for longer.
        for start in ["", "GET / HTTP/1.1\r\nHost: loc"] {
            let mut slow = send(&server, start).await;
            is_closed(&mut slow).await;
        }
        idle.write_all(GET.as_bytes()).await.unwrap();
        until(&mut idle, "hello").await;
        idle.write_all(b"GET / HT").await.unwrap();
        is_closed(&mut idle).await;
    }

    #[tokio::test]
    async fn a_slow_body_is_not_a_slow_head() {
        let options = Options { header_timeout: Duration::from_millis(200), ..Options::default() };
        let server = start(options).await;
        let head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\na";
        let mut stream = send(&server, head).await;
        let mut slow = send(&server, "").await;
        is_closed(&mut slow).await;
        stream.write_all(b"b").await.unwrap();
        until(&mut stream, "ab").await;
    }

    const FETCH: &str = "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n";

    #[tokio::test]
    async fn whoever_does_not_read_is_cut_off() {
        let options = Options {
            write_timeout: Duration::from_millis(200),
            max_connections: 2,
            ..Options::default()
        };
        let server = start(options).await;
        let mut parked = send(&server, SLOW).await;
        let mut stuck = send(&server, FETCH).await;
        // Its place is free again, though it has read nothing.
        let mut next = send(&server, GET).await;
        until(&mut next, "hello").await;
        let mut rest = Vec::new();
        let end = timeout(LONG, stuck.read_to_end(&mut rest)).await.expect("closes");
        assert!(end.is_err() && rest.len() < LARGE, "{} bytes", rest.len());
        // Nothing waited to be written to these.
        server.release.notify_one();
        until(&mut parked, "slow").await;
        next.write_all(GET.as_bytes()).await.unwrap();
        until(&mut next, "hello").await;
    }

    #[tokio::test]
    async fn connections_over_the_limit_wait_for_those_who_are_answered() {
        let server = start(Options { max_connections: 1, ..Options::default() }).await;
        let mut first = send(&server, SLOW).await;
        timeout(LONG, async {
            while server.in_flight.count() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        let mut second = send(&server, GET).await;
        let mut buf = [0; 8];
        let early = timeout(Duration::from_millis(300), second.read(&mut buf)).await;
        assert!(early.is_err(), "answered over the limit");
        server.release.notify_one();
        until(&mut first, "slow").await;
        // From now on it is idle, and gives way.
        until(&mut second, "hello").await;
        is_closed(&mut first).await;
    }

    #[tokio::test]
    async fn the_longest_idle_gives_way() {
        let server = start(Options { max_connections: 3, ..Options::default() }).await;
        let _silent = send(&server, "").await;
        let mut first = send(&server, GET).await;
        until(&mut first, "hello").await;
        let mut second = send(&server, GET).await;
        until(&mut second, "hello").await;
        // The one that never said anything goes first.
        let mut third = send(&server, GET).await;
        until(&mut third, "hello").await;
        for stream in [&mut first, &mut second, &mut third] {
            stream.write_all(GET.as_bytes()).await.unwrap();
            until(stream, "hello").await;
        }
        // Then the one whose last answer is the oldest.
        let mut fourth = send(&server, GET).await;
        until(&mut fourth, "hello").await;
        is_closed(&mut first).await;
        for stream in [&mut second, &mut third, &mut fourth] {
            stream.write_all(GET.as_bytes()).await.unwrap();
            until(stream, "hello").await;
        }
    }
}
