//! R43, the filters: each finds what it says and nothing else.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::book::Book;
use crate::kit::until;

type Says = Box<dyn Fn(&Value) -> bool>;

fn says(fits: impl Fn(&Value) -> bool + 'static) -> Says {
    Box::new(fits)
}

pub fn checks(book: &mut Book) {
    book.rule("R43", |at| {
        let queue = format!("/v1/queues/{}", at.queue);
        let patch = [("Content-Type", "application/merge-patch+json")];
        at.ask("PATCH", &queue, &patch, br#"{"stuck_after_seconds":1}"#).is(200);
        let mut ids = Vec::new();
        for (kind, end) in [("a", "complete"), ("b", "complete"), ("a", "fail"), ("b", "retry")] {
            let tags = json!([end, format!("{kind}.{end}")]);
            let lease = at.taken(json!({"kind": kind, "tags": tags}));
            match end {
                "complete" => drop(at.complete(&lease, json!("a result"))),
                "fail" => drop(at.fail(&lease, json!({"retryable": false}))),
                _ => drop(at.fail(&lease, json!({"retry_after_seconds": 900}))),
            }
            ids.push(lease.id);
        }
        ids.push(at.put(json!({"delay_seconds": 900, "tags": ["later"]})));
        let waits = at.put(json!({"kind": "b"}));
        let elsewhere = format!("{}.other", at.queue);
        at.submit(json!({"kind": "a", "queue": elsewhere, "tags": ["complete"]}));
        let list = |query: &str| {
            let address = format!("/v1/jobs?limit=1000&queue={}&{query}", at.queue);
            at.get(&address, &[]).is(200).json["jobs"].as_array().expect("jobs").clone()
        };
        until("a stuck job", || (!list("stuck=true").is_empty()).then_some(()));

        let first = at.job(&ids[0]);
        let created = first["created_at"].as_str().expect("a moment").to_owned();
        let finished = first["finished_at"].as_str().expect("a moment").to_owned();
        let is = |name: &'static str, value: &'static str| says(move |job| job[name] == value);
        let tagged = |tag: &'static str| {
            says(move |job| job["tags"].as_array().is_some_and(|t| t.contains(&json!(tag))))
        };
        let (after, newest) = (created.clone(), at.job(&waits)["created_at"].clone());
        let before = newest.as_str().expect("a moment").to_owned();
        let error =
            |job: &Value| job["error"]["type"] == "boom" || job["last_error"]["type"] == "boom";
        let cases: Vec<(String, Says)> = vec![
            ("status=completed".to_owned(), is("status", "completed")),
            ("status=failed".to_owned(), is("status", "failed")),
            ("status=pending".to_owned(), is("status", "pending")),
            ("kind=b".to_owned(), is("kind", "b")),
            ("tag=complete".to_owned(), tagged("complete")),
            ("pending_reason=scheduled".to_owned(), is("pending_reason", "scheduled")),
            ("pending_reason=retry_backoff".to_owned(), is("pending_reason", "retry_backoff")),
            ("error_type=boom".to_owned(), says(error)),
            (
                format!("created_after={created}"),
                says(move |job| job["created_at"].as_str() > Some(&*after)),
            ),
            (
                format!("created_before={before}"),
                says(move |job| job["created_at"].as_str() < Some(&*before)),
            ),
            (
                format!("finished_after={finished}"),
                says(move |job| job["finished_at"].as_str() > Some(&*finished)),
            ),
            (
                "stuck=true".to_owned(),
                says(|job| job["status"] == "pending" && job.get("run_at").is_none()),
            ),
        ];
        let all = list("");
        assert_eq!(all.len(), 6);
        let found = |jobs: &[Value]| -> BTreeSet<String> {
            jobs.iter().map(|job| job["job_id"].as_str().expect("an id").to_owned()).collect()
        };
        let fitting = |fits: &dyn Fn(&Value) -> bool| {
            found(&all.iter().filter(|job| fits(job)).cloned().collect::<Vec<_>>())
        };
        for (query, fits) in &cases {
            let expected = fitting(fits);
            assert!((1..6).contains(&expected.len()), "{query} tells none from another");
            assert_eq!(found(&list(query)), expected, "{query}");
        }
        // Of several, all must hold.
        for (query, fits) in &cases {
            for (other, fits_too) in &cases {
                if query.split('=').next() != other.split('=').next() {
                    let expected = fitting(&|job| fits(job) && fits_too(job));
                    assert_eq!(
                        found(&list(&format!("{query}&{other}"))),
                        expected,
                        "{query} {other}"
                    );
                }
            }
        }
        assert!(all.iter().all(|job| job.get("result").is_none() && job.get("payload").is_none()));
    });
}
