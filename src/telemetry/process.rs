//! What the operating system counts for this process.
//!
//! The prometheus crate reads it, but tells processor time in whole seconds: over a minute, the
//! rate of a quiet server would be 0 or a lie. That one family is read here, in the kernel's own
//! ticks.

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;

use super::catalogue as c;
use super::families::family;

/// Linux reports ticks of this length to user space on every machine that it is built for today.
const USUAL_TICKS: f64 = 100.0;

/// The entry of the auxiliary vector that says how many ticks a second has.
const AT_CLKTCK: usize = 17;

pub(super) struct Process {
    others: ProcessCollector,
    ticks_per_second: f64,
}

impl Process {
    pub(super) fn of_self() -> Self {
        let told = std::fs::read("/proc/self/auxv").ok().and_then(|auxv| ticks_per_second(&auxv));
        let ticks_per_second = told.unwrap_or(USUAL_TICKS);
        Self { others: ProcessCollector::for_self(), ticks_per_second }
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.others.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.others.collect();
        families.retain(|family| family.name() != c::PROCESS_CPU.name);
        let ticks = std::fs::read_to_string("/proc/self/stat").ok().and_then(|s| busy_ticks(&s));
        families.extend(ticks.map(|ticks| {
            let seconds = ticks as f64 / self.ticks_per_second;
            family(&c::PROCESS_CPU, std::iter::once((vec![], seconds)))
        }));
        families
    }
}

/// User and system time, in ticks. The second field is the program's name in parentheses, which
/// may hold spaces and parentheses itself.
fn busy_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    // Fields 14 and 15, of which the first here is field 3.
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()? + ticks()?)
}

/// The vector is pairs of words: what, and its value.
fn ticks_per_second(auxv: &[u8]) -> Option<f64> {
    const WORD: usize = size_of::<usize>();
    let word = |at: usize| -> Option<usize> {
        Some(usize::from_ne_bytes(auxv.get(at..at + WORD)?.try_into().ok()?))
    };
    let mut pairs = (0..auxv.len()).step_by(2 * WORD);
    let at = pairs.find(|at| word(*at) == Some(AT_CLKTCK))?;
    word(at + WORD).filter(|ticks| *ticks > 0).map(|ticks| ticks as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 900 0 0 0 123 45 6 7 20 0 9 0 100 1 2";
        assert_eq!(busy_ticks(stat), Some(168));
        assert_eq!(busy_ticks("7 (x) S 1"), None);
        assert_eq!(busy_ticks(""), None);
    }

    #[test]
    fn ticks_are_asked_of_the_kernel() {
        let words = |words: &[usize]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_ne_bytes()).collect()
        };
        assert_eq!(ticks_per_second(&words(&[6, 4096, AT_CLKTCK, 250, 0, 0])), Some(250.0));
        assert_eq!(ticks_per_second(&words(&[6, AT_CLKTCK, 0, 0])), None);
        assert_eq!(ticks_per_second(&words(&[AT_CLKTCK, 0])), None);
        assert_eq!(ticks_per_second(&words(&[AT_CLKTCK])), None);
        let ours = std::fs::read("/proc/self/auxv").unwrap();
        assert!(ticks_per_second(&ours).unwrap() >= USUAL_TICKS);
    }

    #[test]
    fn fractions_of_a_second_count() {
        let process = Process { others: ProcessCollector::for_self(), ticks_per_second: 1e9 };
        let shown = || -> Vec<f64> {
            let families = process.collect();
            let cpu = families.iter().filter(|f| f.name() == c::PROCESS_CPU.name);
            cpu.flat_map(|f| f.get_metric().iter().map(|m| m.get_counter().get_value())).collect()
        };
        // Work until the kernel has counted a tick: then there is a fraction, by that measure.
        let cpu = std::iter::repeat_with(|| {
            std::hint::black_box((0..1_000_000u64).fold(0, |a, b| a ^ b.rotate_left(7)));
            shown()
        });
        let seen = cpu.take(10_000).find(|seen| seen.iter().any(|s| *s > 0.0)).unwrap();
        assert_eq!(seen.len(), 1, "one family, one series");
        assert!(seen[0] < 1.0, "{seen:?}");
        assert_eq!(process.desc().len(), process.collect().len());
    }
}
