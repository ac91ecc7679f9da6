//! Settling leases: in one commit with the next claim, idempotent by token, never by a stale one.

use punctual::domain::id::JobId;
use punctual::domain::job::{JobError, RawJson, Requester, Status, Tally};
use punctual::domain::state::{Change, Rejected};
use punctual::domain::time::Timestamp;
use punctual::store::{
    Absence, ClaimRequest, Found, Leased, Outcome, Refusal, ResultBody, ResultValue, Settle,
};

use crate::stores::{
    DAY, START, Settings, World, at, completed, counts, for_each_store, for_each_store_with, ids,
    json, report, secs, worker,
};

fn failed(retryable: bool) -> Outcome {
    let error = JobError {
        kind: "smtp.refused".to_owned(),
        message: "“no” \u{0}\u{1f4a5}".to_owned(),
        details: Some(json(r#"{"code": 550, "n": 1e99}"#)),
        stack: Some("at line 1\n  at line 2".to_owned()),
        attempt: 0,
        at: Timestamp::EPOCH,
        retryable,
    };
    Outcome::Failed { error, retry_after: Some(secs(5)), unit: 0.5 }
}

async fn result_of(w: &World, id: JobId) -> ResultBody {
    match w.store().result(id).await.unwrap() {
        Found::Here(body) => body,
        Found::Absent(why) => panic!("{id} is not there: {why:?}"),
    }
}

async fn running(w: &World, count: usize) -> Vec<Leased> {
    w.submit_many(count, START).await;
    let leased = w.take(count, at(1)).await;
    assert_eq!(leased.len(), count);
    leased
}

#[tokio::test]
async fn one_commit_settles_and_claims() {
    let settings = Settings { synced: true, ..Settings::default() };
    for_each_store_with(settings, |w| async move {
        let leased = running(&w, 3).await;
        let next = w.submit_many(2, at(2)).await;
        let settlements = vec![
            report(&leased[0], completed("1")),
            report(&leased[1], failed(true)),
            report(&leased[2], Outcome::Released { delay: None }),
        ];
        let request = w.ask(&["q"], 10, at(3));
        let (rulings, claimed) = w.store().settle(settlements, Some(request), at(3)).await.unwrap();
        let changes: Vec<_> = rulings.iter().map(|v| v.as_ref().unwrap().change).collect();
        assert_eq!(changes, [Change::Completed, Change::Retrying(secs(5)), Change::Released]);
        assert!(rulings.iter().all(|v| v.as_ref().unwrap().attempt_ended));
        // The released one is claimable within the same step, in its old place.
        assert_eq!(ids(&claimed.unwrap().jobs), [leased[2].spec.id, next[0], next[1]]);
        assert_eq!(
            w.tallies("q", at(3)).await,
            counts(&[(Tally::Completed, 1), (Tally::Backoff, 1), (Tally::Running, 3)])
        );
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_lost_answer_is_repaired_after_settling() {
    for_each_store(|w| async move {
        let leased = running(&w, 2).await;
        // The worker settles what it holds and says that it then holds nothing.
        let request = ClaimRequest { held: Some(Vec::new()), ..w.ask(&["q"], 5, at(2)) };
        let settlement = report(&leased[0], completed("1"));
        let (rulings, claimed) =
            w.store().settle(vec![settlement], Some(request), at(2)).await.unwrap();
        let claimed = claimed.unwrap();
        assert_eq!(rulings[0].as_ref().unwrap().change, Change::Completed);
        assert_eq!(claimed.withdrawn.len(), 1);
        assert_eq!(ids(&claimed.jobs), [leased[1].spec.id]);
    })
    .await;
}

#[tokio::test]
async fn answers_come_in_order_with_unknown_and_repeated_ids() {
    for_each_store(|w| async move {
        let leased = running(&w, 2).await;
        let unknown = Settle {
            id: w.id(START),
            token: w.token().hash(),
            outcome: Outcome::Completed { result: None },
        };
        let settlements = vec![
            unknown,
            report(&leased[0], completed("1")),
            report(&leased[0], completed("2")),
            report(&leased[0], failed(false)),
            report(&leased[1], failed(false)),
        ];
        let (rulings, claimed) = w.store().settle(settlements.clone(), None, at(2)).await.unwrap();
        assert!(claimed.is_none());
        assert_eq!(rulings[0], Err(Refusal::Absent(Absence::Unknown)));
        assert_eq!(rulings[1].as_ref().unwrap().change, Change::Completed);
        assert_eq!(rulings[2].as_ref().unwrap().change, Change::Unchanged);
        assert!(!rulings[2].as_ref().unwrap().attempt_ended);
        assert_eq!(rulings[3], Err(Rejected::AlreadyReported.into()));
        assert_eq!(rulings[4].as_ref().unwrap().change, Change::Failed);
        // The first word stands, also when the whole message comes again.
        let (again, _) = w.store().settle(settlements, None, at(3)).await.unwrap();
        assert_eq!(again[1].as_ref().unwrap().change, Change::Unchanged);
        assert_eq!(again[4].as_ref().unwrap().change, Change::Unchanged);
        let ResultBody::Bytes { body, .. } = result_of(&w, leased[0].spec.id).await else {
            panic!("bytes")
        };
        assert_eq!(body, b"1");
        assert_eq!(w.record(leased[0].spec.id).await.job.version, 3);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_stale_token_never_wins() {
    for_each_store(|w| async move {
        let id = w.submit(w.job(START), START).await;
        let old = w.take_one(at(1)).await;
        assert_eq!(w.store().take_back(10, vec![], at(31)).await.unwrap().len(), 1);
        let attempts = [completed("\"stale\""), failed(false), Outcome::Released { delay: None }];
        for outcome in attempts.clone() {
            let (rulings, _) =
                w.store().settle(vec![report(&old, outcome)], None, at(32)).await.unwrap();
            assert_eq!(rulings[0], Err(Rejected::LeaseExpired.into()));
        }
        let request = ClaimRequest { worker: worker("w2"), ..w.ask(&["q"], 1, at(33)) };
        let new = w.claim(request, at(33)).await.jobs.remove(0);
        assert!(new.job.fence > old.job.fence);
        for outcome in attempts {
            let (rulings, _) =
                w.store().settle(vec![report(&old, outcome)], None, at(34)).await.unwrap();
            assert_eq!(rulings[0], Err(Rejected::LeaseLost.into()));
        }
        assert!(w.store().withdraw(vec![(id, old.job.fence)], at(34)).await.unwrap().is_empty());
        assert_eq!(w.record(id).await.job, new.job, "untouched");
        // Both at once: only the holder is heard, whatever the order.
        let settlements =
            vec![report(&old, completed("\"stale\"")), report(&new, completed("\"fresh\""))];
        let (rulings, _) = w.store().settle(settlements, None, at(35)).await.unwrap();
        assert!(rulings[0].is_err() && rulings[1].is_ok());
        let (rulings, _) =
            w.store().settle(vec![report(&old, completed("0"))], None, at(36)).await.unwrap();
        assert_eq!(rulings[0], Err(Rejected::JobAlreadyFinished.into()));
        let ResultBody::Bytes { body, .. } = result_of(&w, id).await else { panic!("bytes") };
        assert_eq!(body, b"\"fresh\"");
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_settlements_at_once_one_counts() {
    for_each_store(|w| async move {
        let leased = running(&w, 20).await;
        let mut tasks = tokio::task::JoinSet::new();
        for round in 0..8 {
            for l in &leased {
                let store = w.share();
                let report = report(l, completed(round.to_string()));
                tasks.spawn(async move {
                    store.settle(vec![report], None, at(2)).await.unwrap().0.remove(0)
                });
            }
        }
        let rulings = tasks.join_all().await;
        let ended = rulings.iter().filter(|v| v.as_ref().unwrap().attempt_ended).count();
        assert_eq!(ended, 20);
        assert_eq!(w.tallies("q", at(3)).await, counts(&[(Tally::Completed, 20)]));
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn results_small_large_null_and_elsewhere() {
    for_each_store(|w| async move {
        let leased = running(&w, 7).await;
        let silent = "https://elsewhere.example/result";
        let exact = format!("\"{}\"", "a".repeat(1_022));
        let large = format!("\"{}\"", "b".repeat(1_023));
        let huge = format!("[\n\"{}\\u0000💥\" ]", "c".repeat(3 << 20));
        let values = [
            None,
            Some(ResultValue::Json(json("null"))),
            Some(ResultValue::Json(json(exact.clone()))),
            Some(ResultValue::Json(json(large.clone()))),
            Some(ResultValue::Json(json(huge.clone()))),
            Some(ResultValue::Elsewhere {
                location: "s3://bucket/ключ".to_owned(),
                content_type: Some("text/csv".to_owned()),
            }),
            Some(ResultValue::Elsewhere { location: silent.to_owned(), content_type: None }),
        ];
        for (l, result) in leased.iter().zip(values) {
            w.settle(l, Outcome::Completed { result }, at(2)).await;
        }
        let bytes = |text: &str| ResultBody::Bytes {
            content_type: "application/json".to_owned(),
            body: text.as_bytes().to_vec(),
            expires_at: Some(at(2).plus(DAY)),
        };
        let elsewhere = |location: &str| ResultBody::Elsewhere {
            location: location.to_owned(),
            expires_at: Some(at(2).plus(DAY)),
        };
        let wanted = [
            (bytes("null"), Some("null")),
            (bytes("null"), Some("null")),
            (bytes(&exact), Some(exact.as_str())),
            (bytes(&large), None),
            (bytes(&huge), None),
            (elsewhere("s3://bucket/ключ"), None),
            (elsewhere(silent), None),
        ];
        for (l, (body, inline)) in leased.iter().zip(wanted) {
            let id = l.spec.id;
            assert_eq!(result_of(&w, id).await, body);
            let info = w.record(id).await.result.unwrap();
            assert_eq!(info.inline.as_ref().map(RawJson::as_str), inline);
            match body {
                ResultBody::Bytes { content_type, body, .. } => {
                    assert_eq!(info.size, u64::try_from(body.len()).unwrap());
                    assert_eq!((info.content_type, info.location), (Some(content_type), None));
                }
                ResultBody::Elsewhere { location, .. } => {
                    let untold = location == silent;
                    assert_eq!(info.location, Some(location));
                    let told = Some("text/csv".to_owned()).filter(|_| !untold);
                    assert_eq!(info.content_type, told);
                }
                ResultBody::NotCompleted(_) => panic!("completed"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_there_instead_of_a_result() {
    for_each_store(|w| async move {
        let leased = running(&w, 3).await;
        let waiting = w.submit(w.job(at(2)), at(2)).await;
        let status = |body: ResultBody| match body {
            ResultBody::NotCompleted(it) => it,
            other @ (ResultBody::Bytes { .. } | ResultBody::Elsewhere { .. }) => {
                panic!("{other:?}")
            }
        };
        assert_eq!(*status(result_of(&w, waiting).await), (Status::Pending, None));
        assert_eq!(*status(result_of(&w, leased[0].spec.id).await), (Status::Running, None));
        w.settle(&leased[1], failed(false), at(3)).await;
        let (is, error) = *status(result_of(&w, leased[1].spec.id).await);
        let error = error.unwrap();
        assert_eq!((is, error.kind.as_str(), error.attempt), (Status::Failed, "smtp.refused", 1));
        assert_eq!(error.message, "“no” \u{0}\u{1f4a5}");
        assert_eq!(error.details, Some(json(r#"{"code": 550, "n": 1e99}"#)));
        w.store()
            .cancel(leased[2].spec.id, Requester::Operator, None, true, at(3))
            .await
            .unwrap()
            .unwrap();
        let (is, error) = *status(result_of(&w, leased[2].spec.id).await);
        assert_eq!((is, error), (Status::Cancelled, None));
        let unknown = w.store().result(w.id(START)).await.unwrap();
        assert_eq!(unknown, Found::Absent(Absence::Unknown));
    })
    .await;
}

#[tokio::test]
async fn a_result_of_a_worker_that_was_too_late_is_not_kept() {
    for_each_store(|w| async move {
        let leased = running(&w, 1).await.remove(0);
        let id = leased.spec.id;
        w.store().cancel(id, Requester::Client, None, true, at(2)).await.unwrap().unwrap();
        let large = format!("\"{}\"", "b".repeat(5_000));
        let (rulings, _) =
            w.store().settle(vec![report(&leased, completed(large))], None, at(3)).await.unwrap();
        assert_eq!(rulings[0], Err(Rejected::JobAlreadyFinished.into()));
        assert_eq!(w.record(id).await.result, None);
        assert!(matches!(result_of(&w, id).await, ResultBody::NotCompleted(_)));
    })
    .await;
}

#[tokio::test]
async fn heartbeats_answer_each_in_order() {
    use punctual::domain::job::Progress;
    use punctual::store::Beat;
    for_each_store(|w| async move {
        let leased = running(&w, 2).await;
        let beat = |l: &Leased, extend, progress| Beat {
            id: l.spec.id,
            token: l.token.hash(),
            extend,
            progress,
            checkpoint: None,
        };
        let progress = Progress {
            percent: Some(12.5),
            message: Some("é \u{0}".to_owned()),
            updated_at: Timestamp::EPOCH,
        };
        w.complete(&leased[1], at(2)).await;
        let stranger = Beat { id: w.id(START), ..beat(&leased[0], None, None) };
        let beats = vec![
            beat(&leased[0], Some(secs(300)), Some(progress)),
            beat(&leased[1], None, None),
            stranger,
            // A shorter wish does not shorten the lease.
            beat(&leased[0], Some(secs(1)), None),
        ];
        let rulings = w.store().heartbeat(beats, at(10)).await.unwrap();
        assert_eq!(rulings[0].as_ref().unwrap().change, Change::Extended);
        assert_eq!(rulings[1], Err(Rejected::AlreadyReported.into()));
        assert_eq!(rulings[2], Err(Refusal::Absent(Absence::Unknown)));
        let job = &rulings[3].as_ref().unwrap().job;
        assert_eq!(job.lease().unwrap().expires_at, at(310));
        let record = w.record(leased[0].spec.id).await;
        assert_eq!(&record.job, job);
        let progress = record.job.progress.unwrap();
        assert_eq!((progress.percent, progress.updated_at), (Some(12.5), at(10)));
        assert_eq!(progress.message.as_deref(), Some("é \u{0}"));
    })
    .await;
}
