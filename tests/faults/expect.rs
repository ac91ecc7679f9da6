//! What a fault must raise.

use crate::prometheus::Active;
use crate::webhook::Delivery;

#[derive(Debug, Clone)]
pub(crate) struct Expect {
    pub(crate) alert: &'static str,
    pub(crate) severity: &'static str,
    labels: Vec<(&'static str, String)>,
    /// Fires, and is not told, because another alert says more.
    pub(crate) inhibited: bool,
    /// Tells of something that has happened: over after a while, with a cure or without.
    pub(crate) of_event: bool,
}

pub(crate) fn critical(alert: &'static str) -> Expect {
    Expect { alert, severity: "critical", labels: Vec::new(), inhibited: false, of_event: false }
}

pub(crate) fn warning(alert: &'static str) -> Expect {
    Expect { severity: "warning", ..critical(alert) }
}

pub(crate) fn info(alert: &'static str) -> Expect {
    Expect { severity: "info", ..critical(alert) }
}

impl Expect {
    pub(crate) fn with(mut self, label: &'static str, value: &str) -> Self {
        self.labels.push((label, value.to_owned()));
        self
    }

    pub(crate) fn inhibited(mut self) -> Self {
        self.inhibited = true;
        self
    }

    pub(crate) fn of_event(mut self) -> Self {
        self.of_event = true;
        self
    }

    fn is<'a>(&self, label: impl Fn(&str) -> Option<&'a String>) -> bool {
        let is = |name: &str, value: &str| label(name).is_some_and(|v| v == value);
        is("alertname", self.alert)
            && is("severity", self.severity)
            && self.labels.iter().all(|(name, value)| is(name, value))
    }

    pub(crate) fn is_told_by(&self, delivery: &Delivery) -> bool {
        self.is(|name| delivery.alert.labels.get(name))
    }

    pub(crate) fn is_active_as(&self, active: &Active) -> bool {
        self.is(|name| active.labels.get(name))
    }

    /// Who is told, by the example's routes.
    pub(crate) fn receiver(&self) -> &'static str {
        if self.severity == "critical" { "pager" } else { "chat" }
    }

    /// For the table: `StoreErrors`, `JobsStuckPending{verdict=no_workers}`. The queue is always
    /// the same, and the job its own.
    pub(crate) fn shown(&self) -> String {
        let labels = self.labels.iter().filter(|(name, _)| !["queue", "job"].contains(name));
        let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value}")).collect();
        let name = self.alert.trim_start_matches("Punctual");
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let inhibited = if self.inhibited { " (inhibited)" } else { "" };
        format!("{name}{labels}{inhibited}")
    }
}
