//! Trace contexts: the ids that tie a request, its job and each attempt together, wherever they
//! travel. What is done with them (sampling, spans, export) is not known here.
//!
//! Contexts are read and written as the W3C standard says (Trace Context, level 1, with the
//! `random` flag of level 2). What is not valid is no context: the standard asks to start anew.

use std::fmt::{self, Write as _};

use super::time::Timestamp;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// `None`: all zeros, which names nothing.
            pub fn new(bytes: [u8; $bytes]) -> Option<Self> {
                (bytes != [0; $bytes]).then_some(Self(bytes))
            }

            pub const fn bytes(self) -> [u8; $bytes] {
                self.0
            }

            /// Lower-case hex digits, as many as there must be.
            pub fn parse(text: &str) -> Option<Self> {
                let mut bytes = [0; $bytes];
                hex(text, &mut bytes)?;
                Self::new(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// Names a trace.
    TraceId,
    16
);
id!(
    /// Names a span within its trace.
    SpanId,
    8
);

fn hex(text: &str, into: &mut [u8]) -> Option<()> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    if text.len() != into.len() * 2 {
        return None;
    }
    for (byte, pair) in into.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

/// The trace is recorded by whoever handed it on.
const SAMPLED: u8 = 1;

/// Flags that are known; others are not handed on.
const FLAGS: u8 = SAMPLED | 2;

/// A span as others refer to it: `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    pub trace: TraceId,
    pub span: SpanId,
    flags: u8,
}

impl TraceContext {
    pub const fn new(trace: TraceId, span: SpanId, sampled: bool) -> Self {
        Self { trace, span, flags: if sampled { SAMPLED } else { 0 } }
    }

    pub const fn sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The value of a `traceparent`. A later version is read by the fields of version 00 that it
    /// starts with, as the standard asks.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim_matches([' ', '\t']).splitn(5, '-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (mut number, mut bits) = ([0; 1], [0; 1]);
        hex(version, &mut number)?;
        hex(flags, &mut bits)?;
        let more = parts.next().is_some();
        if number == [0xff] || (number == [0] && more) {
            return None;
        }
        let (trace, span) = (TraceId::parse(trace)?, SpanId::parse(span)?);
        Some(Self { trace, span, flags: bits[0] & FLAGS })
    }
}

/// In version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// More of a `tracestate` is dropped whole, as the standard allows.
const STATE_BYTES: usize = 512;
const STATE_MEMBERS: usize = 32;

/// A `tracestate` in its plain form; `None` when there is nothing in it, or it is not valid.
pub fn tracestate(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut keys: Vec<&str> = Vec::new();
    for member in text.split(',').map(|m| m.trim_matches([' ', '\t'])).filter(|m| !m.is_empty()) {
        let (key, value) = member.split_once('=')?;
        if !state_key(key) || !state_value(value) || keys.contains(&key) {
            return None;
        }
        let comma = if keys.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(out, "{comma}{member}");
        keys.push(key);
    }
    (!keys.is_empty() && keys.len() <= STATE_MEMBERS && out.len() <= STATE_BYTES).then_some(out)
}

fn state_key(key: &str) -> bool {
    let start = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let rest = |b: u8| start(b) || matches!(b, b'_' | b'-' | b'*' | b'/' | b'@');
    key.len() <= 256 && key.bytes().next().is_some_and(start) && key.bytes().all(rest)
}

fn state_value(value: &str) -> bool {
    let plain = |b: u8| (0x20..=0x7e).contains(&b) && b != b',' && b != b'=';
    !value.is_empty() && value.len() <= 256 && value.bytes().all(plain)
}

/// What an attempt's spans will be made of when it ends, by whoever ends it: kept with the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptTrace {
    pub trace: TraceId,
    /// The span of the whole attempt, from eligible to settled.
    pub attempt: SpanId,
    /// The span of the worker's part; its context is the worker's parent.
    pub process: SpanId,
    pub sampled: bool,
    /// Whether the attempt's span is a child of `creation`, and not a root that links to it.
    pub child: bool,
    /// The span that handed the job in.
    pub creation: Option<TraceContext>,
    /// The attempt before.
    pub previous: Option<TraceContext>,
    /// The request that claimed the job.
    pub claim: Option<TraceContext>,
    pub eligible_since: Timestamp,
    /// What the watchdog had found of the job while it waited.
    pub verdict: Option<String>,
}

/// Of [`AttemptTrace::encode`].
const VERSION: u8 = 1;

impl AttemptTrace {
    /// What the worker is told.
    pub const fn worker_context(&self) -> TraceContext {
        TraceContext::new(self.trace, self.process, self.sampled)
    }

    /// For a store to keep.
    pub fn encode(&self) -> Vec<u8> {
        let contexts = [self.creation, self.previous, self.claim];
        let mut out = Vec::with_capacity(128);
        let mut shape = u8::from(self.sampled) | u8::from(self.child) << 1;
        for (at, context) in contexts.iter().enumerate() {
            shape |= u8::from(context.is_some()) << (2 + at);
        }
        out.extend([VERSION, shape]);
        out.extend(self.trace.0);
        out.extend(self.attempt.0);
        out.extend(self.process.0);
        out.extend(self.eligible_since.as_millis().to_be_bytes());
        for context in contexts.into_iter().flatten() {
            out.extend(context.trace.0);
            out.extend(context.span.0);
            out.push(context.flags);
        }
        out.extend(self.verdict.as_deref().unwrap_or_default().as_bytes());
        out
    }

    /// `None`: written by another version, or damaged; the attempt goes untraced.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let [version, shape] = take(&mut rest)?;
        if version != VERSION {
            return None;
        }
        let trace = TraceId::new(take(&mut rest)?)?;
        let attempt = SpanId::new(take(&mut rest)?)?;
        let process = SpanId::new(take(&mut rest)?)?;
        let eligible_since = Timestamp::from_millis(i64::from_be_bytes(take(&mut rest)?));
        let mut context = |at: u8| -> Option<Option<TraceContext>> {
            if shape & (1 << at) == 0 {
                return Some(None);
            }
            let trace = TraceId::new(take(&mut rest)?)?;
            let span = SpanId::new(take(&mut rest)?)?;
            let [flags] = take(&mut rest)?;
            Some(Some(TraceContext { trace, span, flags }))
        };
        let (creation, previous, claim) = (context(2)?, context(3)?, context(4)?);
        let verdict = std::str::from_utf8(rest).ok()?;
        Some(Self {
            trace,
            attempt,
            process,
            sampled: shape & 1 != 0,
            child: shape & 2 != 0,
            creation,
            previous,
            claim,
            eligible_since,
            verdict: (!verdict.is_empty()).then(|| verdict.to_owned()),
        })
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*taken)
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
