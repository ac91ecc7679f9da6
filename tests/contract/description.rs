//! R160: the API describes itself.

use serde_json::json;

use crate::book::Book;

pub fn checks(book: &mut Book) {
    book.rule("R160", |at| {
        let about = at.ask_freely("GET", "/openapi.json", &[], b"").is(200);
        let version = about.json["openapi"].as_str().expect("a version");
        assert!(version.starts_with("3.1"), "{version}");
        for (path, method) in [
            ("/v1/jobs", "post"),
            ("/v1/jobs", "get"),
            ("/v1/jobs/batch", "post"),
            ("/v1/jobs/{id}", "get"),
            ("/v1/jobs/{id}", "delete"),
            ("/v1/jobs/{id}/result", "get"),
            ("/v1/jobs/{id}/timeline", "get"),
            ("/v1/jobs/{id}/cancel", "post"),
            ("/v1/jobs/{id}/complete", "post"),
            ("/v1/jobs/{id}/fail", "post"),
            ("/v1/jobs/{id}/release", "post"),
            ("/v1/jobs/{id}/heartbeat", "post"),
            ("/v1/claims", "post"),
            ("/v1/heartbeats", "post"),
            ("/v1/settlements", "post"),
            ("/v1/queues", "get"),
            ("/v1/workers", "get"),
            ("/v1/meta", "get"),
        ] {
            assert!(about.json["paths"][path][method].is_object(), "{method} {path}");
        }
        for problem in [
            at.get("/v1/jobs/1", &[]),
            at.text("/v1/jobs", "{", &[]),
            at.post("/v1/jobs", json!({}), &[]),
        ] {
            let page = problem.json["type"].as_str().expect("a type");
            let page = at.ask_freely("GET", page, &[], b"").is(200);
            let code = problem.json["code"].as_str().expect("a code");
            assert!(page.text().contains(code), "{code}");
        }
    });
}
