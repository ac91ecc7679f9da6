//! Rules and their checks: which there are, running them, and the report.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use crate::kit::{At, Skipped, Stand};

pub type Check = fn(&At);

/// How many checks go on at once: they wait more than they work.
const AT_ONCE: usize = 8;

/// What the common server is set to, so that most rules can share it.
const QUEUES: &str = r#"
[queues.held]
sync_window = "20s"
[queues.tight]
max_depth = 2
[queues.tight2]
max_depth = 2
[queues.tight3]
max_depth = 2
[queues.tight4]
max_depth = 1
[queues.tight5]
max_depth = 1
[queues.tight6]
max_depth = 7
[queues.narrow]
max_running = 1
[queues.paced]
start_rate_per_second = 0.001
[queues.hasty]
cancel_grace = "0s"
[tasks]
reaper = "50ms"
scheduler = "50ms"
retention = "50ms"
"#;

#[derive(Default)]
pub struct Book {
    checks: Vec<(&'static str, Check)>,
}

impl Book {
    pub fn rule(&mut self, rule: &'static str, check: Check) {
        self.checks.push((rule, check));
    }

    /// Runs them all, and fails with everything that was wrong.
    pub fn run(self, contract: &str) {
        let mut wrong = self.missing(contract);
        std::panic::set_hook(Box::new(|_| {}));
        let stand = Stand::configured(&[], QUEUES);
        let todo = Mutex::new(self.checks.iter().copied().enumerate().collect::<VecDeque<_>>());
        let told = Mutex::new(BTreeMap::<usize, Vec<String>>::new());
        let skipped = Mutex::new(BTreeMap::<u32, String>::new());
        let next = || todo.lock().expect("the checks").pop_front();
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some((n, (rule, check))) = next() {
                        let at = At::new(&stand, rule, n);
                        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&at))) {
                            if let Some(Skipped(why)) = panic.downcast_ref() {
                                skipped.lock().expect("the list").insert(number(rule), why.clone());
                                continue;
                            }
                            let said = panic
                                .downcast_ref::<String>()
                                .cloned()
                                .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                            let said = format!("{rule}: {}", said.unwrap_or_default());
                            told.lock().expect("the list").entry(n).or_default().push(said);
                        }
                    }
                });
            }
        });
        let _ = std::panic::take_hook();
        let told = told.into_inner().expect("the list");
        wrong.extend(told.into_values().flatten());
        let skipped = skipped.into_inner().expect("the list");
        println!("{}", self.report(&skipped));
        assert!(wrong.is_empty(), "{} broken:\n\n{}", wrong.len(), wrong.join("\n\n"));
    }

    /// What was checked, and what was not.
    fn report(&self, skipped: &BTreeMap<u32, String>) -> String {
        let mut rules: BTreeSet<u32> = self.checks.iter().map(|(rule, _)| number(rule)).collect();
        // Also where another check of the rule was made: it is not proven.
        rules.retain(|rule| !skipped.contains_key(rule));
        let names: Vec<String> = rules.iter().map(|n| format!("R{n}")).collect();
        let mut lines = vec![format!("{} rules checked: {}", rules.len(), names.join(" "))];
        lines.extend(skipped.iter().map(|(rule, why)| format!("R{rule} was skipped: {why}")));
        lines.join("\n")
    }

    /// Rules without a check, checks without a rule, and numbers out of turn.
    fn missing(&self, contract: &str) -> Vec<String> {
        let lines = contract.lines().filter_map(|line| line.strip_prefix("- **R"));
        let numbers = lines.map(|l| l.split("**").next().and_then(|n| n.parse().ok()));
        let rules: Vec<u32> = numbers.map(|n| n.expect("a number")).collect();
        let mut wrong = Vec::new();
        // A number that is no longer used stays free.
        if !rules.is_sorted_by(|a, b| a < b) {
            wrong.push(format!("the rules are not numbered in turn: {rules:?}"));
        }
        let rules = BTreeSet::from_iter(rules);
        let checked: BTreeSet<u32> = self.checks.iter().map(|(rule, _)| number(rule)).collect();
        wrong.extend(rules.difference(&checked).map(|n| format!("R{n} has no check")));
        wrong.extend(checked.difference(&rules).map(|n| format!("R{n} is checked and no rule")));
        wrong
    }
}

fn number(rule: &str) -> u32 {
    rule.strip_prefix('R').and_then(|n| n.parse().ok()).expect("R and a number")
}

#[test]
fn a_rule_that_was_skipped_does_not_count_as_checked() {
    let mut book = Book::default();
    for rule in ["R1", "R3", "R3"] {
        book.rule(rule, |_| {});
    }
    let skipped = BTreeMap::from([(3, "there is no file".to_owned())]);
    assert_eq!(book.report(&skipped), "1 rules checked: R1\nR3 was skipped: there is no file");
    let wrong = book.missing("- **R1** One.\n- **R2** Two.\n");
    assert_eq!(wrong, ["R2 has no check", "R3 is checked and no rule"]);
    assert_eq!(book.missing("- **R3** One.\n- **R1** Two.\n").len(), 1);
}

/// A place for what several threads found.
pub type Found<T> = Arc<Mutex<Vec<T>>>;
