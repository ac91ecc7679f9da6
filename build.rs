//! Tells the crate what it is built from: `BUILT_REVISION`, the short git revision, or `unknown`
//! when this is no checkout of its own or git is missing. Nothing here may fail the build. (Cargo
//! also hands the variable to what it runs, so it must not look like a configuration key.)

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let revision = revision().unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=BUILT_REVISION={revision}");
}

fn revision() -> Option<String> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from)?;
    // Sources that lie somewhere in another project's checkout are not of its revision.
    let top = git(&here, &["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != here.canonicalize().ok()? {
        return None;
    }
    // Both change with each commit and each checkout, and with nothing else. A file that is not
    // there would count as changed at every build.
    for file in ["HEAD", "logs/HEAD"] {
        let path = here.join(git(&here, &["rev-parse", "--git-path", file])?);
        if path.exists() {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    git(&here, &["rev-parse", "--short=12", "HEAD"])
}

fn git(dir: &Path, words: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(dir).args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
