//! Queries that misread a kind or a scope.

use crate::finding::Findings;
use crate::query::{Use, sin};

fn alert(expr: &str) -> Findings {
    sin(Use::Alert, expr)
}

#[test]
fn a_naked_counter() {
    let wrong = "punctual_jobs_lost_total counts from the start of the process";
    let cure = "take rate(punctual_jobs_lost_total[…])";
    alert("punctual_jobs_lost_total > 0").only("here", wrong, cure);
    alert("sum without (instance, pod) (punctual_jobs_lost_total)").only("here", wrong, cure);
    // The rate of a sum sees no restart of one replica.
    alert("rate(sum without (instance, pod) (punctual_jobs_lost_total)[5m:1m])")
        .only("here", wrong, cure);
    alert("max_over_time(punctual_jobs_lost_total[5m])").only("here", wrong, cure);
    alert("sum without (instance, pod) (punctual_job_wait_seconds_count)").only(
        "here",
        "punctual_job_wait_seconds_count counts",
        "take rate",
    );
    for right in ["rate", "increase", "irate", "resets", "changes"] {
        alert(&format!("{right}(punctual_jobs_lost_total[5m]) > 0")).none();
    }
    alert("absent(punctual_jobs_lost_total)").none();
}

#[test]
fn a_rate_of_a_gauge() {
    alert("sum without (instance, pod) (rate(punctual_store_degraded[5m]))").only(
        "here",
        "rate of punctual_store_degraded, which is a gauge",
        "delta or deriv",
    );
    alert("increase(up[5m])").only("here", "increase of up", "delta or deriv");
    alert("changes(process_start_time_seconds[15m]) > 2").none();
    alert("max without (instance, pod) (deriv(punctual_queue_depth[5m]))").none();
}

#[test]
fn buckets_that_are_added_up() {
    let wrong = "buckets of punctual_job_wait_seconds_bucket are added up";
    alert("sum without (instance, pod, le) (rate(punctual_job_wait_seconds_bucket[5m]))")
        .only("here", wrong, "keep le");
    let one = "punctual_job_wait_seconds_bucket{le=\"0.5\"}";
    alert(&format!("sum without (instance, pod, le) (rate({one}[5m]))")).none();
    alert(
        "max without (queue) (histogram_quantile(0.9, sum without (instance, pod) (rate(punctual_job_wait_seconds_bucket[5m]))))",
    )
    .none();
}

#[test]
fn a_fact_that_is_counted_by_replica() {
    let cure = "max without (instance, pod) (punctual_queue_depth)";
    for op in ["sum", "avg", "count", "stddev", "group"] {
        alert(&format!("{op} without (instance, pod) (punctual_queue_depth)")).only(
            "here",
            &format!("{op} over the replicas of punctual_queue_depth"),
            cure,
        );
    }
    // The maximum comes too late.
    alert("max without (queue) (sum without (instance, pod) (punctual_queue_depth))").only(
        "here",
        "sum over the replicas",
        cure,
    );
    // Half of it is no better.
    alert("max without (pod) (sum without (instance) (punctual_queue_depth))").only(
        "here",
        "sum over the replicas",
        cure,
    );
    alert("sum without (queue) (max without (instance, pod) (punctual_queue_depth))").none();
    alert("max without (instance, pod) (sum without (queue) (punctual_queue_depth))").none();
    sin(Use::Panel, r#"sum(punctual_queue_depth{job=~"$job",queue=~"$queue"})"#).only(
        "here",
        "sum over the replicas",
        cure,
    );
}

#[test]
fn a_fact_that_every_replica_tells() {
    let wrong = "every replica tells punctual_queue_paused, and instance or pod is still there";
    let cure = "max without (instance, pod) (punctual_queue_paused)";
    alert("punctual_queue_paused == 1").only("here", wrong, cure);
    alert("max without (instance) (punctual_queue_paused) == 1").only("here", wrong, cure);
    alert("topk without (instance, pod) (3, punctual_queue_paused)").only("here", wrong, cure);
    alert("up == 1 unless on (job) punctual_queue_paused == 1").only("here", wrong, cure);
    alert("absent(punctual_queue_paused)").none();
}

#[test]
fn a_moment_taken_for_a_number() {
    let name = "punctual_task_last_success_timestamp_seconds";
    let wrong = format!("{name} is a moment");
    for sin in [
        name.to_owned(),
        format!("{name} < 100"),
        format!("max without (instance, pod) ({name})"),
        format!("{name} - time()"),
        format!("{name} + 60"),
        format!("{name} - 60"),
        format!("timestamp({name})"),
        format!("time() / {name}"),
        format!("abs({name})"),
        format!("100 - {name}"),
    ] {
        alert(&sin).only("here", &wrong, "make it an age: time() - max(…)");
    }
    for right in [
        format!("time() - {name} > 61"),
        format!("time() - max without (instance, pod) ({name}) > 61"),
        format!("min without (instance, pod) (timestamp({name}) - {name}) > 61"),
        format!("max by (task) (timestamp({name})) - max by (task) ({name}) > 61"),
        format!("absent({name})"),
        format!("up == 0 unless on (job, instance) {name}"),
    ] {
        sin(Use::Document, &right).none();
    }
    let annotation = r#"process_start_time_seconds{job=~"$job",instance=~"$instance"} * 1000"#;
    sin(Use::Annotation, annotation).none();
    sin(Use::Panel, annotation).only("here", "process_start_time_seconds is a moment", "an age");
}

#[test]
fn ages_that_are_added_up() {
    let age = "time() - punctual_state_sample_timestamp_seconds";
    for op in ["sum", "avg"] {
        alert(&format!("{op} without (instance, pod) ({age})")).only(
            "here",
            &format!("{op} over the replicas of punctual_state_sample_timestamp_seconds"),
            "use max or min, or keep instance",
        );
    }
    alert("sum without (instance, pod) (punctual_task_interval_seconds)").only(
        "here",
        "sum over the replicas of punctual_task_interval_seconds",
        "max or min",
    );
    alert("sum without (instance, pod) (changes(process_start_time_seconds[15m])) > 2").none();
}

#[test]
fn a_rate_or_a_ratio_over_what_is_kept() {
    let max = |matchers: &str| format!("max without (instance, pod) (punctual_jobs{matchers})");
    let wrong = "of punctual_jobs, whose finished states count only what is still kept";
    let cure = "use punctual_jobs_finished_total";
    let failed = max(r#"{state="failed"}"#);
    let ratio = format!("{failed} / {}", max(r#"{state=~"completed|failed"}"#));
    alert(&ratio).only("here", wrong, cure);
    let ratio = format!(
        "sum without (state) ({failed}) / sum without (state) ({})",
        max(r#"{state!="pending"}"#)
    );
    alert(&ratio).only("here", wrong, cure);
    alert(&format!("{} / ignoring (state) {}", failed, max(r#"{state="running"}"#)))
        .only("here", wrong, cure);
    alert("max without (instance, pod) (deriv(punctual_jobs[5m]))").only("here", wrong, cure);
    let running = max(r#"{state="running"}"#);
    let limit = "max without (instance, pod) (punctual_queue_max_running)";
    alert(&format!("{running} / ignoring (state) {limit} > 0.9")).none();
    alert(&format!("{running} / ignoring (state) ({} > 0)", max(r#"{state="pending"}"#))).none();
    alert(&format!("{failed} > 100")).none();
}

#[test]
fn events_that_are_not_added() {
    let rate = "rate(punctual_attempts_started_total[5m])";
    for op in ["max", "min", "avg"] {
        alert(&format!("{op} without (instance, pod) ({rate}) > 1")).only(
            "here",
            &format!("{op} over the replicas of a rate of punctual_attempts_started_total"),
            "add them: sum without (instance, pod)",
        );
    }
    alert(&format!("max without (queue) (avg without (instance, pod) ({rate})) > 1")).only(
        "here",
        "avg over the replicas",
        "add them",
    );
    alert(&format!("max without (queue) (sum without (instance, pod) ({rate})) > 1")).none();
    // The busiest of them.
    alert(&format!("{rate} > 1")).none();
    alert(&format!("max without (queue) ({rate}) > 1")).none();
}
