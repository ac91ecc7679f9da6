//! The help of every command, word for word: it is what most people ever read.

use crate::place::{DONE, Place, USAGE, run};

const COMMANDS: &[&[&str]] = &[
    &[],
    &["serve"],
    &["demo"],
    &["work"],
    &["submit"],
    &["jobs"],
    &["jobs", "list"],
    &["jobs", "show"],
    &["jobs", "watch"],
    &["jobs", "cancel"],
    &["jobs", "retry"],
    &["jobs", "delete"],
    &["jobs", "timeline"],
    &["jobs", "result"],
    &["queues"],
    &["queues", "list"],
    &["queues", "show"],
    &["queues", "pause"],
    &["queues", "resume"],
    &["queues", "set"],
    &["workers"],
    &["workers", "list"],
    &["workers", "drain"],
    &["kinds"],
    &["explain"],
    &["episodes"],
    &["check-config"],
    &["metrics"],
    &["token"],
    &["bench"],
];

#[tokio::test]
async fn help_of_every_command() {
    let place = Place::new();
    let mut helps = Vec::new();
    for words in COMMANDS {
        let mut command = place.punctual(words);
        command.arg("--help").env("COLUMNS", "100");
        let said = run(command).await.ended(DONE);
        assert_eq!(said.err, "");
        let name = ["help"].iter().chain(*words).copied().collect::<Vec<_>>().join("-");
        helps.push((name, said.out));
    }
    insta::with_settings!({
        snapshot_path => "../snapshots",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        for (name, help) in helps {
            insta::assert_snapshot!(name, help);
        }
    });
    // No command is missing above.
    let top = place.run(&["--help"]).await.ended(DONE).out;
    let listed =
        top.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| !l.is_empty());
    for line in listed {
        let name = line.split_whitespace().next().expect("a name");
        assert!(COMMANDS.iter().any(|words| words.first() == Some(&name)), "{name}");
    }
    let version = place.run(&["--version"]).await.ended(DONE);
    assert_eq!(version.out, format!("punctual {}\n", env!("CARGO_PKG_VERSION")));
    place.run(&[]).await.ended(USAGE);
}
