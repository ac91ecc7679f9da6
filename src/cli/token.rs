//! `punctual token`: a new token, and what the server's configuration gets in its place.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use rand::RngExt as _;
use serde::Serialize;

use super::output;
use super::{Done, Failure, Format, name};
use crate::domain::access::{DEFAULT_NAMESPACE, Scope, SecretHash, TOKEN_PREFIX};

/// The reach of a token for all namespaces.
const ALL: &str = "*";

#[derive(Debug, Args)]
#[command(
    about = "Make an access token, and the lines that let its holder in",
    long_about = "Make an access token, and the lines for the server's configuration that let its \
                  holder in.\n\nThe token is random, shown once and kept nowhere: the configuration \
                  has its hash only. Give it to its holder, for example as PUNCTUAL_TOKEN, add the \
                  lines to the file, and send the server SIGHUP. No server is asked.",
    after_long_help = "Examples:\n  punctual token --name shop-api --scope submit --namespace shop\n  \
                       punctual token --name renderer --scope work --queue reports\n  \
                       punctual token --name prometheus --scope metrics --json"
)]
pub(super) struct TokenArgs {
    /// What it is called in the server's log [default: token- and a few digits of its hash]
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// What it is for: submit, work, operate, metrics or read; repeat it
    #[arg(long, value_name = "SCOPE", default_value = "submit", value_parser = scope)]
    scope: Vec<&'static str>,
    /// Whose jobs; '*' for those of all, for tokens that do not submit
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NAMESPACE, value_parser = namespace)]
    namespace: String,
    /// A queue that it is for; repeat it [default: all]
    #[arg(long, value_name = "QUEUE", value_parser = name)]
    queue: Vec<String>,
    /// A kind that it is for; repeat it [default: all]
    #[arg(long, value_name = "KIND", value_parser = name)]
    kind: Vec<String>,
    #[command(flatten)]
    format: Format,
}

fn scope(text: &str) -> Result<&'static str, String> {
    let known = Scope::ALL.map(Scope::as_str);
    Scope::parse(text).map(Scope::as_str).ok_or_else(|| format!("use {}", known.join(", ")))
}

fn namespace(text: &str) -> Result<String, String> {
    if text == ALL { Ok(text.to_owned()) } else { name(text) }
}

/// What is printed; nothing else ever shows a token.
#[derive(Serialize)]
struct Made {
    token: String,
    sha256: String,
    name: String,
    toml: String,
}

pub(super) fn run(args: &TokenArgs) -> Done {
    if args.namespace == ALL && args.scope.contains(&Scope::Submit.as_str()) {
        let message = "a token that submits needs one namespace for its jobs; name it, or give \
                       other scopes with --scope";
        return Err(Failure::usage(message));
    }
    let made = make(args, &random());
    output::show(args.format.json, &made, || {
        format!(
            "{}\n\nThis token is shown only now; give it to its holder, for example as \
             PUNCTUAL_TOKEN.\nFor the configuration of the server, which takes it with SIGHUP:\n\n{}",
            made.token, made.toml
        )
    })
}

#[expect(clippy::disallowed_methods, reason = "a secret that nobody is to repeat")]
fn random() -> [u8; 32] {
    rand::rng().random()
}

fn make(args: &TokenArgs, random: &[u8; 32]) -> Made {
    use std::fmt::Write as _;
    let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let sha256 = SecretHash::of(token.as_bytes()).to_hex();
    let name = args.name.clone().unwrap_or_else(|| format!("token-{}", &sha256[..8]));
    // Names need no escaping, and one that was given twice counts once.
    let list = |items: &[&str]| {
        let mut once: Vec<&str> = Vec::new();
        for item in items {
            if !once.contains(item) {
                once.push(item);
            }
        }
        format!("[\"{}\"]", once.join("\", \""))
    };
    let mut toml = format!(
        "[[auth.tokens]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\nscopes = {}\nnamespace = \"{}\"\n",
        list(&args.scope),
        args.namespace,
    );
    for (key, names) in [("queues", &args.queue), ("kinds", &args.kind)] {
        if !names.is_empty() {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(toml, "{key} = {}", list(&names));
        }
    }
    Made { token, sha256, name, toml }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::domain::access::{Reach, Scopes};
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: TokenArgs,
    }

    fn parse(line: &[&str]) -> Result<TokenArgs, clap::Error> {
        Line::try_parse_from(std::iter::once(&"token").chain(line)).map(|line| line.args)
    }

    #[test]
    fn what_is_printed_is_a_configuration() {
        let line = ["--name", "a", "--scope", "work", "--scope", "read", "--namespace", "*"];
        let more = ["--queue", "q", "--queue", "r.s", "--kind", "k"];
        let args = parse(&[&line[..], &more[..]].concat()).unwrap();
        let made = make(&args, &[7; 32]);
        let config = Config::from_toml(&made.toml).unwrap();
        let [(hash, permit)] = &config.auth.tokens[..] else { panic!("one") };
        assert!(bool::from(hash.matches(&SecretHash::of(made.token.as_bytes()))));
        assert_eq!(permit.scopes, Scopes::of(&[Scope::Work, Scope::Read]));
        assert_eq!((permit.name.as_str(), &permit.reach), ("a", &Reach::All));
        assert_eq!(permit.lists.queues.as_ref().map(Vec::len), Some(2));
        assert_eq!(permit.lists.kinds.as_ref().map(Vec::len), Some(1));
        assert!(!made.toml.contains(&made.token));
    }

    #[test]
    fn the_least_is_a_token_that_submits() {
        let made = make(&parse(&[]).unwrap(), &[7; 32]);
        assert!(made.token.starts_with("pnct_") && made.token.len() == 48);
        assert!(made.toml.contains("scopes = [\"submit\"]\nnamespace = \"default\"\n"));
        assert!(Config::from_toml(&made.toml).is_ok(), "{}", made.toml);
        let random = || make(&parse(&[]).unwrap(), &random()).token;
        assert_ne!(random(), random());
    }

    #[test]
    fn what_is_given_twice_counts_once() {
        let line = ["--scope", "work", "--scope", "read", "--scope", "work"];
        let names = ["--queue", "b", "--queue", "a", "--queue", "b", "--kind", "k", "--kind", "k"];
        let made = make(&parse(&[&line[..], &names[..]].concat()).unwrap(), &[7; 32]);
        let lists = "scopes = [\"work\", \"read\"]\nnamespace = \"default\"\nqueues = [\"b\", \"a\"]\n\
                     kinds = [\"k\"]\n";
        assert!(made.toml.ends_with(lists), "{}", made.toml);
    }

    #[test]
    fn wrong_words_are_refused() {
        for line in [["--scope", "admin"], ["--name", "A B"], ["--queue", "_x"]] {
            assert!(parse(&line).is_err(), "{line:?}");
        }
        let failure = run(&parse(&["--namespace", "*"]).unwrap()).unwrap_err();
        assert!(failure.code == 2 && failure.message.contains("one namespace"));
    }
}
