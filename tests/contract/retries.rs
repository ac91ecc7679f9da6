//! R150–R152: doing a finished job's work again.

use serde_json::json;

use crate::book::Book;

pub fn checks(book: &mut Book) {
    book.rule("R150", |at| {
        let lease = at.taken(json!({"payload": [150], "max_attempts": 3}));
        let old = at.fail(&lease, json!({"retryable": false}));
        let new = at.nothing(&format!("/v1/jobs/{}/retry", old["job_id"].as_str().expect("one")));
        let new = new.is(201);
        assert_eq!(new.header("location"), new.json["status_url"].as_str());
        assert_eq!(new.json["retry_of"], old["job_id"]);
        assert_eq!(new.json["root_job_id"], old["root_job_id"]);
        let mut kept = at.job(&lease.id);
        assert_eq!(kept["retried_as"], new.json["job_id"]);
        kept.as_object_mut().expect("a job").remove("retried_as");
        assert_eq!(kept, old);
        let again = at.take();
        assert_eq!((&again.json["payload"], &again.json["attempt"]), (&json!([150]), &json!(1)));
    });
    book.rule("R151", |at| {
        let lease = at.taken(json!({}));
        at.fail(&lease, json!({"retryable": false}));
        let path = format!("/v1/jobs/{}/retry", lease.id);
        let first = at.nothing(&path).is(201).id();
        let again = at.nothing(&path).is(200);
        assert_eq!(
            (again.id(), again.header("idempotent-replayed")),
            (first.clone(), Some("true"))
        );
        assert_ne!(at.nothing(&format!("{path}?force=true")).is(201).id(), first);
    });
    book.rule("R152", |at| {
        let id = at.put(json!({}));
        let path = format!("/v1/jobs/{id}/retry");
        at.nothing(&path).problem(409, "job-not-finished");
        at.cancel(&id, json!({})).is(200);
        at.delete(&id).is(204);
        at.nothing(&path).problem(410, "job-deleted");
        at.nothing("/v1/jobs/1/retry").problem(404, "no-such-job");
    });
}
