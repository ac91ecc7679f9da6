use super::keys::{QUEUE_ONLY, SECTIONS};
use super::*;
use crate::domain::job::Policy;

fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let owned: Vec<_> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    owned.into_iter()
}

fn no_file(pairs: &[(&str, &str)], flags: &[Override<'_>]) -> Result<Config, ConfigErrors> {
    Config::load_from(None, Path::new("/nonexistent/punctual.toml"), env(pairs), flags)
}

fn errors(text: &str) -> String {
    Config::from_toml(text).expect_err("refused").to_string()
}

fn env_errors(pairs: &[(&str, &str)]) -> String {
    no_file(pairs, &[]).expect_err("refused").to_string()
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn every_default_is_in_its_own_range_and_the_whole_builds() {
    for section in SECTIONS {
        for key in section.keys {
            assert!(key.kind.read_text(key.default).is_ok(), "{}.{}", section.name, key.name);
        }
    }
    let config = Config::default();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.public_url, None);
    assert_eq!(config.store.url, StoreUrl::Sqlite("punctual.db".into()));
    assert_eq!(config.store.url.to_string(), "sqlite://punctual.db");
    assert_eq!(config.store.durability.as_str(), "full");
    assert_eq!(config.store.min_free, 256_000_000);
    assert_eq!(config.watchdog.interval, secs(15));
    assert_eq!(config.watchdog.stuck_after, Some(secs(300)));
    assert_eq!(config.jobs.max_payload_bytes, 1 << 20);
    assert_eq!(config.tasks.scheduler, Duration::from_millis(250));
    assert_eq!((config.limits.queues, config.limits.kinds), (100, 100));
    // One truth: a job made without a configuration runs under the same rules.
    assert_eq!(config.jobs.defaults.policy(), Policy::default());
}

#[test]
fn the_sample_is_the_defaults() {
    let sample = Config::from_toml(&Config::sample_toml()).expect("the sample loads");
    assert_eq!(sample.describe(), Config::default().describe());
    assert_eq!(sample.hash(), Config::default().hash());
    let queues = Config::from_toml(docs::QUEUE_EXAMPLE).expect("the example of queues loads");
    assert_eq!(queues.queues().count(), 2);
    assert_eq!(queues.queue_watch("reports").max_running, Some(50));
    for key in QUEUE_ONLY {
        assert!(Config::sample_toml().contains(&format!("# {}: ", key.name)), "{}", key.name);
    }
}

#[test]
fn the_documentation_names_every_key_and_its_errors_are_real() {
    let docs = Config::docs_markdown();
    for section in SECTIONS {
        assert!(docs.contains(&format!("## `[{}]`", section.name)));
        for key in section.keys {
            assert!(docs.contains(&format!("| `{}` |", key.name)), "{}", key.name);
        }
    }
    for key in QUEUE_ONLY {
        assert!(docs.contains(&format!("| `{}` | unset |", key.name)), "{}", key.name);
    }
    for line in docs.lines().filter(|line| line.starts_with('|')) {
        let cells = line.replace("\\|", "").matches('|').count();
        assert!(cells == 5 || cells == 3, "{line}");
    }
    assert!(docs.contains("punctual.toml:5: jobs.leese: unknown key; did you mean jobs.lease?"));
}

#[test]
fn all_errors_at_once_with_lines_in_order() {
    let text = "\
[server]
listen = \"localhost\"
public_url = \"https://jobs.example.com/app?x=1\"

[jobs]
lease = 30
max_attempts = 0
backoff = { initial = \"-1s\", multiplier = 0.5, jiter = 0.2 }
retention.completed = \"0s\"

[joobs]
x = 1

[queues.reports]
lease = \"2h\"
";
    assert_eq!(
        errors(text),
        "\
punctual.toml:2: server.listen: \"localhost\" is not an IP address and a port; write for example \"127.0.0.1:8080\"
punctual.toml:3: server.public_url: \"https://jobs.example.com/app?x=1\" has more than a host; write \"https://jobs.example.com\"
punctual.toml:6: jobs.lease: 30 has no unit; write a duration in quotes, such as \"30s\" or \"5m\"
punctual.toml:7: jobs.max_attempts: the number 0 is out of range; use 1 to 100
punctual.toml:8: jobs.backoff.initial: \"-1s\" is not a duration; write a number and a unit (ms, s, m, h, d), such as \"30s\"
punctual.toml:8: jobs.backoff.jiter: unknown key; did you mean jobs.backoff.jitter?
punctual.toml:8: jobs.backoff.multiplier: the number 0.5 is out of range; use 1 to 100
punctual.toml:9: jobs.retention.completed: \"0s\" is out of range; use 1s to 3650d
punctual.toml:11: joobs: unknown section; did you mean jobs?
punctual.toml:15: queues.reports.lease: \"2h\" is out of range; use 1s to 1h"
    );
}

#[test]
fn unknown_keys_name_the_nearest() {
    for (text, says) in [
        ("[jobs]\nleese = 1", "jobs.leese: unknown key; did you mean jobs.lease?"),
        ("[jobs]\nbackof.initial = 1", "did you mean jobs.backoff?"),
        ("[jobs]\nbackoff.maxx = 1", "did you mean jobs.backoff.max?"),
        ("[server]\nlease = \"1s\"", "did you mean jobs.lease?"),
        ("[jobs]\ninitial = \"1s\"", "did you mean jobs.backoff.initial?"),
        ("listen = \"x\"", "listen: in no section; did you mean server.listen?"),
        ("[auth]\nzebra = 1", "unknown key; known in [auth]: mode, names_per_namespace, tokens"),
        ("[queues.a]\nlaese = 1", "did you mean queues.a.lease?"),
        ("[queues.a]\nstuk_after = \"1m\"", "did you mean queues.a.stuck_after?"),
        ("[queues.a]\nmax_runing = 1", "did you mean queues.a.max_running?"),
        ("[queues.a]\ninterval = \"1s\"", "did you mean watchdog.interval?"),
        ("[queues.a]\nmin_free = 0", "did you mean store.min_free?"),
        ("[jobs]\nstuck_after = \"1m\"", "did you mean watchdog.stuck_after?"),
        ("[jobs]\nmax_running = 1", "each queue has its own; set queues.NAME.max_running instead"),
        ("[watchdog]\nstuck = \"1m\"", "unknown key; known in [watchdog]: interval, stuck_after"),
        ("[watchdgo]\ninterval = \"1s\"", "did you mean watchdog?"),
        (
            "[queues.a]\nmax_payload_bytes = 1",
            "the same for all queues; set jobs.max_payload_bytes",
        ),
        ("[queues.a.b]\nlease = \"1s\"", "needs quotes: [queues.\"a.b\"]"),
        ("[jobs]\n\"backoff.initial\" = \"1s\"", "unknown key"),
        ("[zebra]", "unknown section; known: server, store, jobs"),
    ] {
        assert!(errors(text).contains(says), "{text}: {}", errors(text));
    }
}

#[test]
fn a_collector_s_address_is_a_url() {
    for good in ["http://127.0.0.1:4318", "https://otlp.example.com/own/path"] {
        let config =
            Config::from_toml(&format!("[telemetry]\notlp_endpoint = \"{good}\"")).unwrap();
        assert_eq!(config.telemetry.otlp_endpoint.as_deref(), Some(good));
    }
    for bad in ["127.0.0.1:4318", "grpc://a:4317", "http://", "a b", "http://me:secret@a"] {
        let said = errors(&format!("[telemetry]\notlp_endpoint = \"{bad}\""));
        assert!(said.contains("; write") && !said.contains("secret"), "{bad}: {said}");
    }
    let none = Config::from_toml("[telemetry]\notlp_endpoint = \"\"").unwrap();
    assert_eq!(none.telemetry.otlp_endpoint, None);
}

#[test]
fn listeners_proxies_and_pages() {
    let config = Config::from_toml(
        "[server]\nmetrics_listen = \"127.0.0.1:9464\"\n\
         trusted_proxies = [\"10.0.0.0/8\", \"fd00::/8\"]\n\
         cors_origins = [\"https://app.example.com\", \"http://localhost:3000\"]",
    )
    .unwrap();
    assert_eq!(config.server.metrics_listen, "127.0.0.1:9464".parse().ok());
    let networks: Vec<String> =
        config.server.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "fd00::/8"]);
    assert_eq!(config.server.cors_origins, ["https://app.example.com", "http://localhost:3000"]);
    let none = Config::from_toml("").unwrap().server;
    assert!(none.metrics_listen.is_none() && none.trusted_proxies.is_empty());
    assert!(none.cors_origins.is_empty());
    for (line, says) in [
        ("metrics_listen = \"9464\"", "not an IP address and a port"),
        ("metrics_listen = \"0.0.0.0:9464\"", "server.metrics_listen: 0.0.0.0:9464 can be reached"),
        ("trusted_proxies = [\"10.0.0.1\"]", "or \"10.0.0.1/32\" for one address"),
        ("trusted_proxies = [\"10.0.0.0/33\"]", "is not a network"),
        ("trusted_proxies = [\"proxy.local\"]", "is not a network"),
        ("cors_origins = [\"*\"]", "name each"),
        ("cors_origins = [\"null\"]", "name each"),
        ("cors_origins = [\"https://a.example/x\"]", "write \"https://a.example\""),
        ("cors_origins = [\"https://A.example\"]", "write \"https://a.example\""),
        ("cors_origins = [\"https://a.example:443\"]", "write \"https://a.example\""),
        ("cors_origins = [\"a.example\"]", "not an absolute http or https URL"),
    ] {
        let said = errors(&format!("[server]\n{line}"));
        assert!(said.contains(says), "{line}: {said}");
    }
    let open = "[auth]\nmode = \"off\"\n[server]\nmetrics_listen = \"0.0.0.0:9464\"";
    assert!(Config::from_toml(open).is_ok());
}

#[test]
fn wrong_types_are_named() {
    for (text, says) in [
        ("[jobs]\nlease = [\"1s\"]", "found an array; write a duration"),
        ("[jobs]\nlease = true", "found a boolean; write a duration"),
        ("[jobs]\nlease = 2026-01-01", "found a date; write a duration"),
        ("[jobs]\nlease = { a = 1 }", "found a table; write a duration"),
        ("[jobs]\nbackoff = \"1s\"", "a group of keys; set each, such as jobs.backoff.initial"),
        ("[jobs]\nmax_attempts = \"5\"", "found \"5\"; write a whole number"),
        ("[jobs]\nmax_attempts = 5.5", "found the number 5.5; write a whole number"),
        ("[jobs]\nmax_attempts = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", "very large number"),
        ("[jobs]\nbackoff.multiplier = nan", "out of range"),
        ("[jobs]\nresult_hosts = \"a\"", "write an array of strings"),
        ("[jobs]\nresult_hosts = [1]", "the number 1 is among its items"),
        ("[jobs]\nresult_hosts = [\"https://a\"]", "not a host name"),
        ("[store]\ndurability = \"ful\"", "use \"full\" or \"normal\""),
        ("jobs = 1", "jobs: not a table; write [jobs]"),
        ("[[jobs]]\nlease = \"1s\"", "jobs: not a table"),
        ("queues = 1", "queues: not a table; write [queues.NAME]"),
        ("[queues]\nreports = 1", "queues.reports: not a table; write [queues.reports]"),
        ("[queues.Reports]", "not the name of a queue; use 1 to 128 characters"),
        ("[queues.\"\"]", "not the name of a queue"),
        ("[queues.\"a\\nb\"]", "queues.\"a\\nb\": not the name of a queue"),
        ("[jobs]\nmax_payload_bytes = \"17MiB\"", "use 1 to 16 MiB"),
        ("[store]\nmin_free = \"some\"", "\"some\" is not a size"),
        ("[store]\nmin_free = -1", "use 0 to 1024 TiB"),
        ("[store]\nmin_free = true", "write a number of bytes, or a size such as \"1MiB\""),
        ("[watchdog]\ninterval = \"off\"", "not a duration"),
        ("[watchdog]\ninterval = \"99ms\"", "use 100ms to 10m"),
        ("[watchdog]\nstuck_after = \"8d\"", "out of range; use 1s to 7d, or \"off\""),
        ("[watchdog]\nstuck_after = 0", "1s to 7d, or \"off\""),
        ("[watchdog]\nstuck_after = false", "1s to 7d, or \"off\""),
        ("[queues.a]\nstuck_after = \"0s\"", "queues.a.stuck_after: \"0s\" is out of range"),
        ("[queues.a]\nstuck_after = \"of\"", "1s to 7d, or \"off\""),
        ("[queues.a]\nmax_running = 0", "use 1 to 1000000"),
        ("[queues.a]\nmax_running = \"off\"", "write a whole number"),
        ("[queues.a]\nmax_depth = 0", "use 1 to"),
        ("[queues.a]\nstart_rate_per_second = 0.0", "use 0.001 to 1000000"),
        ("[queues.a]\nstart_rate_per_second = \"fast\"", "write a number"),
        ("[jobs]\nmax_depth = 1", "each queue has its own; set queues.NAME.max_depth instead"),
        ("[jobs]\ntimeout = \"604801s\"", "use 1s to 7d"),
    ] {
        let found = errors(text);
        assert!(found.contains(says), "{text}: {found}");
        assert_eq!(found.lines().count(), 1, "{text}: {found}");
    }
}

#[test]
fn urls() {
    for good in ["https://jobs.example.com", "http://10.0.0.1:8080", "http://[::1]:80"] {
        let config = Config::from_toml(&format!("[server]\npublic_url = \"{good}\"")).unwrap();
        assert_eq!(config.server.public_url.as_deref(), Some(good));
    }
    for bad in [
        "jobs.example.com",
        "/jobs",
        "ftp://example.com",
        "https://",
        "https://a/",
        "https://a?b",
        "https://a#b",
        "https://user:pw@a",
        "https://a b",
    ] {
        assert!(errors(&format!("[server]\npublic_url = \"{bad}\"")).contains("; write"), "{bad}");
    }
    for (bad, says) in [
        (
            "postgres://u:secret@h/db",
            "postgres is not supported yet in this version; use sqlite://PATH",
        ),
        ("postgresql://h/db", "not supported yet"),
        ("sqlite://", "names no file"),
        ("sqlite://:memory:", "would lose accepted jobs"),
        ("sqlite:///a?mode=ro", "write sqlite://PATH only"),
        ("punctual.db", "not the URL of a store"),
    ] {
        let found = errors(&format!("[store]\nurl = \"{bad}\""));
        assert!(found.contains(says) && !found.contains("secret"), "{bad}: {found}");
    }
    let config = Config::from_toml("[store]\nurl = \"sqlite:///var/lib/p.db\"").unwrap();
    assert_eq!(config.store.url, StoreUrl::Sqlite("/var/lib/p.db".into()));
}

#[test]
fn queues_inherit_key_by_key() {
    let config = Config::from_toml(
        "\
[jobs]
lease = \"45s\"
backoff = { initial = \"2s\", max = \"1m\" }

[queues.reports]
backoff.max = \"1h\"
retention = { failed = \"30d\" }
max_attempts = 3

[queues.plain]

[queues.\"eu.mail\"]
lease = \"2m\"
",
    )
    .unwrap();
    let reports = config.queue("reports");
    assert_eq!(reports.lease, secs(45));
    assert_eq!(reports.max_attempts, 3);
    assert_eq!(reports.backoff.initial, secs(2));
    assert_eq!(reports.backoff.max, secs(3_600));
    assert_eq!(reports.retention.failed, secs(30 * 86_400));
    assert_eq!(reports.retention.completed, secs(86_400));
    assert_eq!(config.queue("plain"), &config.jobs.defaults);
    assert_eq!(config.queue("eu.mail").lease, secs(120));
    assert!(Arc::ptr_eq(config.queue("never-named"), &config.jobs.defaults));
    let mut names: Vec<_> = config.queues().map(|(name, _)| name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["eu.mail", "plain", "reports"]);
}

#[test]
fn a_queue_has_a_patience_and_a_limit_of_its_own() {
    let patience = |stuck_after, max_running| QueueWatch {
        stuck_after,
        max_running,
        max_depth: None,
        start_rate: None,
        require_key: false,
    };
    let config = Config::from_toml(
        "\
[watchdog]
stuck_after = \"2m\"

[queues.reports]
stuck_after = \"30m\"
max_running = 50

[queues.archive]
stuck_after = \"off\"

[queues.plain]
lease = \"1m\"
",
    )
    .unwrap();
    assert_eq!(config.queue_watch("reports"), patience(Some(secs(1_800)), Some(50)));
    assert_eq!(config.queue_watch("archive"), patience(None, None));
    assert_eq!(config.queue_watch("plain"), patience(Some(secs(120)), None));
    assert_eq!(config.queue_watch("never-named"), patience(Some(secs(120)), None));
    for (name, watch) in config.queue_watches() {
        assert_eq!(watch, config.queue_watch(name.as_str()), "{name}");
    }
    assert_eq!(config.queue_watches().count(), 3);
    // What is off for all can be on for one.
    let config = Config::from_toml(
        "[watchdog]\nstuck_after = \"off\"\n[queues.a]\nstuck_after = \"1m\"\n[queues.b]\n",
    )
    .unwrap();
    assert_eq!(config.watchdog.stuck_after, None);
    assert_eq!(config.queue_watch("a").stuck_after, Some(secs(60)));
    assert_eq!(config.queue_watch("b").stuck_after, None);
}

#[test]
fn sizes_have_units_everywhere() {
    let config = Config::from_toml(
        "[store]\nmin_free = \"2GB\"\n[jobs]\nmax_payload_bytes = \"2MiB\"\n\
         inline_result_bytes = \"8kB\"\nmax_result_bytes = \"1000000B\"\n",
    )
    .unwrap();
    assert_eq!(config.store.min_free, 2_000_000_000);
    assert_eq!(config.jobs.max_payload_bytes, 2 << 20);
    assert_eq!(config.jobs.inline_result_bytes, 8_000);
    assert_eq!(config.jobs.max_result_bytes, 1_000_000);
    assert_eq!(Config::from_toml("[store]\nmin_free = 0").unwrap().store.min_free, 0);
    let most = no_file(&[("PUNCTUAL_STORE__MIN_FREE", "1000000GB")], &[]).unwrap();
    assert_eq!(most.store.min_free, 1_000_000_000_000_000);
}

#[test]
fn keys_that_queues_have_are_told_apart() {
    let mut seen = BTreeSet::new();
    let of_sections = SECTIONS.iter().flat_map(|section| section.keys);
    for key in of_sections.filter(|key| key.per_queue).chain(QUEUE_ONLY) {
        assert!(seen.insert(key.name), "{} twice", key.name);
        assert!(key.per_queue, "{}", key.name);
    }
}

#[test]
fn the_environment_wins_over_the_file_and_flags_over_both() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.toml");
    std::fs::write(
        &file,
        "[jobs]\nlease = \"10s\"\ntimeout = \"2h\"\n[queues.reports]\nlease = \"20s\"",
    )
    .unwrap();
    let variables = [
        ("PUNCTUAL_JOBS__LEASE", "15s"),
        ("PUNCTUAL_JOBS__BACKOFF__INITIAL", "2s"),
        ("PUNCTUAL_JOBS__BACKOFF__MULTIPLIER", "3"),
        ("PUNCTUAL_JOBS__MAX_PAYLOAD_BYTES", "2MB"),
        ("PUNCTUAL_JOBS__RESULT_HOSTS", "a.example.com, b.example.com"),
        ("PUNCTUAL_QUEUES__REPORTS__LEASE", "1m"),
        ("PUNCTUAL_QUEUES__REPORTS__BACKOFF__MAX", "2m"),
        ("PUNCTUAL_QUEUES__a__b__LEASE", "3s"),
        ("PUNCTUAL_QUEUES__eu.mail__LEASE", "4s"),
        ("PUNCTUAL_WATCHDOG__STUCK_AFTER", "2m"),
        ("PUNCTUAL_WATCHDOG__INTERVAL", "100ms"),
        ("PUNCTUAL_QUEUES__REPORTS__STUCK_AFTER", "off"),
        ("PUNCTUAL_QUEUES__REPORTS__MAX_RUNNING", "7"),
        ("PUNCTUAL_QUEUES__REPORTS__MAX_DEPTH", "500"),
        ("PUNCTUAL_QUEUES__REPORTS__START_RATE_PER_SECOND", "0.5"),
        ("PUNCTUAL_QUEUES__REPORTS__REQUIRE_IDEMPOTENCY_KEY", "true"),
        ("PUNCTUAL_SERVER__LISTEN", "127.0.0.1:1"),
        ("PUNCTUAL_JOB_ID", "not a key"),
        ("OTHER__KEY", "not ours"),
    ];
    let flags = [Override { flag: "--listen", key: "server.listen", value: "[::1]:2".into() }];
    let config = Config::load_with(Some(&file), env(&variables), &flags).unwrap();
    assert_eq!(config.file.as_deref(), Some(file.as_path()));
    assert_eq!(config.jobs.defaults.lease, secs(15));
    assert_eq!(config.jobs.defaults.timeout, secs(7_200));
    assert_eq!(config.jobs.defaults.backoff.initial, secs(2));
    assert!((config.jobs.defaults.backoff.multiplier - 3.0).abs() < f64::EPSILON);
    assert_eq!(config.jobs.max_payload_bytes, 2_000_000);
    assert_eq!(config.jobs.result_hosts, ["a.example.com", "b.example.com"]);
    assert_eq!(config.queue("reports").lease, secs(60));
    assert_eq!(config.queue("reports").backoff.max, secs(120));
    assert_eq!(config.queue("a__b").lease, secs(3));
    assert_eq!(config.queue("eu.mail").lease, secs(4));
    assert_eq!(config.watchdog.interval, Duration::from_millis(100));
    assert_eq!(config.queue_watch("a__b").stuck_after, Some(secs(120)));
    let reports = QueueWatch {
        stuck_after: None,
        max_running: Some(7),
        max_depth: Some(500),
        start_rate: Some(0.5),
        require_key: true,
    };
    assert_eq!(config.queue_watch("reports"), reports);
    assert_eq!(config.server.listen.to_string(), "[::1]:2");
}

#[test]
fn errors_of_the_environment_name_the_variable() {
    for (name, value, says) in [
        ("PUNCTUAL_JOBS__LEASE", "2h", "PUNCTUAL_JOBS__LEASE: jobs.lease: \"2h\" is out of range"),
        (
            "PUNCTUAL_JOBS__LEESE",
            "1s",
            "PUNCTUAL_JOBS__LEESE: unknown key; did you mean PUNCTUAL_JOBS__LEASE?",
        ),
        ("PUNCTUAL_JOB__LEASE", "1s", "unknown section; did you mean PUNCTUAL_JOBS__?"),
        (
            "PUNCTUAL_JOBS__BACKOFF",
            "1s",
            "a group of keys; set each, such as PUNCTUAL_JOBS__BACKOFF__INITIAL",
        ),
        ("PUNCTUAL_JOBS__", "1s", "PUNCTUAL_JOBS__: unknown key"),
        ("PUNCTUAL___", "1s", "PUNCTUAL___: unknown section"),
        (
            "PUNCTUAL_WATCHDOG__STUCK_AFTER",
            "1w 1s",
            "PUNCTUAL_WATCHDOG__STUCK_AFTER: watchdog.stuck_after: \"1w 1s\" is out of range; use \
             1s to 7d, or \"off\"",
        ),
        ("PUNCTUAL_WATCHDOG__MAX_RUNNING", "1", "set PUNCTUAL_QUEUES__NAME__MAX_RUNNING instead"),
        ("PUNCTUAL_QUEUES__A__STUCKAFTER", "1s", "did you mean PUNCTUAL_QUEUES__A__STUCK_AFTER?"),
        ("PUNCTUAL_QUEUES__LEASE", "1s", "names no queue; write PUNCTUAL_QUEUES__NAME__KEY"),
        ("PUNCTUAL_QUEUES____LEASE", "1s", "names no queue"),
        ("PUNCTUAL_QUEUES___X__LEASE", "1s", "not the name of a queue"),
        ("PUNCTUAL_QUEUES__A__LEESE", "1s", "did you mean PUNCTUAL_QUEUES__A__LEASE?"),
        ("PUNCTUAL_QUEUES__A__BACKOFF", "1s", "such as PUNCTUAL_QUEUES__A__BACKOFF__INITIAL"),
        ("PUNCTUAL_QUEUES__A__IDEMPOTENCY_TTL", "1s", "set PUNCTUAL_JOBS__IDEMPOTENCY_TTL instead"),
        ("PUNCTUAL_SERVER__LISTEN", "", "\"\" is not an IP address"),
    ] {
        let found = env_errors(&[(name, value)]);
        assert!(found.contains(says), "{name}: {found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
    let store = env_errors(&[("PUNCTUAL_STORE__URL", "sqlite://\u{fffd}.db")]);
    assert!(store.contains("PUNCTUAL_STORE__URL: not Unicode text"), "{store}");
    let twice = env_errors(&[("PUNCTUAL_JOBS__LEASE", "1s"), ("PUNCTUAL_JOBS__lease", "2s")]);
    assert!(twice.contains("sets the same key as PUNCTUAL_JOBS__LEASE"), "{twice}");
    let flags = [Override { flag: "--listen", key: "server.listen", value: "nowhere".into() }];
    let flag = no_file(&[], &flags).unwrap_err().to_string();
    assert!(flag.starts_with("--listen: server.listen: \"nowhere\""), "{flag}");
}

#[test]
fn other_machines_need_the_word() {
    for open in ["0.0.0.0:80", "192.168.1.5:8080", "[::]:80"] {
        let text = format!("[server]\nlisten = \"{open}\"\n");
        let found = errors(&text);
        assert!(found.starts_with("punctual.toml:2: server.listen: "), "{found}");
        assert!(found.contains("auth.mode = \"off\""), "{found}");
        assert!(Config::from_toml(&format!("{text}[auth]\nmode = \"off\"")).is_ok());
        assert!(errors(&format!("{text}[auth]\nmode = \"tokens\"")).contains("no tokens"));
    }
    for own in ["127.0.0.1:0", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        assert!(Config::from_toml(&format!("[server]\nlisten = \"{own}\"")).is_ok(), "{own}");
    }
    // An unreadable mode is one error, not two.
    assert_eq!(
        errors("[server]\nlisten = \"0.0.0.0:80\"\n[auth]\nmode = \"of\"").lines().count(),
        1
    );
    let found = env_errors(&[("PUNCTUAL_SERVER__LISTEN", "0.0.0.0:80")]);
    assert!(found.starts_with("PUNCTUAL_SERVER__LISTEN: server.listen: "), "{found}");
}

#[test]
fn values_must_agree() {
    for (text, says) in [
        (
            "[jobs]\nbackoff.initial = \"1h\"",
            "punctual.toml:2: jobs.backoff.initial: the first delay (1h) is longer than the longest (10m)",
        ),
        ("[jobs]\nbackoff.max = \"1s\"", "punctual.toml:2: jobs.backoff.max: the first delay (5s)"),
        ("[queues.a]\nbackoff.max = \"1s\"", "punctual.toml:2: queues.a.backoff.max: "),
        (
            "[jobs]\nbackoff.initial = \"9m\"\n[queues.a]\nbackoff.max = \"1m\"",
            "punctual.toml:4: queues.a.backoff.max: ",
        ),
        (
            "[jobs]\nbackoff.initial = \"1h\"\n[queues.a]\nlease = \"1s\"",
            "punctual.toml:2: jobs.backoff.initial",
        ),
        (
            "[jobs]\nmax_result_bytes = 10",
            "punctual.toml:2: jobs.max_result_bytes: inline_result_bytes (65536)",
        ),
        (
            "[jobs]\ninline_result_bytes = 16777216\nmax_result_bytes = \"1MiB\"",
            "punctual.toml:2: jobs.inline_result_bytes",
        ),
    ] {
        let found = errors(text);
        assert!(found.starts_with(says), "{text}: {found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[test]
fn broken_toml_is_reported_with_the_rest() {
    let found = errors("[jobs]\nlease = \"2h\"\ntimeout = = 3\n\n[server\nlisten = 5\n");
    assert!(found.contains("punctual.toml:2: jobs.lease: \"2h\" is out of range"), "{found}");
    assert!(found.contains("punctual.toml:3: not valid TOML: "), "{found}");
    assert!(found.contains("punctual.toml:5: not valid TOML: "), "{found}");
    assert!(!found.contains("jobs.timeout"), "{found}");
    let twice = errors("[jobs]\nlease = \"1s\"\nlease = \"2s\"\n");
    assert!(twice.contains("punctual.toml:3: not valid TOML: duplicate key"), "{twice}");
}

#[test]
fn hostile_text_gives_short_errors_and_no_panic() {
    let deep = format!("a = {}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let many = (0..20_000).fold(String::from("[jobs]\n"), |t, n| t + &format!("k{n} = 1\n"));
    let long = format!("[jobs]\n{} = 1\nlease = \"{}\"", "k".repeat(200_000), "9".repeat(200_000));
    let noise: String = (0..20_000u32).filter_map(|n| char::from_u32(n * 37 % 0x300)).collect();
    for text in
        [deep, many, long, noise, "\0\0\0".into(), "\u{feff}[jobs]\nx=1".into(), "\r".into()]
    {
        let refused = Config::from_toml(&text).expect_err("refused");
        assert!(!refused.errors().is_empty() && refused.errors().len() <= 100);
        let found = refused.to_string();
        assert!(found.lines().count() <= 101);
        assert!(found.lines().all(|line| line.len() < 1_000), "a long line");
    }
    let many = (0..300).fold(String::from("[jobs]\n"), |t, n| t + &format!("k{n} = 1\n"));
    assert!(errors(&many).ends_with("and 200 more; correct these first"));
}

#[test]
fn files_that_are_no_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &Path| Config::load(Some(path), env(&[])).unwrap_err().to_string();
    let absent = refused(&dir.path().join("absent.toml"));
    assert!(absent.contains("absent.toml: no such file; name an existing file"), "{absent}");
    let folder = refused(dir.path());
    assert!(folder.contains("a directory; name the file in it"), "{folder}");
    let device = refused(Path::new("/dev/zero"));
    assert!(device.contains("not a regular file"), "{device}");

    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, b"[jobs]\n\xff\xfe\x00").unwrap();
    assert!(refused(&binary).contains("binary.toml:2: not UTF-8 text"));
    let huge = dir.path().join("huge.toml");
    std::fs::write(&huge, "#".repeat((1 << 20) + 1)).unwrap();
    assert!(refused(&huge).contains("larger than 1 MiB"));

    // The rest is still checked.
    let both = Config::load(Some(&binary), env(&[("PUNCTUAL_JOBS__LEASE", "1")])).unwrap_err();
    assert_eq!(both.errors().len(), 2, "{both}");
    assert_eq!(both.file(), Some(binary.as_path()));
}

#[test]
fn the_usual_file_is_used_if_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let usual = dir.path().join(DEFAULT_FILE);
    let none = Config::load_from(None, &usual, env(&[]), &[]).unwrap();
    assert_eq!(none.file, None);
    assert_eq!(none.hash(), Config::default().hash());
    std::fs::write(&usual, "[jobs]\nlease = \"7s\"").unwrap();
    let some = Config::load_from(None, &usual, env(&[]), &[]).unwrap();
    assert_eq!(some.file.as_deref(), Some(usual.as_path()));
    assert_eq!(some.jobs.defaults.lease, secs(7));
    std::fs::write(&usual, "[").unwrap();
    assert!(Config::load_from(None, &usual, env(&[]), &[]).is_err());
}

#[test]
fn a_queue_limits_what_waits_and_what_starts() {
    let text = "[queues.a]\nmax_depth = 10_000\nstart_rate_per_second = 2\n[queues.b]";
    let config = Config::from_toml(text).unwrap();
    let limits =
        |queue| (config.queue_watch(queue).max_depth, config.queue_watch(queue).start_rate);
    assert_eq!(limits("a"), (Some(10_000), Some(2.0)));
    assert_eq!((limits("b"), limits("c")), ((None, None), (None, None)));
}

#[test]
fn the_hash_follows_what_is_in_force() {
    let hash = |text: &str| Config::from_toml(text).unwrap().hash();
    assert_eq!(hash("").len(), 16);
    assert_eq!(hash(""), hash("[jobs]\nlease = \"30s\" # the default\n"));
    assert_eq!(hash("[jobs]\nlease = \"60s\""), hash("[jobs]\nlease = \"1m\""));
    assert_ne!(hash(""), hash("[jobs]\nlease = \"31s\""));
    assert_ne!(hash(""), hash("[queues.a]\nlease = \"31s\""));
    assert_ne!(hash(""), hash("[watchdog]\nstuck_after = \"off\""));
    assert_ne!(hash(""), hash("[watchdog]\ninterval = \"1s\""));
    assert_ne!(hash(""), hash("[store]\nmin_free = 0"));
    assert_ne!(hash("[queues.a]"), hash("[queues.a]\nmax_running = 5"));
    assert_ne!(hash("[queues.a]"), hash("[queues.a]\nmax_depth = 5"));
    assert_ne!(hash("[queues.a]"), hash("[queues.a]\nstart_rate_per_second = 5.0"));
    assert_ne!(hash("[queues.a]"), hash("[queues.a]\nstuck_after = \"1m\""));
    assert_eq!(hash("[queues.a]"), hash("[queues.a]\nstuck_after = \"300s\""));
    // A queue's value that is inherited or repeated is in force all the same.
    assert_eq!(hash("[queues.a]\nlease = \"30s\""), hash("[queues.a]\ntimeout = \"1h\""));
}

#[test]
fn the_description_loads_to_the_same() {
    let config = Config::from_toml(
        "[server]\nlisten = \"0.0.0.0:80\"\npublic_url = \"https://a\"\n[auth]\nmode = \"off\"\n\
         [jobs]\nlease = \"1500ms\"\nresult_hosts = [\"a\", \"b\"]\nbackoff.jitter = 0.333\n\
         [watchdog]\nstuck_after = \"off\"\n[queues.\"eu.mail\"]\nretention.failed = \"90m\"\n\
         stuck_after = \"90s\"\nmax_running = 3\nmax_depth = 9\n\
         start_rate_per_second = 0.25\n[queues.a]\n\
         [store]\nurl = 'sqlite://a\"b\\c'\nmin_free = \"1GiB\"\n",
    )
    .unwrap();
    let again = Config::from_toml(&config.describe()).expect("the description is valid");
    assert_eq!(again.describe(), config.describe());
    assert_eq!(again.jobs, config.jobs);
    assert_eq!(again.store, config.store);
    assert_eq!(again.watchdog, config.watchdog);
    assert_eq!(again.queue("eu.mail"), config.queue("eu.mail"));
    assert_eq!(again.queue_watch("eu.mail"), config.queue_watch("eu.mail"));
    assert_eq!(again.queue_watch("a"), config.queue_watch("a"));
    assert_eq!(config.describe().matches("max_running").count(), 1);
}
