//! When each problem comes, and what to do about it, for the page that its `type` leads to. The
//! first halves are the rows of `docs/API.md`.

use super::Code;

impl Code {
    /// As its row in the reference begins.
    pub(in crate::http) const fn when(self) -> &'static str {
        self.advice().0
    }

    pub(in crate::http) const fn what_to_do(self) -> &'static str {
        self.advice().1
    }

    const fn advice(self) -> (&'static str, &'static str) {
        match self {
            Self::MalformedJson => (
                "not JSON, empty, not UTF-8, a name twice in one object, nested deeper than 64",
                "Send one JSON object in UTF-8; `detail` says where it goes wrong.",
            ),
            Self::InvalidHeader => (
                "`Host` is missing, doubled or no host name",
                "Send `Host` once, with the name and port of the server.",
            ),
            Self::InvalidQuery => (
                "an unknown, doubled or wrong query parameter; the detail names it",
                "Leave the parameter out or correct it. A `+` in a value is written `%2B`.",
            ),
            Self::InvalidIdempotencyKey => (
                "empty, over 255 characters, not printable ASCII, an open quote, twice, or on a batch",
                "Send one `Idempotency-Key` of 1 to 255 printable ASCII characters. In a batch, \
                 give each job its member `idempotency_key`.",
            ),
            Self::IdempotencyKeyRequired => (
                "the queue takes no job without a key",
                "Send an `Idempotency-Key` with each submission, one for each piece of work, and \
                 the same one when you repeat it. In a batch, give each job its member \
                 `idempotency_key`.",
            ),
            Self::BadRequest => {
                ("the request broke off or could not be read", "Send it again, whole.")
            }
            Self::Unauthenticated => (
                "no token, one that is not known (any more) or has expired, or an `Authorization` \
                 that is not understood",
                "Send `Authorization: Bearer` and a token of this server; ask its operators for one.",
            ),
            Self::InsufficientScope => (
                "the token is not for this: another scope, or another queue or kind",
                "Take another token; `detail` says what this one lacks. Trying again cannot help.",
            ),
            Self::CrossSite => (
                "a web page of another origin would change something on a server that is open to \
                 its own machine",
                "Name the page's origin in `server.cors_origins`, or give the server tokens.",
            ),
            Self::NoSuchJob => (
                "the id was never issued here, or is not written plainly",
                "Check the id and the server. If `detail` says that the job was lost, submit it \
                 again with its key.",
            ),
            Self::NoSuchQueue => (
                "nothing was ever sent to a queue of that name, or none can have it",
                "Check the name; `/v1/queues` lists those that there are.",
            ),
            Self::NoSuchWorker => (
                "nobody of that id was seen within a day, or it has said goodbye",
                "Check the id; `/v1/workers` lists those that there are.",
            ),
            Self::NoSuchRoute => {
                ("nothing is at this address", "See `/` for the addresses, and `/docs`.")
            }
            Self::MethodNotAllowed => {
                ("`Allow` lists the methods that work", "Use one of the methods in `Allow`.")
            }
            Self::RequestTimeout => (
                "the body did not arrive in time",
                "Send it again, faster or smaller. With an idempotency key that is safe.",
            ),
            Self::ResultNotReady => {
                ("the job is not done", "Ask again after `Retry-After`, or with `Prefer: wait=20`.")
            }
            Self::JobFailed => ("there is no result; `error` says why", "See `error`."),
            Self::JobCancelled => ("there is no result", "Somebody cancelled it: see the job."),
            Self::JobAlreadyFinished => (
                "a finished job cannot be cancelled or settled",
                "Read the job: what it says is final.",
            ),
            Self::JobNotFinished => (
                "only a finished job can be deleted or retried",
                "Cancel it first, or wait until it is done.",
            ),
            Self::CancelNotRequested => (
                "a worker reported `cancelled` and nobody had asked",
                "Settle it as completed, failed or released.",
            ),
            Self::LeaseLost => {
                ("another lease holds the job", "Stop working on it: it is in other hands.")
            }
            Self::LeaseExpired => (
                "the lease was taken back and nobody holds the job",
                "Stop working on it: it waits for another attempt, or is done.",
            ),
            Self::AlreadyReported => (
                "this token settled the job before with another outcome",
                "Nothing: the first report stands.",
            ),
            // It cannot reach clients.
            Self::NotEligible => ("the job waits, runs or has ended", "Claim another one."),
            Self::JobExpired => (
                "the job's retention has passed",
                "Its outcome is not known any more. Do not repeat its work blindly.",
            ),
            Self::JobDeleted => (
                "the job was deleted",
                "Its outcome is not known any more. Do not repeat its work blindly.",
            ),
            Self::PreconditionFailed => (
                "the queue is not of a revision that `If-Match` names, and nothing was done",
                "Read the queue again and decide anew.",
            ),
            Self::PayloadTooLarge => (
                "`max_bytes` is the limit",
                "Send less, or a link to it; the same again cannot help.",
            ),
            Self::UnsupportedMediaType => (
                "`Accept` (on a PATCH `Accept-Patch`) says what would do; compressed bodies are not accepted",
                "Send `Content-Type: application/json`, not compressed.",
            ),
            Self::MisdirectedHost => (
                "the server is open to its own machine only",
                "Use `localhost`; for others see `server.listen` and `auth.mode`.",
            ),
            Self::ValidationFailed => {
                ("`errors` lists every wrong member", "Correct each of the `errors`.")
            }
            Self::IdempotencyKeyReused => (
                "the key stands for another body: that of the job `job_id`, or, without one, of another item \
                 of the same batch",
                "Send the body that the key stands for, or take a new key for new work.",
            ),
            Self::TooManyNames => (
                "the queue or the kind is a new name, and the server knows 10 000 of its sort, or the \
                 namespace has brought in its share of them",
                "Use a name that is known, and say what differs in the payload or in tags.",
            ),
            Self::RateLimited => (
                "the token has no request left",
                "Wait for `Retry-After`; send batches, and hold requests with `Prefer: wait`.",
            ),
            Self::InternalError => {
                ("a fault of the server", "Report it with the `request_id`, which is in its log.")
            }
            Self::ServerDraining => (
                "shutting down",
                "Ask another server, or this one later; repeat a submission with its key.",
            ),
            Self::QueueFull => (
                "as many jobs of the queue are pending as its `max_depth` allows",
                "Try again after `Retry-After`; nothing was accepted.",
            ),
            Self::TaskHung => {
                ("only from `/readyz`", "See `/v1/tasks` and the log; restart the server.")
            }
            Self::Overloaded => (
                "large request bodies (over 64 KiB, 128 MiB together of clients and as much of workers) \
                 left no room for this one",
                "Try again after `Retry-After`; nothing was accepted.",
            ),
            Self::StorageFull => (
                "too little space is left for new jobs",
                "Try again later; operators: free space. Nothing was accepted.",
            ),
            Self::StorageUnavailable => (
                "the storage did not answer",
                "Repeat it after `Retry-After`, with the same idempotency key: whether it took \
                 effect is not known.",
            ),
        }
    }
}
