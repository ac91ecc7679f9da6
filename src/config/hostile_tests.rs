//! Files that are no configuration, or nearly one: each is loaded or refused with what is wrong, and
//! nothing panics.

use proptest::prelude::*;

use super::*;

/// Loaded, or refused with at least one line to act on.
fn outcome(text: &str) -> Result<(), TestCaseError> {
    match Config::from_toml(text) {
        Ok(config) => prop_assert!(!config.describe().is_empty()),
        Err(errors) => prop_assert!(!errors.to_string().trim().is_empty()),
    }
    Ok(())
}

/// The sample with its examples in force, where every table and kind of value occurs.
fn sample() -> String {
    let sample = Config::sample_toml();
    let lines: Vec<&str> = sample.lines().map(|line| line.trim_start_matches("# ")).collect();
    lines.join("\n")
}

proptest! {
    #[test]
    fn any_text_is_loaded_or_refused(text in "\\PC{0,200}") {
        outcome(&text)?;
    }

    #[test]
    fn any_likely_text_is_loaded_or_refused(
        lines in proptest::collection::vec(
            "\\[{1,2}(server|jobs|queues(\\.[a-z\"]{1,3})?|auth|x)\\]{1,2}|[a-z_.]{1,12} ?= ?[-\"a-z0-9.{}\\[\\]]{0,12}",
            0..12,
        )
    ) {
        outcome(&lines.join("\n"))?;
    }

    /// The sample, cut, doubled or with a stroke of the keyboard too many.
    #[test]
    fn a_damaged_sample_is_loaded_or_refused(
        at in any::<prop::sample::Index>(), until in any::<prop::sample::Index>(), typed in "\\PC{0,3}"
    ) {
        let text: Vec<char> = sample().chars().collect();
        let (at, until) = (at.index(text.len()), until.index(text.len()));
        let damaged = text[..at].iter().copied().chain(typed.chars());
        outcome(&damaged.clone().chain(text[at..].iter().copied()).collect::<String>())?;
        outcome(&damaged.chain(text[until..].iter().copied()).collect::<String>())?;
    }

    #[test]
    fn a_duration_is_kept_or_its_key_is_named(millis in 0u64..10_000_000) {
        let loaded = Config::from_toml(&format!("[jobs]\nlease = \"{millis}ms\"\n"));
        match loaded {
            Ok(config) => {
                prop_assert!((1_000..=3_600_000).contains(&millis));
                prop_assert_eq!(config.jobs.defaults.lease, Duration::from_millis(millis));
            }
            Err(errors) => {
                prop_assert!(!(1_000..=3_600_000).contains(&millis));
                prop_assert!(errors.to_string().contains("jobs.lease"), "{}", errors);
            }
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line(key in "[a-z]{3,12}", above in 0usize..9) {
        prop_assume!(!Config::sample_toml().contains(&key));
        let text = format!("{}[jobs]\n{key} = 1\n", "\n".repeat(above));
        let errors = Config::from_toml(&text).expect_err("unknown").to_string();
        prop_assert!(errors.contains(&key) && errors.contains(&format!("{}", above + 2)), "{}", errors);
    }
}
