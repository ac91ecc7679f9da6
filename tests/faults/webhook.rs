//! The receiver: everything that Alertmanager tells anybody, and when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::extract::{Path, State};
use axum::{Json, Router, routing::post};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::daemon::{BOUND, now};

/// One alert in one notification.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) at: Instant,
    /// The last part of the receiver's address.
    pub(crate) receiver: String,
    pub(crate) alert: Alert,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Alert {
    /// `firing` or `resolved`.
    pub(crate) status: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) fingerprint: String,
}

#[derive(Debug, Deserialize)]
struct Notification {
    alerts: Vec<Alert>,
}

impl Delivery {
    pub(crate) fn label(&self, name: &str) -> &str {
        self.alert.labels.get(name).map_or("", String::as_str)
    }

    pub(crate) fn name(&self) -> &str {
        self.label("alertname")
    }

    pub(crate) fn fires(&self) -> bool {
        self.alert.status == "firing"
    }

    /// For people, with the moment in seconds since `start`.
    pub(crate) fn line(&self, start: Instant) -> String {
        let labels = self.alert.labels.iter().filter(|(name, _)| *name != "alertname");
        let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value}")).collect();
        format!(
            "{:7.1} s  {} {} to {}: {}",
            self.at.saturating_duration_since(start).as_secs_f64(),
            self.name(),
            self.alert.status,
            self.receiver,
            labels.join(" ")
        )
    }
}

/// Deliveries in the order of their arrival.
#[derive(Clone)]
pub(crate) struct Inbox {
    all: Arc<Mutex<Vec<Delivery>>>,
    count: watch::Sender<usize>,
    address: String,
}

impl Inbox {
    pub(crate) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("its address"));
        let inbox = Self { all: Arc::default(), count: watch::Sender::new(0), address };
        let router = Router::new().route("/{receiver}", post(take)).with_state(inbox.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        inbox
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Those with this label `job`; the empty text is for alerts that have none.
    pub(crate) fn of(&self, job: &str) -> Vec<Delivery> {
        let all = self.all.lock().expect("the deliveries");
        all.iter().filter(|d| d.label("job") == job).cloned().collect()
    }

    pub(crate) fn all(&self) -> Vec<Delivery> {
        self.all.lock().expect("the deliveries").clone()
    }

    /// Heartbeats so far.
    pub(crate) fn heartbeats(&self) -> usize {
        self.of("").iter().filter(|d| d.receiver == "heartbeat").count()
    }

    /// Looks at the deliveries of `job` until `check` finds what it wants.
    pub(crate) async fn until<T>(
        &self,
        job: &str,
        check: impl Fn(&[Delivery]) -> Option<T>,
    ) -> Option<T> {
        let mut count = self.count.subscribe();
        let wait = async {
            loop {
                count.borrow_and_update();
                if let Some(found) = check(&self.of(job)) {
                    return found;
                }
                count.changed().await.expect("the sender is ours");
            }
        };
        timeout(BOUND, wait).await.ok()
    }
}

async fn take(
    State(inbox): State<Inbox>,
    Path(receiver): Path<String>,
    Json(notification): Json<Notification>,
) {
    let at = now();
    let deliveries = notification.alerts.into_iter();
    let deliveries = deliveries.map(|alert| Delivery { at, receiver: receiver.clone(), alert });
    inbox.all.lock().expect("the deliveries").extend(deliveries);
    inbox.count.send_modify(|n| *n += 1);
}
