//! Every query is asked: of a real Prometheus that scrapes a real server through a working day.
//!
//! Parsing and checking names cannot tell that a query never returns anything. So each query of
//! each dashboard (panels, annotations, variables) is sent as Grafana sends it, and each recording
//! rule is read, until all have shown a number. What is right to show nothing says so itself, to
//! whoever looks at it: `May be empty:` in the panel's description (`dashboards/README.md`).
//!
//! A variable that can be *all* is all; of the others each value is tried, since a query about
//! limits has nothing to show for a queue without one.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::collector::Collector;
use crate::dashboards::{self, Dashboard, list, text};
use crate::prometheus::{Over, Prometheus};
use crate::server::{PATIENCE, until};
use crate::{files, query, rules, scenario};

/// Grafana's own variables, as they are for a panel over a minute with a point each second.
const OWN: [(&str, &str); 5] = [
    ("__rate_interval", "1m"),
    ("__interval", "1s"),
    ("__range", "1m"),
    ("__range_s", "60"),
    ("datasource", "prometheus"),
];

/// What has no answer, so that it shows whether this can tell.
const NEVER: [&str; 2] =
    [r#"punctual_queue_depth{queue="nobody"}"#, r#"punctual_queue_depth{queue="mail"} * NaN"#];

const EXCUSE: &str = "May be empty:";

/// What is chosen for each variable.
type Choice = BTreeMap<String, String>;

/// As it is sent.
fn sent(expr: &str, choice: &Choice) -> Result<String, String> {
    let own = |name: &str| OWN.iter().find(|(own, _)| *own == name).map(|(_, v)| (*v).to_owned());
    query::substituted(expr, |name| choice.get(name).cloned().or_else(|| own(name)))
}

/// What is to be answered.
struct Question {
    place: String,
    expr: String,
    over: Over,
    choices: Vec<Choice>,
    excused: bool,
}

impl Question {
    /// Whether there is a number in the answer, for one choice of the variables.
    async fn answered(&self, prometheus: &Prometheus) -> Result<bool, String> {
        for choice in &self.choices {
            if prometheus.has(&sent(&self.expr, choice)?, self.over).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Everything that can be chosen in a dashboard. Each variable must have values.
async fn choices(dashboard: &Dashboard, prometheus: &Prometheus) -> Result<Vec<Choice>, String> {
    let mut choices = vec![Choice::new()];
    for variable in list(&dashboard.json, "/templating/list") {
        let name = text(variable, "name");
        if text(variable, "type") != "query" {
            continue;
        }
        let mut more = Vec::new();
        for choice in choices {
            for value in values(variable, &choice, prometheus).await? {
                let mut longer = choice.clone();
                longer.insert(name.to_owned(), value);
                more.push(longer);
            }
        }
        choices = more;
    }
    Ok(choices)
}

async fn values(
    variable: &Value,
    choice: &Choice,
    prometheus: &Prometheus,
) -> Result<Vec<String>, String> {
    let name = text(variable, "name");
    let (selector, label) = dashboards::label_values(dashboards::query_text(variable))
        .ok_or_else(|| format!("variable {name} is no label_values"))?;
    let values = prometheus.values(&sent(selector, choice)?, label).await?;
    if values.is_empty() {
        return Err(format!("variable {name} has no values"));
    }
    if variable["includeAll"] == true {
        let all = variable["allValue"].as_str();
        return Ok(vec![all.map_or_else(|| values.join("|"), str::to_owned)]);
    }
    Ok(values)
}

fn questions(dashboard: &Dashboard, choices: &[Choice], since: u64) -> Vec<Question> {
    let mut all = Vec::new();
    let question = |place: String, expr: &str, over: Over, excused: bool| Question {
        place,
        expr: expr.to_owned(),
        over,
        choices: choices.to_vec(),
        excused,
    };
    for panel in dashboard.panels() {
        let excused = text(panel.json, "description").contains(EXCUSE);
        for target in list(panel.json, "/targets") {
            let over = if target["instant"] == true { Over::Now } else { Over::Since(since) };
            let place = format!("{}, query {}", panel.place, text(target, "refId"));
            all.push(question(place, text(target, "expr"), over, excused));
        }
    }
    for annotation in dashboard.annotations() {
        let place = format!("{}, annotation \"{}\"", dashboard.file, text(annotation, "name"));
        all.push(question(place, text(annotation, "expr"), Over::Since(since), false));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_returns_data() {
    let collector = Collector::start().await;
    let server = scenario::server_with(&[("TELEMETRY__OTLP_ENDPOINT", &collector.url())]);
    let rule_files = files::list("alerts", ".yml");
    let rule_files: Vec<String> =
        rule_files.into_iter().filter(|f| !f.ends_with(".example.yml")).collect();
    let prometheus = Prometheus::start(server.port(), &rule_files).await;
    let since = prometheus.now().await;
    // What is counted from here on is an increase, not where a series begins.
    until("a first sample", || async {
        let first = r#"punctual_queue_depth{queue="mail"}"#;
        (prometheus.has(first, Over::Now).await == Ok(true)).then_some(())
    })
    .await;
    scenario::play(&server).await;

    let ours = rules::ours();
    let mut open: Vec<Question> = Vec::new();
    for dashboard in dashboards::ours() {
        let choices = until("values of each variable", || async {
            choices(&dashboard, &prometheus).await.ok()
        });
        open.extend(questions(&dashboard, &choices.await, since));
    }
    for rule in ours.iter().filter(|rule| rule.record.is_some()) {
        open.push(Question {
            place: format!("{}, {}", rule.file, rule.name()),
            expr: rule.name().to_owned(),
            over: Over::Since(since),
            choices: vec![Choice::new()],
            excused: false,
        });
    }
    let asked = open.len();
    open.extend(NEVER.map(|expr| Question {
        place: "never".to_owned(),
        expr: expr.to_owned(),
        over: Over::Since(since),
        choices: vec![Choice::new()],
        excused: true,
    }));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut left = Vec::new();
        for question in open {
            match question.answered(&prometheus).await {
                Ok(true) => {}
                Ok(false) => left.push(question),
                Err(error) => panic!("{}: {error}\n{}", question.place, question.expr),
            }
        }
        open = left;
        if open.iter().all(|q| q.excused) || tokio::time::Instant::now() > deadline {
            break;
        }
        // The next scrape may bring it.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    let (excused, empty): (Vec<&Question>, Vec<&Question>) = open.iter().partition(|q| q.excused);
    let lines = |questions: &[&Question]| {
        let lines = questions.iter().map(|q| format!("{}: {}", q.place, q.expr));
        lines.collect::<Vec<_>>().join("\n")
    };
    println!("{asked} queries; empty, and said to be so:\n{}", lines(&excused));
    assert!(
        empty.is_empty(),
        "nothing is returned by\n{}\nlet it happen in the scenario, or say in the panel's \
         description when it is right: `{EXCUSE} …`",
        lines(&empty)
    );
    assert!(asked > 100, "the dashboards and rules were read: {asked}");
    assert_eq!(excused.iter().filter(|q| q.place == "never").count(), NEVER.len());
    assert!(!collector.spans().is_empty(), "spans were exported");

    let loaded = until("an evaluation of every rule", || async {
        let loaded = prometheus.rules().await;
        loaded.iter().all(|(_, wrong)| wrong.is_none()).then_some(loaded)
    });
    let mut loaded: Vec<String> = loaded.await.into_iter().map(|(name, _)| name).collect();
    let mut names: Vec<String> = ours.iter().map(|rule| rule.name().to_owned()).collect();
    loaded.sort();
    names.sort();
    assert_eq!(loaded, names, "Prometheus has the rules that are in the files");
}

#[test]
fn variables_are_replaced_as_by_grafana() {
    let choice = Choice::from([("queue".to_owned(), "mail".to_owned())]);
    let of = |expr: &str| sent(expr, &choice);
    assert_eq!(
        of("rate(x{q=\"$queue\",r=~\"${queue:regex}|\"}[$__rate_interval])").as_deref(),
        Ok("rate(x{q=\"mail\",r=~\"mail|\"}[1m])")
    );
    assert_eq!(of("x[${__range}] / $__range_s").as_deref(), Ok("x[1m] / 60"));
    assert!(of("x{k=\"$kind\"}").expect_err("no such variable").contains("$kind"));
}
