//! `punctual check-config`, and how `punctual serve` refuses to start.

use crate::place::{DONE, NO, Place, Said, USAGE};

const BAD: &str = "[server]\nlistn = \"x\"\n[jobs]\nlease = \"0s\"\nmax_attempts = \"many\"\n";

/// All of them, each with its file and line.
#[track_caller]
fn tells_all(said: &Said) {
    assert_eq!(said.out, "");
    assert_eq!(said.err.lines().count(), 3, "{}", said.err);
    for part in [
        "bad.toml:2: server.listn",
        "did you mean server.listen",
        "bad.toml:4: jobs.lease",
        "bad.toml:5",
    ] {
        assert!(said.err.contains(part), "{part} is not in {}", said.err);
    }
}

#[tokio::test]
async fn check_config_prints_what_is_in_force_or_everything_that_is_wrong() {
    let place = Place::new();
    place.write("good.toml", "[jobs]\nlease = \"1m\"\n");
    place.write("bad.toml", BAD);
    let good = place.run(&["check-config", "good.toml"]).await.ended(DONE).out;
    assert!(good.starts_with("ok: good.toml, hash "), "{good}");
    assert!(good.contains("\nlease = \"1m\"\n"), "{good}");
    let none = place.run(&["check-config"]).await.ended(DONE).out;
    assert!(none.contains("the defaults"), "{none}");
    // What it prints is a configuration itself.
    place.write("printed.toml", none.split_once("\n\n").expect("a heading").1);
    place.run(&["check-config", "printed.toml"]).await.ended(DONE);

    tells_all(&place.run(&["check-config", "bad.toml"]).await.ended(USAGE));
    let json = place.run(&["check-config", "--json", "bad.toml"]).await.ended(USAGE).json();
    assert_eq!((&json["ok"], &json["errors"][0]["line"]), (&false.into(), &2.into()), "{json}");
    let json = place.run(&["check-config", "--json", "good.toml"]).await.ended(DONE).json();
    assert_eq!(json["ok"], true);
    let missing = place.run(&["check-config", "nope.toml"]).await.ended(USAGE);
    assert!(missing.err.contains("nope.toml: no such file"), "{}", missing.err);
    let mut command = place.punctual(&["check-config"]);
    command.env("PUNCTUAL_JOBS__LEASE", "never");
    let said = crate::place::run(command).await.ended(USAGE);
    assert!(said.err.contains("PUNCTUAL_JOBS__LEASE"), "{}", said.err);
}

#[tokio::test]
async fn serve_refuses_what_cannot_work_and_says_what_can() {
    let place = Place::new();
    place.write("bad.toml", BAD);
    tells_all(&place.run(&["serve", "--config", "bad.toml"]).await.ended(USAGE));
    for (line, part) in [
        (&["serve", "--listen", "nonsense"][..], "write for example \"127.0.0.1:8080\""),
        (&["serve", "--listen", "0.0.0.0:0"], "auth.mode = \"off\""),
        (&["serve", "--store", "mysql://x"], "write sqlite://PATH"),
        (&["serve", "--config", "nope.toml"], "name an existing file"),
    ] {
        place.run(line).await.ended(USAGE).complains(&[part]);
    }
    place.run(&["serve", "--listne", "x"]).await.ended(USAGE);
    place.run(&["serve", "now"]).await.ended(USAGE);

    let free = "127.0.0.1:0";
    let taken = place.run(&["serve", "--listen", free, "--store", "sqlite://jobs.db"]).await;
    taken.ended(NO).complains(&["another server holds", "--store sqlite://PATH"]);
    let place_of = place.url().replace("http://", "");
    let taken = place.run(&["serve", "--listen", &place_of]).await.ended(NO);
    assert!(taken.err.contains("choose another with --listen"), "{}", taken.err);
    let nowhere = ["serve", "--listen", free, "--store", "sqlite://no/such/dir/jobs.db"];
    place.run(&nowhere).await.ended(NO).complains(&["check that the directory exists"]);
}
