//! `pickup`: how soon a waiting worker has a job that was just submitted.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;

use super::Bench;
use crate::cli::Failure;
use crate::cli::bench::connection::{Call, Connection};
use crate::cli::bench::crew::Worked;
use crate::cli::bench::delivery;
use crate::cli::bench::fill;
use crate::cli::bench::measure::{Latencies, Meter, now};
use crate::cli::bench::report::Row;
use crate::wire;

const ROUNDS: u32 = 400;
/// Rounds that only warm up.
const WARM: u32 = 20;
/// For the claim to be parked and the server idle. Odd milliseconds are added, so that rounds do
/// not fall in step with the server's own timers.
const PAUSE: Duration = Duration::from_millis(15);
const PARK_SECONDS: f64 = 20.0;

pub(super) async fn pickup(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let queue = bench.queue("pickup");
    let latencies = Latencies::new();
    let during = bench.args.duration.max(Duration::from_secs(2));
    let rounds = Rounds::new(bench, &queue).await?;
    let meter = Meter::start(bench.pid);
    let seen = || latencies.count();
    let (accepted, worked) =
        bench.watch("pickup", during, seen, rounds.run(&latencies, during)).await?;
    let usage = meter.stop();
    let count = accepted.len() as u64;
    let row = Row {
        // Paced by the pauses: a rate would say nothing.
        rate_per_second: None,
        ..Row::new("pickup", 2).of_jobs(count, worked.requests, usage)
    };
    let row = row
        .latency(latencies.quantiles())
        .note(format!("{} rounds; submit sent to job received", latencies.count()));
    bench.add(row);
    bench.check("pickup", &queue, accepted, worked).await
}

struct Rounds {
    worker_id: String,
    worker: Connection,
    producer: Connection,
    claim: Call,
    submit: Call,
    settle: Call,
}

impl Rounds {
    async fn new(bench: &Bench<'_>, queue: &str) -> Result<Self, Failure> {
        let worker_id = format!("{queue}-worker");
        let claim = wire::Claim {
            worker_id: worker_id.clone(),
            queues: vec![queue.to_owned()],
            wait_seconds: Some(PARK_SECONDS),
            ..wire::Claim::default()
        };
        let target = &bench.target;
        Ok(Self {
            worker_id,
            worker: Connection::open(target).await?,
            producer: Connection::open(target).await?,
            claim: Call::post(target, "/v1/claims", bytes_of(&claim)?)?,
            submit: fill::submit(target, queue, bench.payload_bytes())?,
            settle: Call::post(target, "/v1/settlements", Bytes::new())?,
        })
    }

    async fn run(
        mut self,
        latencies: &Latencies,
        during: Duration,
    ) -> Result<(Vec<u128>, Worked), Failure> {
        let until = now() + during;
        let mut accepted = Vec::new();
        let mut worked = Worked::default();
        for round in 0..ROUNDS + WARM {
            if now() >= until {
                break;
            }
            let claim = async {
                let answer = self.worker.exchange(self.claim.request()).await?;
                Ok::<_, Failure>((now(), answer))
            };
            let submit = async {
                tokio::time::sleep(PAUSE + Duration::from_millis(u64::from(round % 7))).await;
                let sent = now();
                Ok::<_, Failure>((sent, self.producer.exchange(self.submit.request()).await?))
            };
            let ((received, claimed), (sent, submitted)) = tokio::try_join!(claim, submit)?;
            if round >= WARM {
                latencies.record(received.saturating_duration_since(sent));
            }
            let job: wire::Job = submitted.read(StatusCode::ACCEPTED)?;
            accepted.extend(delivery::id(&job.job_id));
            let claimed: wire::Claimed = claimed.read(StatusCode::OK)?;
            worked.requests += 3;
            self.settle(&claimed.jobs, &mut worked).await?;
        }
        Ok((accepted, worked))
    }

    async fn settle(
        &mut self,
        jobs: &[wire::LeasedJob],
        worked: &mut Worked,
    ) -> Result<(), Failure> {
        let settlement = |job: &wire::LeasedJob| wire::Settlement {
            job_id: job.job_id.clone(),
            lease_token: job.lease_token.clone(),
            outcome: "completed".to_owned(),
            ..wire::Settlement::default()
        };
        let body = bytes_of(&wire::Settlements {
            worker_id: self.worker_id.clone(),
            settlements: jobs.iter().map(settlement).collect(),
            ..wire::Settlements::default()
        })?;
        let answer = self.worker.exchange(self.settle.with_body(body)).await?;
        let answer: wire::SettlementsAnswer = answer.read(StatusCode::OK)?;
        for result in &answer.results {
            match delivery::id(&result.job_id).filter(|_| result.ok) {
                Some(id) => worked.ids.push(id),
                None => worked.rejected += 1,
            }
        }
        Ok(())
    }
}

fn bytes_of(value: &impl serde::Serialize) -> Result<Bytes, Failure> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|e| Failure::no(format!("a request cannot be written: {e}; report this")))
}
