//! What of a changed configuration a running server can take over.

use super::Config;
use super::keys::SECTIONS;

const AUTH: &str = "auth";

impl Config {
    /// The keys, in full, that differ from those in `running` and hold only after a restart: all but
    /// what queues may have of their own, and who is let in.
    pub fn needs_restart(&self, running: &Self) -> Vec<String> {
        let lasting = SECTIONS.iter().filter(|section| section.name != AUTH);
        let keys = lasting.flat_map(|section| {
            section
                .keys
                .iter()
                .filter(|key| !key.per_queue)
                .map(move |key| (section.name, key.name))
        });
        keys.filter(|(section, key)| {
            self.values.base(section, key).value != running.values.base(section, key).value
        })
        .map(|(section, key)| format!("{section}.{key}"))
        .collect()
    }

    /// [`Self::hash`] of what is in force in a server that began with `running` and has read this:
    /// another one than that of a server that was restarted, if they differ.
    pub fn hash_in_force(&self, running: &Self) -> String {
        let kept = self.needs_restart(running);
        if kept.is_empty() { self.hash() } else { self.hash_with(&running.described()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_queues_may_have_needs_no_restart() {
        let config = |text| Config::from_toml(text).unwrap();
        let before = config("[jobs]\nlease = \"10s\"");
        let after = config(
            "[server]\nlisten = \"127.0.0.1:1\"\n[jobs]\nlease = \"20s\"\nresult_hosts = [\"a\"]\n\
             [watchdog]\nstuck_after = \"off\"\ninterval = \"1s\"\n[queues.q]\nmax_depth = 5\n\
             [auth]\nmode = \"off\"",
        );
        let expected = ["server.listen", "jobs.result_hosts", "watchdog.interval"];
        assert_eq!(after.needs_restart(&before), expected);
        assert!(before.needs_restart(&before).is_empty());
        assert_ne!(after.hash_in_force(&before), after.hash());
        let lease = config("[jobs]\nlease = \"20s\"");
        assert_eq!(lease.hash_in_force(&before), lease.hash());
        assert_ne!(lease.hash(), before.hash());
    }
}
