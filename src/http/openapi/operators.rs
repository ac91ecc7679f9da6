//! What operators see and do.

use serde_json::json;

use super::super::problem::Code;
use super::members::QueuePatch;
use super::operation::{Answer, Operation, Tag};
use super::shared::{BODY, JOB, READS, WRITES, limit, moment, name};
use crate::engine::EPISODES_SHOWN;
use crate::wire;

fn operation(id: &'static str, summary: &'static str, text: &'static str) -> Operation {
    Operation::new(Tag::Operators, id, summary, text)
}

pub(in crate::http) fn queues() -> Operation {
    operation("listQueues", "All queues", "Those that were ever used.")
        .answer(Answer::json::<wire::QueueList>(200, "The queues."))
        .problems(READS)
}

pub(in crate::http) fn queue() -> Operation {
    operation("getQueue", "One queue", "Its jobs, workers, rates and limits.")
        .parameters(&["Queue"])
        .answer(Answer::json::<wire::Queue>(200, "The queue.").headers(&["ETag"]))
        .problems(READS)
        .problems(&[Code::NoSuchQueue])
}

pub(in crate::http) fn change_queue() -> Operation {
    operation(
        "changeQueue",
        "Change the settings of a queue",
        "A JSON merge patch (RFC 7396), done whole or not at all: a value goes over the \
         configuration, `null` goes back to it. With `If-Match` only if nobody else has changed it.",
    )
    .parameters(&["Queue", "IfMatch"])
    .merge_patch::<QueuePatch>(json!({"max_depth": 1000, "max_running": null}))
    .answer(Answer::json::<wire::Queue>(200, "The queue, changed.").headers(&["ETag"]))
    .problems(BODY)
    .problems(WRITES)
    .problems(&[Code::NoSuchQueue, Code::TooManyNames, Code::PreconditionFailed])
}

pub(in crate::http) fn pause() -> Operation {
    operation(
        "pauseQueue",
        "Pause a queue",
        "Claims find nothing; submissions are accepted and running jobs finish. Idempotent.",
    )
    .parameters(&["Queue"])
    .optional_body::<wire::Pause>()
    .answer(Answer::json::<wire::Queue>(200, "The queue, paused.").headers(&["ETag"]))
    .problems(BODY)
    .problems(WRITES)
    .problems(&[Code::NoSuchQueue, Code::TooManyNames])
}

pub(in crate::http) fn resume() -> Operation {
    operation("resumeQueue", "Resume a queue", "Idempotent.")
        .parameters(&["Queue"])
        .optional_body::<wire::Nothing>()
        .answer(Answer::json::<wire::Queue>(200, "The queue, not paused.").headers(&["ETag"]))
        .problems(BODY)
        .problems(WRITES)
        .problems(&[Code::NoSuchQueue, Code::TooManyNames])
}

pub(in crate::http) fn explain_queue() -> Operation {
    operation(
        "explainQueue",
        "Why is this queue not moving?",
        "The watchdog's verdicts with their evidence. While the storage does not answer it is \
         told from memory: `age_seconds` says how old it is.",
    )
    .parameters(&["Queue"])
    .answer(Answer::json::<wire::QueueExplanation>(200, "The verdict, of each kind too."))
    .problems(READS)
    .problems(&[Code::NoSuchQueue])
}

pub(in crate::http) fn explain_job() -> Operation {
    operation("explainJob", "Why is this job not moving?", "With what to do about it.")
        .parameters(&["JobId"])
        .answer(Answer::json::<wire::JobExplanation>(200, "The verdict."))
        .problems(JOB)
        .problems(READS)
}

pub(in crate::http) fn episodes() -> Operation {
    operation(
        "listEpisodes",
        "When jobs were stuck",
        "Those that go on first, then those that have ended, latest first.",
    )
    .query("queue", name(), "Of this queue.")
    .query("kind", name(), "Of this kind.")
    .query("open", json!({"type": "boolean"}), "Whether it goes on.")
    .query("since", moment(), "Those that go on or ended later than this.")
    .query("limit", limit(&(1..=EPISODES_SHOWN)), "How many at most.")
    .answer(Answer::json::<wire::EpisodeList>(200, "The episodes."))
    .problems(READS)
}

pub(in crate::http) fn workers() -> Operation {
    operation("listWorkers", "All workers", "Those seen within a day, by id.")
        .answer(Answer::json::<wire::WorkerList>(200, "The workers."))
        .problems(READS)
}

pub(in crate::http) fn drain() -> Operation {
    operation(
        "drainWorker",
        "Let a worker end",
        "It is told `drain` with its next claim or heartbeat, and gets no more jobs. Idempotent.",
    )
    .parameters(&["WorkerId"])
    .optional_body::<wire::Nothing>()
    .answer(Answer::json::<wire::Worker>(200, "The worker, with `drain` as its directive."))
    .problems(BODY)
    .problems(WRITES)
    .problems(&[Code::NoSuchWorker])
}

pub(in crate::http) fn kinds() -> Operation {
    operation(
        "listKinds",
        "How long each kind of job takes",
        "Run and wait times of the last hours by kind, how many fail, and how good `Retry-After` is.",
    )
    .answer(Answer::json::<wire::KindList>(200, "The kinds."))
    .problems(READS)
}

pub(in crate::http) fn tasks() -> Operation {
    operation("listTasks", "The server's own maintenance", "")
        .answer(Answer::json::<wire::TaskList>(200, "The tasks."))
}
