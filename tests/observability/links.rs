//! Links to the documents: the file is there, and has the heading.

use std::path::Path;

use crate::files;
use crate::finding::Findings;

/// A heading's anchor, as a forge makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Of whatever links, only those into `docs/` are looked at.
pub fn check(url: &str, found: &mut Findings) {
    let Some((_, behind)) = url.split_once("/docs/") else { return };
    let (name, heading) = behind.split_once('#').unwrap_or((behind, ""));
    let file = format!("docs/{name}");
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join(&file).is_file() {
        found.say(format!("it links to {file}, which is not there"), "link to a file of docs/");
        return;
    }
    let text = files::read(&file);
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    let mut headings = headings.map(|line| anchor(line.trim_start_matches('#')));
    if !heading.is_empty() && !headings.any(|known| known == heading) {
        found.say(
            format!("it links to {file}#{heading}, and no heading is called so"),
            "write the section, or link to one that exists",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Findings {
        let mut found = Findings::default();
        check(url, found.at("here"));
        found
    }

    #[test]
    fn headings_have_anchors() {
        assert_eq!(anchor(" PunctualDown"), "punctualdown");
        assert_eq!(anchor(" Jobs: waiting, running, `ending`"), "jobs-waiting-running-ending");
    }

    #[test]
    fn a_link_into_nothing() {
        let docs = "https://punctual.example/docs";
        of(&format!("{docs}/RUNBOOKS.md#punctualdown")).none();
        of(&format!("{docs}/RUNBOOKS.md")).none();
        of("https://elsewhere.example/a").none();
        of(&format!("{docs}/RUNBOOK.md#punctualdown")).only(
            "here",
            "docs/RUNBOOK.md, which is not there",
            "link to a file",
        );
        of(&format!("{docs}/RUNBOOKS.md#punctualup")).only(
            "here",
            "docs/RUNBOOKS.md#punctualup, and no heading",
            "write the section",
        );
    }
}
