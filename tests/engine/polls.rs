//! What the estimator aims at: about two questions a job, and an answer that is not late by more
//! than half of what the job took, whatever law its duration follows.

#[path = "../support/polling.rs"]
mod polling;

use polling::{Client, DurationLaw, run};

#[test]
fn half_of_the_jobs_are_found_done_at_the_first_question() {
    for (name, law) in DurationLaw::ALL {
        let mut cost = run(law, Client::RetryAfter(0.5), 3_000, 42);
        let (polls, late) = (cost.mean_polls(), cost.median_lateness());
        assert!(polls <= 2.2, "{name}: {polls} polls a job");
        assert!(late <= 0.6, "{name}: late by {late} of the duration");
        assert!(cost.p99_polls() <= 10, "{name}: {} polls", cost.p99_polls());
    }
}

#[test]
fn a_lower_quantile_finds_results_sooner_for_more_questions() {
    let law = DurationLaw::LogNormal(60.0, 1.0);
    let mut of = [0.25, 0.5, 0.75].map(|q| run(law, Client::RetryAfter(q), 2_000, 7));
    let polls = of.each_ref().map(polling::Cost::mean_polls);
    let late = of.each_mut().map(polling::Cost::median_lateness);
    assert!(polls.is_sorted_by(|a, b| a > b), "{polls:?}");
    assert!(late.is_sorted(), "{late:?}");
    // And it beats whoever does not ask the server at both.
    let mut blind = run(law, Client::Exponential(1, 60), 2_000, 7);
    assert!(polls[0] < blind.mean_polls() && late[0] < blind.median_lateness());
    assert!(of[0].mean_late_seconds() < of[1].mean_late_seconds());
    let fixed = run(law, Client::Fixed(5), 2_000, 7);
    assert!(fixed.mean_polls() > 5.0 * polls[1], "{}", fixed.mean_polls());
}
