//! `punctual token`, and what the other commands say with a token, without one and with the wrong one.

use crate::place::{DONE, NO, Place, Said, USAGE, run};

/// A command with a token in its environment.
async fn with(place: &Place, token: &str, words: &[&str]) -> Said {
    let mut command = place.punctual(words);
    command.env("PUNCTUAL_TOKEN", token);
    run(command).await
}

#[tokio::test]
async fn a_token_is_made_put_in_force_and_used() {
    let place = Place::new();
    let made = ["token", "--name", "shop", "--scope", "submit", "--json"];
    let shop = place.run(&made).await.ended(DONE).json();
    let made = ["token", "--name", "hands", "--scope", "work", "--queue", "mail"];
    let said = place.run(&made).await.ended(DONE).out;
    let (hands, toml) = said.split_once("\n\n").expect("a token, and more");
    let toml = toml.split_once("SIGHUP:\n\n").expect("lines for the file").1;
    assert!(hands.starts_with("pnct_") && !toml.contains(hands), "{said}");
    let shop_toml = shop["toml"].as_str().expect("lines for the file");
    place.write("punctual.toml", &format!("{shop_toml}\n{toml}"));
    place.run(&["check-config"]).await.ended(DONE);
    place.server().signal("HUP");
    crate::server::until("the tokens", || async {
        place.server().log().contains("configuration read again").then_some(())
    })
    .await;

    let none = place.run(&["jobs", "list"]).await.ended(NO);
    none.complains(&["401 unauthenticated", "PUNCTUAL_TOKEN", "--token-env"]);
    with(&place, "pnct_wrong", &["jobs", "list"]).await.ended(NO).complains(&["no such token"]);
    with(&place, "two words", &["jobs", "list"]).await.ended(NO).complains(&["401"]);
    let token = shop["token"].as_str().expect("a token");
    with(&place, hands, &["jobs", "list"])
        .await
        .ended(NO)
        .complains(&["403 insufficient-scope", "scope read; hands has work"]);
    let paused = with(&place, token, &["queues", "pause", "mail"]).await.ended(NO);
    paused.complains(&["403 insufficient-scope", "operate"]);

    let id = with(&place, token, &["submit", "send", "--queue", "mail", "--json"]).await;
    let id = id.ended(DONE).json()["job_id"].as_str().expect("an id").to_owned();
    let mut worker = place.punctual(&["work", "--queue", "mail", "--token-env", "MINE", "--exec"]);
    worker.arg("cat").env("MINE", hands);
    let worker = crate::place::Hand::start(worker);
    let done = ["jobs", "result", &id];
    crate::server::until("the result", || async {
        (with(&place, token, &done).await.code == DONE).then_some(())
    })
    .await;
    let other = place.punctual(&["work", "--queue", "other", "--exec", "cat"]);
    let mut other = other;
    other.env("PUNCTUAL_TOKEN", hands);
    let refused = run(other).await.ended(NO);
    assert!(refused.err.contains("not for queue other"), "{}", refused.err);
    drop(worker);
    for said in [place.server().log(), none.err, paused.err, refused.err] {
        assert!(!said.contains(hands) && !said.contains(token), "{said}");
    }
}

#[tokio::test]
async fn tokens_differ_and_wrong_words_are_refused() {
    let place = Place::new();
    let one = place.run(&["token"]).await.ended(DONE).out;
    assert_ne!(one, place.run(&["token"]).await.ended(DONE).out);
    for wrong in [&["--scope", "admin"][..], &["--namespace", "*"], &["--name", "A"]] {
        place.run(&[&["token"][..], wrong].concat()).await.ended(USAGE);
    }
}
