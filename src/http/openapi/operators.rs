//! What operators see and do.

use serde_json::json;

use super::super::problem::Code;
use super::operation::{Answer, Operation, Tag};
use super::shared::{BODY, JOB, READS, WRITES, limit, moment, name};
use crate::engine::EPISODES_SHOWN;
use crate::wire;

fn operation(id: &'static str, summary: &'static str, text: &'static str) -> Operation {
    Operation::new(Tag::Operators, id, summary, text)
}

pub(in crate::http) fn queues() -> Operation {
    operation("listQueues", "All queues", "Those that were ever used.")
        .scope("read")
        .answer(Answer::json::<wire::QueueList>(200, "The queues."))
        .problems(READS)
}

pub(in crate::http) fn queue() -> Operation {
    operation("getQueue", "One queue", "Its jobs, workers, rates and limits.")
        .scope("read")
        .parameters(&["Queue"])
        .answer(Answer::json::<wire::Queue>(200, "The queue."))
        .problems(READS)
        .problems(&[Code::NoSuchQueue])
}

pub(in crate::http) fn pause() -> Operation {
    operation(
        "pauseQueue",
        "Pause a queue",
        "Claims find nothing; submissions are accepted and running jobs finish. Idempotent.",
    )
    .scope("operate")
    .parameters(&["Queue"])
    .optional_body::<wire::Pause>()
    .answer(Answer::json::<wire::Queue>(200, "The queue, paused."))
    .problems(BODY)
    .problems(WRITES)
    .problems(&[Code::NoSuchQueue])
}

pub(in crate::http) fn resume() -> Operation {
    operation("resumeQueue", "Resume a queue", "Idempotent.")
        .scope("operate")
        .parameters(&["Queue"])
        .optional_body::<wire::Nothing>()
        .answer(Answer::json::<wire::Queue>(200, "The queue, not paused."))
        .problems(BODY)
        .problems(WRITES)
        .problems(&[Code::NoSuchQueue])
}

pub(in crate::http) fn explain_queue() -> Operation {
    operation(
        "explainQueue",
        "Why is this queue not moving?",
        "The watchdog's verdicts with their evidence. While the storage does not answer it is \
         told from memory: `age_seconds` says how old it is.",
    )
    .scope("read")
    .parameters(&["Queue"])
    .answer(Answer::json::<wire::QueueExplanation>(200, "The verdict, of each kind too."))
    .problems(READS)
    .problems(&[Code::NoSuchQueue, Code::InvalidQuery])
}

pub(in crate::http) fn explain_job() -> Operation {
    operation("explainJob", "Why is this job not moving?", "With what to do about it.")
        .scope("read")
        .parameters(&["JobId"])
        .answer(Answer::json::<wire::JobExplanation>(200, "The verdict."))
        .problems(JOB)
        .problems(READS)
        .problems(&[Code::InvalidQuery])
}

pub(in crate::http) fn episodes() -> Operation {
    operation(
        "listEpisodes",
        "When jobs were stuck",
        "Those that go on first, then those that have ended, latest first.",
    )
    .scope("read")
    .query("queue", name(), "Of this queue.")
    .query("kind", name(), "Of this kind.")
    .query("open", json!({"type": "boolean"}), "Whether it goes on.")
    .query("since", moment(), "Those that go on or ended later than this.")
    .query("limit", limit(&(1..=EPISODES_SHOWN)), "How many at most.")
    .answer(Answer::json::<wire::EpisodeList>(200, "The episodes."))
    .problems(READS)
    .problems(&[Code::InvalidQuery])
}

pub(in crate::http) fn workers() -> Operation {
    operation("listWorkers", "All workers", "Those seen within a day, by id.")
        .scope("read")
        .answer(Answer::json::<wire::WorkerList>(200, "The workers."))
        .problems(READS)
}

pub(in crate::http) fn tasks() -> Operation {
    operation("listTasks", "The server's own maintenance", "").scope("read").answer(Answer::json::<
        wire::TaskList,
    >(
        200,
        "The tasks.",
    ))
}
