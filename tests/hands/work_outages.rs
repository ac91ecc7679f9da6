//! Workers and servers that die, and many workers at once.

use std::collections::HashSet;

use punctual::client::Prefer;
use punctual::wire;
use rustix::process::Signal;

use crate::place::{DONE, GATE, Hand, Place};
use crate::server::until;

#[tokio::test]
async fn the_job_of_a_killed_worker_is_done_by_another() {
    let place = Place::with(&[("JOBS__BACKOFF__INITIAL", "50ms"), ("TASKS__REAPER", "200ms")]);
    let first = place.worker(&["--queue", "default", "--lease", "1s"], GATE);
    let id = place.submit(&["a", "--payload", "1"]).await;
    place.until_file("started").await;
    first.signal(Signal::KILL);
    first.killed().await;
    place.write("go", "");
    let _second = place.worker(&["--queue", "default", "--lease", "1s"], GATE);
    let job = place.until_status(&id, "completed").await;
    assert_eq!((&job["attempt"], &job["result"]), (&2.into(), &1.into()), "{job}");
    assert_eq!(job["attempts"][0]["outcome"], "lease_expired", "{job}");
    let timeline = place.run(&["jobs", "timeline", &id]).await.ended(DONE).out;
    assert!(timeline.contains("taken_back"), "{timeline}");
}

#[tokio::test]
async fn a_server_that_dies_takes_neither_job_nor_worker_nor_client_with_it() {
    let mut place = Place::new();
    let mut worker = place.worker(&["--queue", "default", "--lease", "5s"], GATE);
    let line = ["submit", "a", "--payload", "\"kept\"", "--wait"];
    let client = Hand::start(place.punctual(&line));
    place.until_file("started").await;
    place.kill_server();
    // The outcome comes up while nobody is there to take it.
    place.write("go", "");
    worker.until_says("will be tried until they work").await;
    assert!(worker.is_running());
    place.start_server();
    assert_eq!(client.ended().await.ended(DONE).out, "\"kept\"\n");
    let jobs = place.run(&["jobs", "list", "--json"]).await.ended(DONE).json();
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(1));
    assert_eq!(jobs["jobs"][0]["attempt"], 1, "{jobs}");
    let next = ["submit", "a", "--payload", "2", "--wait"];
    assert_eq!(place.run(&next).await.ended(DONE).out, "2\n");
    worker.signal(Signal::TERM);
    worker.ended().await.ended(DONE);
}

#[tokio::test]
async fn two_workers_do_each_of_many_jobs_once() {
    const JOBS: usize = 150;
    let place = Place::new();
    let script = "echo \"$PUNCTUAL_JOB_ID\" >>seen\ncat\n";
    let options = ["--queue", "default", "--concurrency", "4"];
    let workers = [place.worker(&options, script), place.worker(&options, script)];
    let client = place.client();
    let mut ids = HashSet::new();
    for n in 0..JOBS {
        let payload = serde_json::from_str(&n.to_string()).expect("JSON");
        let job = wire::Submit { kind: "a".into(), payload: Some(payload), ..Default::default() };
        let prefer = Prefer { wait: None, respond_async: true };
        ids.insert(client.submit(&job, None, prefer).await.expect("accepted").job.job_id);
    }
    until("all jobs", || async {
        let queue = client.queue("default").await.expect("the queue");
        (queue.jobs.eligible + queue.jobs.running == 0).then_some(())
    })
    .await;
    let line = ["jobs", "list", "--status", "completed", "--limit", "1000", "--json"];
    let done = place.run(&line).await.ended(DONE).json();
    assert_eq!(done["jobs"].as_array().map(Vec::len), Some(JOBS));
    let seen = place.until_file("seen").await;
    let seen: Vec<String> = seen.lines().map(str::to_owned).collect();
    assert_eq!(seen.len(), JOBS, "none was done twice");
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), ids);
    for worker in workers {
        worker.signal(Signal::TERM);
        let said = worker.ended().await.ended(DONE);
        assert!(said.err.contains("failed=0 cancelled=0 released=0 lost=0"), "{}", said.err);
    }
}
