//! What the demo says: what to open, what to try, and how it went.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::HOME;
use super::look::Archive;
use super::scene::ARCHIVE;
use super::scratch::Scratch;
use crate::cli::output;

#[derive(Debug)]
pub(super) struct Words {
    url: String,
    /// How this very program is called here.
    program: String,
    /// For commands that would look elsewhere: ` --server URL`.
    server: String,
    /// The usual address, when that was taken.
    taken: Option<SocketAddr>,
    dir: PathBuf,
    log: PathBuf,
    stuck_after: Duration,
}

impl Words {
    pub(super) fn new(
        addr: SocketAddr,
        taken: Option<SocketAddr>,
        scratch: &Scratch,
        stuck_after: Duration,
    ) -> Self {
        let url = format!("http://{addr}");
        let server = if addr == HOME { String::new() } else { format!(" --server {url}") };
        let called = std::env::args().next().unwrap_or_default();
        Self {
            program: program(&called),
            server,
            taken,
            dir: scratch.path().to_owned(),
            log: scratch.log(),
            stuck_after,
            url,
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// A command of this program, at this server.
    fn command(&self, verb: &str, rest: &str) -> String {
        format!("{} {verb}{} {rest}", self.program, self.server).trim_end().to_owned()
    }

    fn cure(&self) -> String {
        self.command("work", &format!("--queue {ARCHIVE} --exec sleep 0.2"))
    }

    /// Printed once at the start.
    pub(super) fn intro(&self) -> String {
        let url = &self.url;
        let mut out = format!("A Punctual server with workers and traffic is on {url}\n");
        // Writing to a String cannot fail.
        if let Some(taken) = self.taken {
            let _ = writeln!(out, "({taken} is taken, so it has a free port; --listen names one)");
        }
        let stuck_after = humantime::format_duration(self.stuck_after);
        let _ = write!(
            out,
            "Its store and its log are in {dir} (see {log}) and are removed at the end; \
             Ctrl-C ends it.\n\n\
             mail        quick jobs, several a second; all succeed\n\
             thumbnails  half of thumb.render fails at first and succeeds when retried; \
             thumb.corrupt\n            always fails; now and then a worker dies and its lease is \
             taken back\n\
             reports     slow jobs on two slots: some wait, those that run tell their progress\n\
             archive     jobs that nobody takes: after {stuck_after} they are stuck, and the \
             watchdog says why\n\n\
             In another terminal:\n\n\
             # submit a job; twice with the same key makes one\n\
             curl -si {url}/v1/jobs -H 'Content-Type: application/json' \\\n  \
             -H 'Idempotency-Key: \"mine-1\"' \\\n  \
             -d '{{\"kind\":\"mail.send\",\"queue\":\"mail\",\"payload\":{{\"to\":\"you@example.com\"}}}}'\n\
             # read it at the Location of that answer; wait=20 holds the request until it is done\n\
             curl -si {url}/v1/jobs/JOB_ID -H 'Prefer: wait=20'\n\
             # what failed, and what a scrape sees\n\
             curl -s '{url}/v1/jobs?status=failed&limit=3'\n\
             curl -s {url}/metrics\n\
             # why does archive not move? Then start a worker for it, and see its episode end\n\
             {explain}\n\
             {cure}\n\
             {episodes}\n",
            dir = self.dir.display(),
            log = name(&self.log),
            explain = self.command("explain", ARCHIVE),
            cure = self.cure(),
            episodes = self.command("episodes", ""),
        );
        out.push_str("# alerts and graphs, from a checkout of the repository");
        if self.server.is_empty() {
            out.push('\n');
        } else {
            let addr = url.trim_start_matches("http://");
            let _ = writeln!(out, ": put {addr} for {HOME} into the file first");
        }
        out.push_str("prometheus --config.file alerts/prometheus.example.yml\n\n");
        out
    }

    /// What to try next: a heading, and commands below it.
    pub(super) fn next(&self, archive: Archive) -> (String, Vec<String>) {
        let explain = self.command("explain", ARCHIVE);
        let episodes = self.command("episodes", "");
        match archive {
            Archive::Waiting => {
                let after = humantime::format_duration(self.stuck_after);
                let heading =
                    format!("Next: nobody works for archive; its jobs are stuck after {after}.");
                (heading, vec![explain, self.command("jobs list", "--status failed")])
            }
            Archive::Stuck => {
                let heading = "Next: archive is stuck. Ask why, then cure it:";
                (heading.to_owned(), vec![explain, self.cure()])
            }
            Archive::Cured => {
                let heading = "Next: the episode has ended. Its story, and that of the queues:";
                (heading.to_owned(), vec![episodes, self.command("queues list", "")])
            }
        }
    }

    pub(super) fn farewell(&self, elapsed: Duration, (completed, failed): (u64, u64)) -> String {
        format!(
            "Ended after {}: {completed} jobs completed, {failed} failed; {} is removed.\n",
            output::span(elapsed.as_secs_f64()),
            self.dir.display()
        )
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// As it was called, so that the lines can be copied; in quotes where a shell needs them.
fn program(called: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+~".contains(c);
    if called.is_empty() {
        "punctual".to_owned()
    } else if called.chars().all(plain) {
        called.to_owned()
    } else {
        format!("'{}'", output::printable(called).replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(addr: &str, taken: Option<SocketAddr>) -> Words {
        let scratch = Scratch::new().unwrap();
        let words = Words::new(addr.parse().unwrap(), taken, &scratch, Duration::from_secs(90));
        Words { program: "punctual".into(), ..words }
    }

    #[test]
    fn commands_name_the_server_only_when_it_is_not_the_usual_one() {
        let usual = words("127.0.0.1:8080", None).intro();
        assert!(usual.contains("\npunctual explain archive\n"), "{usual}");
        assert!(usual.contains("\npunctual work --queue archive --exec sleep 0.2\n"), "{usual}");
        assert!(usual.contains("after 1m 30s they are stuck"), "{usual}");
        assert!(!usual.contains("--server") && !usual.contains("taken,"), "{usual}");
        let other = words("[::1]:81", Some(HOME)).intro();
        assert!(other.contains("\npunctual episodes --server http://[::1]:81\n"), "{other}");
        assert!(other.contains("(127.0.0.1:8080 is taken"), "{other}");
        assert!(other.contains("put [::1]:81 for 127.0.0.1:8080"), "{other}");
    }

    #[test]
    fn what_comes_next_follows_the_story() {
        let words = words("127.0.0.1:8080", None);
        let next = |archive| words.next(archive).0;
        assert!(next(Archive::Waiting).contains("stuck after 1m 30s"));
        assert!(next(Archive::Stuck).contains("archive is stuck"));
        assert!(next(Archive::Cured).contains("has ended"));
    }

    #[test]
    fn programs_are_named_as_they_were_called() {
        assert_eq!(program("target/release/punctual"), "target/release/punctual");
        assert_eq!(program("/my dir/it's"), r"'/my dir/it'\''s'");
        assert_eq!(program(""), "punctual");
    }
}
