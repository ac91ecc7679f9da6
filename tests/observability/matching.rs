//! Whether the two sides of an operator can meet.

use promql_parser::parser::{BinaryExpr, LabelModifier, VectorMatchCardinality};

use crate::finding::Findings;
use crate::shape::{Grain, Labels, Shape, listed};

/// The shape of `left op right`.
pub fn of(binary: &BinaryExpr, left: Shape, right: Shape, found: &mut Findings) -> Shape {
    let op = binary.op.to_string();
    let set = matches!(op.as_str(), "and" | "or" | "unless");
    let (left, right) = match (left, right) {
        (Shape::Series(left), Shape::Series(right)) => (left, right),
        (Shape::Unknown, _) => return Shape::Unknown,
        (left, Shape::Unknown) => return if set && op != "or" { left } else { Shape::Unknown },
        (series @ Shape::Series(_), Shape::Number) | (Shape::Number, series) => return series,
    };
    let matching = binary.modifier.as_ref().and_then(|m| m.matching.as_ref());
    named(&op, matching, &left, &right, found);
    if set {
        let key = |labels: &Labels| key(matching, labels);
        // Where `or` finds no partner it adds, so it need not find any.
        if op != "or" && key(&left) != key(&right) {
            differ(&op, &key(&left), &key(&right), found);
        }
        let mut labels = left;
        if op == "or" {
            labels.extend(right);
        }
        return Shape::Series(labels);
    }
    let (left_key, right_key) = (key(matching, &left), key(matching, &right));
    if left_key != right_key {
        differ(&op, &left_key, &right_key, found);
        return Shape::Unknown;
    }
    let card = binary.modifier.as_ref().map(|m| &m.card);
    match card {
        Some(VectorMatchCardinality::ManyToOne(extra)) => {
            one("right", &op, &right, &right_key, found);
            Shape::Series(with(left, &right, &extra.labels, &op, found))
        }
        Some(VectorMatchCardinality::OneToMany(extra)) => {
            one("left", &op, &left, &left_key, found);
            Shape::Series(with(right, &left, &extra.labels, &op, found))
        }
        Some(VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany) | None => {
            one("left", &op, &left, &left_key, found);
            one("right", &op, &right, &right_key, found);
            let kept = left.into_iter().filter(|(label, _)| left_key.contains(label));
            Shape::Series(kept.collect())
        }
    }
}

/// What two series must have in common to meet.
fn key(matching: Option<&LabelModifier>, labels: &Labels) -> Vec<String> {
    let all = labels.keys();
    match matching {
        Some(LabelModifier::Include(on)) => {
            all.filter(|l| on.labels.contains(*l)).cloned().collect()
        }
        Some(LabelModifier::Exclude(not)) => {
            all.filter(|l| !not.labels.contains(*l)).cloned().collect()
        }
        None => all.cloned().collect(),
    }
}

/// Every label in `on` is on both sides, every one in `ignoring` at least on one.
fn named(
    op: &str,
    matching: Option<&LabelModifier>,
    left: &Labels,
    right: &Labels,
    found: &mut Findings,
) {
    let (word, labels, needed) = match matching {
        Some(LabelModifier::Include(on)) => ("on", &on.labels, 2),
        Some(LabelModifier::Exclude(not)) => ("ignoring", &not.labels, 1),
        None => return,
    };
    for label in labels {
        let sides = [left, right].iter().filter(|side| side.contains_key(label)).count();
        if sides < needed {
            found.say(
                format!("`{op}` matches {word} ({label}), which is not there"),
                format!("left is {}, right is {}", listed(left.keys()), listed(right.keys())),
            );
        }
    }
}

fn differ(op: &str, left: &[String], right: &[String], found: &mut Findings) {
    found.say(
        format!("`{op}` never matches: by {} left, by {} right", listed(left), listed(right)),
        "aggregate both sides alike, or match on (…) what they share",
    );
}

/// A side that must not have two series with the same key.
fn one(side: &str, op: &str, labels: &Labels, key: &[String], found: &mut Findings) {
    let instance = key.iter().any(|l| l == "instance");
    let many = labels.iter().filter(|(label, grain)| {
        let single = **grain == Grain::Pinned || (**grain == Grain::ByInstance && instance);
        !single && !key.contains(label)
    });
    let many = listed(many.map(|(label, _)| label));
    if many != "no labels" {
        found.say(
            format!("`{op}` meets several series on the {side}, by {many}"),
            "aggregate them away, or say group_left or group_right",
        );
    }
}

/// The side with many, and what it gets from the other.
fn with(
    mut many: Labels,
    one: &Labels,
    extra: &[String],
    op: &str,
    found: &mut Findings,
) -> Labels {
    for label in extra {
        match one.get(label) {
            Some(grain) => {
                many.insert(label.clone(), *grain);
            }
            None => found.say(
                format!("`{op}` takes {label} from a side that does not have it"),
                format!("it has {}", listed(one.keys())),
            ),
        }
    }
    many
}

#[cfg(test)]
mod tests {
    use crate::query::{Use, sin};

    const DEPTH: &str = "max without (instance, pod) (punctual_queue_depth)";
    const LIMIT: &str = "max without (instance, pod) (punctual_queue_max_running)";
    const WORKERS: &str = "max without (instance, pod) (punctual_workers)";
    const STARTED: &str = "sum without (instance, pod) (rate(punctual_attempts_started_total[5m]))";

    fn alert(expr: &str) -> crate::finding::Findings {
        sin(Use::Alert, expr)
    }

    #[test]
    fn sides_that_meet() {
        alert(&format!("{DEPTH} > 0 unless {STARTED} > 0")).none();
        alert(&format!("{DEPTH} > 0 unless on (job, queue) {WORKERS} > 0")).none();
        alert(&format!("{DEPTH} > 0 unless ignoring (state) {WORKERS} > 0")).none();
        alert(&format!("{DEPTH} / ({STARTED} > 0) > 60")).none();
        let pinned = WORKERS.replace("workers", "workers{state=\"idle\"}");
        alert(&format!("{DEPTH} > ignoring (state) {pinned}")).none();
        alert(&format!("{WORKERS} > on (job, queue) group_left () {DEPTH}")).none();
        alert("up == 0 or absent(up)").none();
    }

    #[test]
    fn sides_that_never_meet() {
        let cure = "aggregate both sides alike";
        alert(&format!("{DEPTH} > 0 unless {WORKERS} > 0")).only(
            "here",
            "`unless` never matches: by job, queue left, by job, queue, state right",
            cure,
        );
        alert(&format!("{DEPTH} / {WORKERS} > 1")).only("here", "`/` never matches", cure);
    }

    #[test]
    fn a_match_on_what_is_not_there() {
        alert(&format!("{DEPTH} > 0 unless on (kind) {STARTED} > 0")).only(
            "here",
            "`unless` matches on (kind), which is not there",
            "left is job, queue, right is job, queue",
        );
        alert(&format!("{DEPTH} > ignoring (task) {LIMIT}")).only(
            "here",
            "matches ignoring (task), which is not there",
            "left is",
        );
    }

    #[test]
    fn one_that_meets_many() {
        alert(&format!("{DEPTH} > on (job, queue) {WORKERS}")).only(
            "here",
            "`>` meets several series on the right, by state",
            "aggregate them away",
        );
        alert(&format!("{DEPTH} > on (job, queue) group_left () {WORKERS}")).only(
            "here",
            "several series on the right, by state",
            "group_right",
        );
    }

    #[test]
    fn a_label_from_where_it_is_not() {
        let join = |label: &str| {
            format!(
                "changes(process_start_time_seconds[15m]) * on (job, instance) group_left ({label}) punctual_build_info > 2"
            )
        };
        alert(&join("version")).none();
        alert(&join("build")).only("here", "`*` takes build from a side", "it has instance, job");
    }
}
