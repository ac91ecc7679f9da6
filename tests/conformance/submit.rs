//! Accepting jobs: what was given comes back unchanged, and a key makes one job.

use std::time::Duration;

use punctual::domain::job::{Job, Policy, Record, Standing, Status, Tally};
use punctual::store::{Absence, Submitted};

use crate::stores::{
    DAY, START, Settings, World, at, counts, for_each_store, for_each_store_with, ids, json, key,
    name, secs,
};

const TOMBSTONE: Duration = DAY.saturating_mul(30);

#[tokio::test]
async fn everything_given_is_read_back() {
    for_each_store(|w| async move {
        let parent = w.submit(w.job(START), START).await;
        let new = w.job_with(START, |n| {
            n.spec.namespace = name("shop");
            n.spec.queue = name("mail.fast:1_a-b");
            n.spec.kind = name("send");
            n.spec.priority = -100;
            n.spec.payload = Some(json(r#"{"to":["é","日本","\u0000"],"n":1e400}"#));
            n.spec.metadata = Some(json(r#"{ "user" : "ümit" }"#));
            n.spec.tags = vec!["red".to_owned(), "💥 'quoted\" %_".to_owned()];
            n.spec.root = parent;
            n.spec.retry_of = Some(parent);
            n.spec.expected_duration = Some(Duration::from_millis(1_234));
            n.spec.traceparent =
                Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
            n.spec.tracestate = Some("vendor=1".to_owned());
            n.job = Job::accepted(
                START,
                Some(at(60)),
                Some(at(90)),
                7,
                Policy { timeout: Duration::from_millis(90_001), ..Policy::default() },
            );
        });
        let id = w.submit(new.clone(), START).await;
        let record = w.record(id).await;
        let expected = Record {
            spec: new.spec.clone(),
            job: new.job,
            result: None,
            retried_as: None,
            standing: Standing::default(),
        };
        assert_eq!(record, expected);
        // A job without extras: nothing is made up.
        let plain = w.job_with(START, |n| n.spec.payload = None);
        let id = w.submit(plain.clone(), START).await;
        assert_eq!(w.record(id).await.spec, plain.spec);
        assert_eq!(w.tallies("mail.fast:1_a-b", START).await, counts(&[(Tally::Scheduled, 1)]));
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn payload_bytes_are_unchanged_in_reads_and_leases() {
    for_each_store(|w| async move {
        let big = format!("\"{}\"", "x".repeat(1 << 20));
        let payloads = [
            "null",
            "  {\"b\" : 1,\r\n\t\"a\":2, \"b\":3 }\n",
            "\"\\u0000\\ud83d\\udca5 \u{feff}\u{202e}\u{10ffff} ' \\\" ; DROP TABLE jobs\"",
            "-0.000000000000000000000000000000000000001e-999",
            "[[[[[[]]]]]]",
            "\"\"",
            &big,
        ];
        let mut sent = Vec::new();
        for payload in payloads {
            let new = w.job_with(START, |n| n.spec.payload = Some(json(payload)));
            sent.push((w.submit(new, START).await, payload.to_owned()));
        }
        for (id, payload) in &sent {
            assert_eq!(w.record(*id).await.spec.payload.unwrap().as_str(), payload);
            let punctual::store::Found::Here(bare) = w.store().get(*id, false).await.unwrap()
            else {
                panic!("{id} is not there");
            };
            assert_eq!(bare.spec.payload, None, "a payload is read only when asked for");
        }
        let leased = w.take(sent.len(), at(1)).await;
        let given: Vec<_> = leased
            .iter()
            .map(|l| (l.spec.id, l.spec.payload.clone().unwrap().as_str().to_owned()))
            .collect();
        assert_eq!(given, sent);
        // And still after the job has ended.
        for (l, (_, payload)) in leased.iter().zip(&sent) {
            w.complete(l, at(2)).await;
            assert_eq!(w.record(l.spec.id).await.spec.payload.unwrap().as_str(), payload);
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_makes_one_job() {
    for_each_store(|w| async move {
        let first = w.job_with(START, |n| n.key = key("order-1", 1));
        let id = w.submit(first, START).await;
        let again = w.job_with(at(1), |n| n.key = key("order-1", 1));
        let answers = w.store().submit(vec![again.clone()], at(1)).await.unwrap();
        let [Submitted::Replayed(record)] = answers.as_slice() else { panic!("{answers:?}") };
        assert_eq!((record.spec.id, record.job.status()), (id, Status::Pending));
        assert_eq!(w.absence(again.spec.id).await, Absence::Unknown);

        let other_body = w.job_with(at(1), |n| n.key = key("order-1", 2));
        let answers = w.store().submit(vec![other_body], at(1)).await.unwrap();
        assert_eq!(answers, [Submitted::KeyReused(id)]);

        // A replay shows the job as it is now.
        let leased = w.take_one(at(2)).await;
        w.complete(&leased, at(3)).await;
        let answers = w.store().submit(vec![again.clone()], at(4)).await.unwrap();
        let [Submitted::Replayed(record)] = answers.as_slice() else { panic!("{answers:?}") };
        assert_eq!((record.spec.id, record.job.status()), (id, Status::Completed));

        // Another namespace has keys of its own; a key is compared exactly.
        let elsewhere = w.job_with(at(5), |n| {
            n.spec.namespace = name("shop");
            n.key = key("order-1", 2);
        });
        w.submit(elsewhere, at(5)).await;
        w.submit(w.job_with(at(5), |n| n.key = key("ORDER-1", 2)), at(5)).await;
        w.submit(w.job_with(at(5), |n| n.key = key("order-1 ", 2)), at(5)).await;
        assert_eq!(w.total(at(5)).await, 4);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_batch_is_created_whole_or_not_at_all() {
    for_each_store(|w| async move {
        let used = w.submit(w.job_with(START, |n| n.key = key("used", 1)), START).await;
        let batch = [key("new", 1), key("used", 2), None, key("used", 1)]
            .map(|k| w.job_with(at(1), |n| n.key = k));
        let answers = w.store().submit(batch.to_vec(), at(1)).await.unwrap();
        assert_eq!(answers[1], Submitted::KeyReused(used));
        assert_eq!(answers.len(), 4);
        for new in &batch {
            assert_eq!(w.absence(new.spec.id).await, Absence::Unknown);
        }
        assert_eq!(w.total(at(1)).await, 1);

        // Nor was the other key used up.
        let batch = [key("new", 9), key("used", 1), None].map(|k| w.job_with(at(2), |n| n.key = k));
        let answers = w.store().submit(batch.to_vec(), at(2)).await.unwrap();
        assert_eq!(answers[0], Submitted::Created);
        assert!(matches!(&answers[1], Submitted::Replayed(r) if r.spec.id == used));
        assert_eq!(answers[2], Submitted::Created);
        assert_eq!(w.total(at(2)).await, 3);
        assert_eq!(ids(&w.take(9, at(3)).await), [used, batch[0].spec.id, batch[2].spec.id]);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_batch_may_repeat_its_own_key() {
    for_each_store(|w| async move {
        let batch = [key("a", 1), key("a", 1), key("b", 1), key("a", 1)]
            .map(|k| w.job_with(START, |n| n.key = k));
        let answers = w.store().submit(batch.to_vec(), START).await.unwrap();
        assert_eq!(answers[0], Submitted::Created);
        assert_eq!(answers[2], Submitted::Created);
        for at in [1, 3] {
            let Submitted::Replayed(record) = &answers[at] else { panic!("{answers:?}") };
            assert_eq!(record.spec.id, batch[0].spec.id);
        }
        assert_eq!(w.total(START).await, 2);

        let batch = [None, key("c", 1), key("c", 2)].map(|k| w.job_with(START, |n| n.key = k));
        let answers = w.store().submit(batch.to_vec(), START).await.unwrap();
        assert_eq!(answers[2], Submitted::KeyTwice(1), "of a job that is not there");
        assert_eq!(w.total(START).await, 2);
        assert_eq!(w.absence(batch[1].spec.id).await, Absence::Unknown);
        assert!(!knows(&w, "default", "c").await && knows(&w, "default", "a").await);
        assert!(!knows(&w, "shop", "a").await && !knows(&w, "default", "A").await);
        // The contradicting batch left nothing of its key behind either.
        w.submit(w.job_with(START, |n| n.key = key("c", 2)), START).await;
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn an_empty_batch_is_nothing() {
    for_each_store(|w| async move {
        assert_eq!(w.store().submit(Vec::new(), START).await.unwrap(), []);
        assert_eq!(w.total(START).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_key_outlives_its_job_for_the_rest_of_its_time() {
    let settings = Settings { key_ttl: 7 * DAY, ..Settings::default() };
    for_each_store_with(settings, |w| async move {
        let submit =
            |at, body| w.store().submit(vec![w.job_with(at, |n| n.key = key("k", body))], at);
        let id = w.submit(w.job_with(START, |n| n.key = key("k", 1)), START).await;
        let leased = w.take_one(at(1)).await;
        w.complete(&leased, at(2)).await;
        let day2 = START.plus(2 * DAY);
        assert_eq!(w.store().expire(10, TOMBSTONE, day2).await.unwrap().jobs, 1);
        assert_eq!(w.absence(id).await, Absence::Expired);
        assert_eq!(submit(day2, 1).await.unwrap(), [Submitted::ReplayedGone(id)]);
        assert_eq!(submit(day2, 2).await.unwrap(), [Submitted::KeyReused(id)]);
        // A batch with it creates nothing.
        let batch = vec![w.job(day2), w.job_with(day2, |n| n.key = key("k", 1))];
        let answers = w.store().submit(batch, day2).await.unwrap();
        assert_eq!(answers[1], Submitted::ReplayedGone(id));
        assert_eq!(w.total(day2).await, 0);

        let before = START.plus(7 * DAY).minus(secs(1));
        w.store().expire(10, TOMBSTONE, before).await.unwrap();
        assert_eq!(submit(before, 1).await.unwrap(), [Submitted::ReplayedGone(id)]);
        let after = START.plus(7 * DAY);
        assert_eq!(w.store().expire(10, TOMBSTONE, after).await.unwrap().other, 1);
        assert_eq!(submit(after, 2).await.unwrap(), [Submitted::Created]);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_key_lives_at_least_as_long_as_its_job() {
    let settings = Settings { key_ttl: secs(60), ..Settings::default() };
    for_each_store_with(settings, |w| async move {
        let new = w.job_with(START, |n| n.key = key("k", 1));
        let id = w.submit(new, START).await;
        let later = at(7_200);
        w.store().expire(10, TOMBSTONE, later).await.unwrap();
        let again = w.job_with(later, |n| n.key = key("k", 1));
        let answers = w.store().submit(vec![again.clone()], later).await.unwrap();
        assert!(matches!(&answers[..], [Submitted::Replayed(r)] if r.spec.id == id));
        // Deleted on request: the key's own time is over, so the next step forgets it.
        let leased = w.take_one(later).await;
        w.complete(&leased, later).await;
        w.store().delete(id, TOMBSTONE, later).await.unwrap().unwrap();
        w.store().expire(10, TOMBSTONE, later).await.unwrap();
        assert_eq!(w.store().submit(vec![again], later).await.unwrap(), [Submitted::Created]);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_jobs_key_still_answers() {
    for_each_store(|w| async move {
        let id = w.submit(w.job_with(START, |n| n.key = key("k", 1)), START).await;
        let leased = w.take_one(at(1)).await;
        w.complete(&leased, at(2)).await;
        w.store().delete(id, TOMBSTONE, at(3)).await.unwrap().unwrap();
        let again = w.job_with(at(4), |n| n.key = key("k", 1));
        let answers = w.store().submit(vec![again], at(4)).await.unwrap();
        assert_eq!(answers, [Submitted::ReplayedGone(id)]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_with_one_key_one_is_created() {
    for_each_store(|w| async move {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..200u32 {
            let new = w.job_with(START, |new| new.key = key(&format!("key-{}", n % 10), 1));
            let store = w.share();
            tasks.spawn(async move { store.submit(vec![new], START).await.unwrap().remove(0) });
        }
        let answers = tasks.join_all().await;
        let created = answers.iter().filter(|a| **a == Submitted::Created).count();
        assert_eq!(created, 10);
        assert!(
            answers.iter().all(|a| matches!(a, Submitted::Created | Submitted::Replayed(_))),
            "{answers:?}"
        );
        assert_eq!(w.tallies("q", START).await, counts(&[(Tally::Queued, 10)]));
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_claim_in_the_same_commit_gets_the_new_job() {
    for_each_store(|w| async move {
        let new = w.job(START);
        let id = new.spec.id;
        let ask = w.ask(&["q"], 1, START);
        let (answers, claimed) =
            w.store().submit_and_claim(vec![new], vec![ask], START).await.unwrap();
        assert_eq!(answers, [Submitted::Created]);
        assert_eq!(ids(&claimed[0].jobs), [id]);
        assert_eq!(w.record(id).await.job.status(), Status::Running);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn nothing_is_claimed_when_nothing_was_created() {
    for_each_store(|w| async move {
        let waiting = w.submit(w.job_with(START, |n| n.key = key("k", 1)), START).await;
        for body in [1, 2] {
            let again = w.job_with(at(1), |n| n.key = key("k", body));
            let ask = w.ask(&["q"], 1, at(1));
            let (answers, claimed) =
                w.store().submit_and_claim(vec![again], vec![ask], at(1)).await.unwrap();
            assert_ne!(answers, [Submitted::Created]);
            assert!(claimed.iter().all(|c| c.jobs.is_empty()));
        }
        assert_eq!(w.record(waiting).await.job.status(), Status::Pending);
    })
    .await;
}

async fn knows(w: &World, namespace: &str, key: &str) -> bool {
    w.store().knows_key(name(namespace), key.to_owned()).await.unwrap()
}
