//! What is measured: latencies in a histogram, processor time and memory from the system.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// The moment, for measuring durations.
#[expect(clippy::disallowed_methods, reason = "measuring durations is what a bench is for")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Linux reports processor time in hundredths of a second to every program (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);
/// Latencies above this are recorded as this.
const HIGHEST_MICROS: u64 = 600_000_000;

/// A histogram of microseconds with three significant digits, shared by all connections.
#[derive(Debug)]
pub(crate) struct Latencies(Mutex<Histogram<u64>>);

/// Microseconds below which that share of the answers came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, HIGHEST_MICROS, 3)
            .expect("these bounds are constants that the histogram allows");
        Self(Mutex::new(histogram))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Histogram<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn record(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(HIGHEST_MICROS);
        self.lock().saturating_record(micros);
    }

    pub(crate) fn count(&self) -> u64 {
        self.lock().len()
    }

    /// Begins anew.
    pub(crate) fn forget(&self) {
        self.lock().reset();
    }

    /// `None` while nothing was recorded.
    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        let all = self.lock();
        (!all.is_empty()).then(|| Quantiles {
            p50: all.value_at_quantile(0.5),
            p99: all.value_at_quantile(0.99),
            p999: all.value_at_quantile(0.999),
            max: all.max(),
        })
    }
}

/// User and system time of a process, or of this one.
fn cpu(pid: Option<u32>) -> Option<Duration> {
    let who = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let stat = std::fs::read_to_string(format!("/proc/{who}/stat")).ok()?;
    ticks(&stat).map(|ticks| TICK * u32::try_from(ticks).unwrap_or(u32::MAX))
}

/// The sum of `utime` and `stime` of a line of `/proc/PID/stat` (proc(5), fields 14 and 15). The
/// command's name may hold blanks and parentheses, so fields are counted from the last one.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    resident_in(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Time and processor time from a moment on.
#[derive(Debug)]
pub(crate) struct Meter {
    server_pid: Option<u32>,
    started: Instant,
    server: Option<Duration>,
    client: Option<Duration>,
}

/// What a phase took. Processor times are `None` where the system does not tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) wall: Duration,
    pub(crate) server: Option<Duration>,
    pub(crate) client: Option<Duration>,
}

impl Meter {
    pub(crate) fn start(server_pid: Option<u32>) -> Self {
        Self {
            server_pid,
            server: server_pid.and_then(|pid| cpu(Some(pid))),
            client: cpu(None),
            started: now(),
        }
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn stop(&self) -> Usage {
        let wall = now().saturating_duration_since(self.started);
        let since = |now: Option<Duration>, then: Option<Duration>| {
            now.zip(then).map(|(now, then)| now.saturating_sub(then))
        };
        Usage {
            wall,
            server: since(self.server_pid.and_then(|pid| cpu(Some(pid))), self.server),
            client: since(cpu(None), self.client),
        }
    }
}

/// Microseconds each, when there is something to divide and to divide by.
pub(crate) fn micros_each(total: Option<Duration>, count: u64) -> Option<f64> {
    let total = total.filter(|_| count > 0)?;
    Some(total.as_secs_f64() * 1e6 / count as f64)
}

/// How many a second.
pub(crate) fn per_second(count: u64, wall: Duration) -> f64 {
    let seconds = wall.as_secs_f64();
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// How many times the second the first is.
pub(crate) fn ratio(this: Option<f64>, that: Option<f64>) -> Option<f64> {
    let (this, that) = this.zip(that)?;
    (that > 0.0).then(|| this / that)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_hold_to_three_digits() {
        let latencies = Latencies::new();
        assert_eq!(latencies.quantiles(), None);
        for micros in 1..=10_000 {
            latencies.record(Duration::from_micros(micros));
        }
        latencies.record(Duration::from_secs(10_000));
        let q = latencies.quantiles().unwrap();
        for (seen, exact) in [(q.p50, 5_000), (q.p99, 9_900), (q.p999, 9_990)] {
            assert!(seen.abs_diff(exact) <= exact / 500, "{seen} is not {exact}");
        }
        assert!(q.max >= HIGHEST_MICROS);
        assert_eq!(latencies.count(), 10_001);
    }

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "12 (a (b) c) S 1 12 12 0 -1 4194560 99 0 0 0 150 50 7 7 20 0 8 0 100 1 1";
        assert_eq!(ticks(stat), Some(200));
        assert_eq!(ticks("12 (a) S 1"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(resident_in("Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t1\n"), Some(2_097_152));
        assert_eq!(resident_in("Name:\tx\n"), None);
    }

    #[test]
    fn divisions_by_nothing_give_nothing() {
        assert_eq!(micros_each(Some(Duration::from_secs(1)), 1_000), Some(1_000.0));
        assert_eq!(micros_each(Some(Duration::from_secs(1)), 0), None);
        assert_eq!(micros_each(None, 5), None);
        assert!(per_second(5, Duration::ZERO).abs() < f64::EPSILON);
        assert_eq!(ratio(Some(3.0), Some(2.0)), Some(1.5));
        assert_eq!(ratio(Some(3.0), Some(0.0)), None);
        assert_eq!(ratio(None, Some(1.0)), None);
    }
}
