//! A connection's bytes, watched: slow with its headers, or slow to take its answer?

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Whether a connection is in the middle of receiving headers, or idle. Hyper's own time-out does
/// not tell a slow client from an idle one. Only the connection's own task changes it.
#[derive(Debug)]
pub(super) struct Head {
    /// Odd while headers are on their way, and another odd number for each request.
    turn: AtomicU64,
    /// A request is being answered: what arrives now is its body.
    busy: AtomicBool,
    /// Nothing has come yet.
    silent: AtomicBool,
    /// Bytes of an answer wait for the client.
    writing: AtomicBool,
    /// When something was last done, in µs since `epoch`.
    moved: AtomicU64,
    epoch: Instant,
}

impl Head {
    /// A new connection owes its first headers.
    pub(super) fn new(epoch: Instant) -> Self {
        let head = Self {
            turn: AtomicU64::new(1),
            busy: AtomicBool::new(false),
            silent: AtomicBool::new(true),
            writing: AtomicBool::new(false),
            moved: AtomicU64::new(0),
            epoch,
        };
        head.moves();
        head
    }

    fn moves(&self) {
        self.moved.store(self.epoch.elapsed().as_micros() as u64, Ordering::Relaxed);
    }

    fn writes(&self, waits: bool) {
        self.writing.store(waits, Ordering::Relaxed);
        self.moves();
    }

    /// Since when nobody waits for anything on this connection; `None` while somebody does. One
    /// that has not said anything yet is idle, one that has begun to is not.
    pub(super) fn idle_since(&self) -> Option<u64> {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let between = !Self::is_awaited(self.turn()) || is(&self.silent);
        (between && !is(&self.busy) && !is(&self.writing))
            .then(|| self.moved.load(Ordering::Relaxed))
    }

    fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    fn is_awaited(turn: u64) -> bool {
        turn % 2 == 1
    }

    fn bytes_arrived(&self) {
        self.moves();
        self.silent.store(false, Ordering::Relaxed);
        let turn = self.turn();
        if !Self::is_awaited(turn) && !self.busy.load(Ordering::Relaxed) {
            self.turn.store(turn + 1, Ordering::Relaxed);
        }
    }

    pub(super) fn complete(&self) {
        let turn = self.turn();
        if Self::is_awaited(turn) {
            self.turn.store(turn + 1, Ordering::Relaxed);
        }
        self.busy.store(true, Ordering::Relaxed);
    }

    pub(super) fn answered(&self) {
        self.moves();
        self.busy.store(false, Ordering::Relaxed);
    }
}

/// The time-out for the headers that [`Head`] says are on their way.
pub(super) struct HeadClock {
    patience: Duration,
    turn: u64,
    sleep: Pin<Box<Sleep>>,
}

impl HeadClock {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, turn: 1, sleep: Box::pin(tokio::time::sleep(patience)) }
    }

    pub(super) fn poll_overdue(&mut self, head: &Head, cx: &mut Context<'_>) -> Poll<()> {
        let turn = head.turn();
        if !Head::is_awaited(turn) {
            return Poll::Pending;
        }
        if turn != self.turn {
            self.turn = turn;
            self.sleep.as_mut().reset(Instant::now() + self.patience);
        }
        self.sleep.as_mut().poll(cx)
    }
}

/// A stream that notes when bytes arrive, and breaks when its client takes none for too long.
pub(super) struct Watched {
    stream: TcpStream,
    head: Arc<Head>,
    patience: Duration,
    /// Runs while something waits to be written, from when the socket last took a byte.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, head: Arc<Head>, patience: Duration) -> Self {
        Self { stream, head, patience, stalled: None }
    }

    /// Passes on how a write of `bytes` went, unless the client has been given long enough.
    fn judge(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.head.writes(wrote.is_pending());
        if wrote.is_ready() {
            self.stalled = None;
            return wrote;
        }
        let patience = self.patience;
        let sleep = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(sleep.as_mut().poll(cx));
        self.stalled = None;
        let wrote = write_now(&self.stream, bytes);
        if wrote.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock) {
            tracing::debug!(?patience, "a client did not read its answer");
            // What is in the system's buffers shall not stay there either.
            if let Err(error) = self.stream.set_zero_linger() {
                tracing::debug!(%error, "SO_LINGER was refused");
            }
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Ready(wrote)
    }
}

/// A write past the runtime, which believes that there is no room. The system tells it of room
/// only once a third of a buffer of megabytes is free, too late for a client that reads slowly.
fn write_now(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let socket = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?);
    (&socket).write(bytes)
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        // While an answer waits for its client, what arrives can wait as well.
        if buf.filled().len() > before && self.stalled.is_none() {
            self.head.bytes_arrived();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, buf, wrote)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        let first = bufs.iter().find(|buf| !buf.is_empty());
        self.judge(cx, first.map_or(&[], |buf| buf), wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
