//! Every limit of the API that is a constant; the handlers check them and `/v1/meta` shows them.

use std::ops::RangeInclusive;
use std::time::Duration;

pub(super) const BODY_BYTES: usize = 16 << 20;
/// Of all bodies of clients' and operators' requests together that are in memory as they were sent,
/// and of all of workers'.
pub(super) const LARGE_BODIES_BYTES: usize = 128 << 20;
/// A body up to this size does not count among them: it comes with any connection.
pub(super) const SMALL_BODY_BYTES: usize = 64 << 10;
/// Of an attempt's error: its texts and its details together.
pub(super) const ERROR_BYTES: usize = 16 << 10;
pub(super) const CHECKPOINT_BYTES: usize = 64 << 10;
pub(super) const PROGRESS_MESSAGE_BYTES: usize = 256;
pub(super) const METADATA_BYTES: usize = 4 << 10;
pub(super) const TAGS: usize = 16;
/// Of one tag, and of an error's `type`.
pub(super) const TAG_BYTES: usize = 128;
/// Arrays and objects inside each other.
pub(super) const JSON_DEPTH: usize = 64;
pub(super) const PRIORITY: RangeInclusive<i64> = -100..=100;
pub(super) const MAX_ATTEMPTS: RangeInclusive<i64> = 1..=100;
/// Seven days, for one attempt and for delays between attempts.
pub(super) const WEEK: Duration = Duration::from_secs(604_800);
pub(super) use crate::engine::RUN_AT_AHEAD;
pub(super) const RETENTION: Duration = Duration::from_secs(3_650 * 86_400);
pub(super) const MULTIPLIER: RangeInclusive<f64> = 1.0..=100.0;
/// Items of a batch: jobs, leases, settlements, held jobs.
pub(super) const BATCH_ITEMS: usize = 1_000;
/// Queues or kinds in one claim.
pub(super) const CLAIM_NAMES: usize = 100;
pub(super) const CLAIM_BYTES: usize = 16 << 20;
/// Jobs that a worker says it runs at once.
pub(super) const CONCURRENCY: RangeInclusive<u32> = 1..=1_000_000;
pub(super) const LEASE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3_600);
/// Worker ids, reasons, host names, versions.
pub(super) const TEXT_BYTES: usize = 512;
pub(super) const URL_BYTES: usize = 2_048;
pub(super) const MEDIA_TYPE_BYTES: usize = 255;
pub(super) const IDEMPOTENCY_KEY_BYTES: usize = 255;
pub(super) const REQUEST_ID_BYTES: usize = 128;
pub(super) const LIST: RangeInclusive<u32> = 1..=1_000;
pub(super) const LIST_DEFAULT: u32 = 100;
/// Wrong members that one answer names.
pub(super) const ERRORS_SHOWN: usize = 100;
