//! What a declaration of a metric says.

/// One metric family.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub group: Group,
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    /// One sentence or two, as `# HELP` shows them.
    pub help: &'static str,
    /// A capped label comes first, so that its series can be resolved together.
    pub labels: &'static [Label],
    pub scope: Scope,
    /// How to read it: an expression or a warning, in one line.
    pub read: &'static str,
    /// Why no panel and no alert has it, if that is so: it is for whoever looks closer.
    pub debug: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    /// With its finite bucket bounds, ascending; `+Inf` comes on top.
    Histogram(&'static [f64]),
}

impl Kind {
    /// The word in `# TYPE`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Bytes,
    Jobs,
    /// A plain number of what the name says, or a constant 1.
    None,
}

impl Unit {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Jobs => "jobs",
            Self::None => "none",
        }
    }
}

/// How the series of several replicas combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Events of this process: add replicas with `sum`.
    Process,
    /// Facts about the shared store, the same on every replica: combine with `max`, never `sum`.
    Store,
    /// Moments and periods of this process's own work: compare with `time()`.
    Liveness,
}

impl Scope {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Store => "store",
            Self::Liveness => "liveness",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    pub name: &'static str,
    pub values: Values,
}

/// What a label can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Names of queues, capped; the rest are `_other`. With `none`, also `_none`.
    Queue { none: bool },
    /// Kinds of jobs, capped; the rest are `_other`.
    Kind,
    /// Classes of attempts' errors (`labels::attempt_error_class`), capped; the rest are `_other`.
    ErrorClass,
    /// Exactly these.
    Closed(&'static [&'static str]),
    /// An HTTP status code.
    StatusCode,
    /// One value for the life of the process.
    Fixed(&'static str),
}

impl Values {
    /// Whether they come from outside, up to a cap.
    pub const fn capped(self) -> bool {
        match self {
            Self::Queue { .. } | Self::Kind | Self::ErrorClass => true,
            Self::Closed(_) | Self::StatusCode | Self::Fixed(_) => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Http,
    Submissions,
    Workers,
    Jobs,
    Queues,
    Watchdog,
    Sampler,
    Tasks,
    Store,
    Server,
}

impl Group {
    pub const ALL: [Self; 10] = [
        Self::Http,
        Self::Submissions,
        Self::Workers,
        Self::Jobs,
        Self::Queues,
        Self::Watchdog,
        Self::Sampler,
        Self::Tasks,
        Self::Store,
        Self::Server,
    ];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Submissions => "Submissions",
            Self::Workers => "Claims, leases and attempts",
            Self::Jobs => "Jobs: waiting, running, ending",
            Self::Queues => "Queues now",
            Self::Watchdog => "The watchdog",
            Self::Sampler => "The sampler",
            Self::Tasks => "Maintenance tasks",
            Self::Store => "The store",
            Self::Server => "This server",
        }
    }
}

impl Metric {
    /// Whether its series have exemplars.
    pub fn has_exemplars(&self) -> bool {
        super::WITH_EXEMPLARS.iter().any(|metric| metric.name == self.name)
    }

    pub fn label_names(&self) -> Vec<&'static str> {
        self.labels.iter().map(|l| l.name).collect()
    }

    /// Whether its series are kept for each queue.
    pub fn by_queue(&self) -> bool {
        self.labels.iter().any(|l| matches!(l.values, Values::Queue { .. }))
    }

    /// Every combination of label values that is known beforehand, `name` standing for the capped
    /// label's value; none when a label is open.
    pub fn combinations<'a>(&self, name: &'a str) -> Vec<Vec<&'a str>> {
        let mut all = vec![Vec::new()];
        for label in self.labels {
            let values: Vec<&str> = match label.values {
                Values::Queue { .. } | Values::Kind | Values::ErrorClass => vec![name],
                Values::Closed(values) => values.to_vec(),
                Values::StatusCode | Values::Fixed(_) => return Vec::new(),
            };
            all = all
                .iter()
                .flat_map(|known| {
                    values.iter().map(move |value| {
                        let mut longer = known.clone();
                        longer.push(*value);
                        longer
                    })
                })
                .collect();
        }
        all
    }
}
