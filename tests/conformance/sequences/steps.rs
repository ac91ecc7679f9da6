//! The random verbs: what may happen, and how often.

use proptest::prelude::*;

/// One verb with its arguments. Numbers choose among what there is, modulo its size.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Submit(Vec<Submission>),
    Claim(Asking),
    Heartbeat {
        lease: usize,
        extend: Option<u64>,
    },
    Settle {
        reports: Vec<(usize, Saying)>,
        claim: Option<Asking>,
    },
    Withdraw(usize),
    Goodbye {
        worker: u8,
        space: Option<u8>,
    },
    Cancel {
        job: usize,
        force: bool,
    },
    Delete(usize),
    Retry {
        job: usize,
        again: bool,
        to: Option<u8>,
    },
    TakeBack {
        limit: u32,
    },
    Promote,
    ExtendLeases,
    Expire,
    Pause {
        queue: u8,
        until: Option<u64>,
    },
    Resume(u8),
    Advance(u64),
    /// By a threshold in seconds; 0: the watchdog is off.
    Scan(u64),
    Crash,
}

#[derive(Debug, Clone)]
pub(crate) struct Submission {
    pub(crate) space: u8,
    pub(crate) queue: u8,
    pub(crate) kind: u8,
    pub(crate) priority: i32,
    pub(crate) delay: Option<u64>,
    pub(crate) start_by: Option<u64>,
    pub(crate) max_attempts: u32,
    pub(crate) key: Option<(u8, u8)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Asking {
    pub(crate) worker: u8,
    /// One namespace, or all.
    pub(crate) space: Option<u8>,
    pub(crate) queues: Vec<u8>,
    pub(crate) kinds: Vec<u8>,
    pub(crate) count: usize,
    /// Of its leases, every second is named as held.
    pub(crate) held: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Saying {
    Complete,
    Fail { retryable: bool, after: u64 },
    Release { delay: u64 },
    Agree,
}

fn submission() -> impl Strategy<Value = Submission> {
    let maybe = |range| prop_oneof![3 => Just(None), 1 => prop::option::of(range)];
    let places = (prop::bool::weighted(0.3).prop_map(u8::from), 0u8..2);
    (places, 0u8..2, -1i32..2, maybe(1u64..60), maybe(1u64..90), 1u32..4)
        .prop_flat_map(|fields| {
            let key = prop::option::weighted(0.3, (0u8..4, 0u8..6));
            (Just(fields), key)
        })
        .prop_map(|(((space, queue), kind, priority, delay, start_by, max_attempts), key)| {
            Submission {
                space,
                queue,
                kind,
                priority,
                delay,
                start_by,
                max_attempts,
                // Mostly the same body.
                key: key.map(|(key, body)| (key, body / 5)),
            }
        })
}

fn space() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![2 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(1))]
}

fn asking() -> impl Strategy<Value = Asking> {
    let queues = prop_oneof![Just(vec![0]), Just(vec![1]), Just(vec![0, 1]), Just(vec![1, 0])];
    let kinds = prop_oneof![2 => Just(vec![]), 1 => Just(vec![0]), 1 => Just(vec![1, 0])];
    (0u8..3, space(), queues, kinds, 0usize..4, prop::bool::weighted(0.2)).prop_map(
        |(worker, space, queues, kinds, count, held)| Asking {
            worker,
            space,
            queues,
            kinds,
            count,
            held,
        },
    )
}

fn saying() -> impl Strategy<Value = Saying> {
    let delay = || prop_oneof![Just(0u64), 1u64..40];
    prop_oneof![
        3 => Just(Saying::Complete),
        2 => (any::<bool>(), delay()).prop_map(|(retryable, after)| Saying::Fail { retryable, after }),
        2 => delay().prop_map(|delay| Saying::Release { delay }),
        1 => Just(Saying::Agree),
    ]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let pick = 0usize..1_000;
    prop_oneof![
        6 => prop::collection::vec(submission(), 1..4).prop_map(Step::Submit),
        6 => asking().prop_map(Step::Claim),
        2 => (pick.clone(), prop::option::of(1u64..90))
            .prop_map(|(lease, extend)| Step::Heartbeat { lease, extend }),
        6 => (prop::collection::vec((pick.clone(), saying()), 0..4), prop::option::of(asking()))
            .prop_map(|(reports, claim)| Step::Settle { reports, claim }),
        1 => pick.clone().prop_map(Step::Withdraw),
        1 => (0u8..3, space()).prop_map(|(worker, space)| Step::Goodbye { worker, space }),
        2 => (pick.clone(), any::<bool>()).prop_map(|(job, force)| Step::Cancel { job, force }),
        1 => pick.clone().prop_map(Step::Delete),
        3 => (pick, prop::bool::weighted(0.3), prop::option::weighted(0.2, 0u8..2))
            .prop_map(|(job, again, to)| Step::Retry { job, again, to }),
        2 => prop_oneof![Just(1u32), Just(1_000)].prop_map(|limit| Step::TakeBack { limit }),
        2 => Just(Step::Promote),
        1 => Just(Step::ExtendLeases),
        1 => Just(Step::Expire),
        1 => (0u8..2, prop::option::of(1u64..60))
            .prop_map(|(queue, until)| Step::Pause { queue, until }),
        1 => (0u8..2).prop_map(Step::Resume),
        4 => prop_oneof![Just(1u64), 1u64..40, Just(1_500)].prop_map(Step::Advance),
        3 => prop_oneof![3 => Just(30u64), 1 => Just(5), 1 => Just(0)].prop_map(Step::Scan),
        1 => Just(Step::Crash),
    ]
}
