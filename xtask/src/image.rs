//! `cargo xtask image`: the steps of the Dockerfile without Docker.
//!
//! Its `RUN` lines build the program here; with a photograph it is then alone in a folder, in which a user
//! without rights runs it. Changing a process's root asks for root's rights.

use anyhow::{Context, Result, ensure};
use std::process::Command;

const DOCKERFILE: &str = "Dockerfile";
/// The Dockerfile's folder of the build.
const BUILD_FOLDER: &str = "/polynet/";
/// A photograph in the image's `/data`, where a user's folder is mounted.
const PHOTO: &str = "crates/polynet/src/data/fixtures/images/photo.jpg";
/// What is asked of the program.
const TRIALS: [&[&str]; 3] = [
    &["--version"],
    &["inspect", "small-polynet"],
    &["predict", "/data/photo.jpg"],
];

/// The steps of a Dockerfile.
#[derive(Debug, PartialEq, Eq)]
struct Steps<'a> {
    /// Lines for the shell.
    run: Vec<&'a str>,
    /// The program in the build's folder, and in the image.
    program: [&'a str; 2],
    user: &'a str,
}

impl<'a> Steps<'a> {
    fn of(dockerfile: &'a str) -> Result<Self> {
        let after = |word: &'a str| {
            let lines = dockerfile.lines();
            lines.filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '))
        };
        let only = |word| {
            let mut found = after(word);
            let first = found.next();
            let first = first.with_context(|| format!("expected `{word}` in the {DOCKERFILE}"))?;
            ensure!(
                found.next().is_none(),
                "expected one `{word}` in the {DOCKERFILE}"
            );
            Ok(first)
        };
        let copied = only("COPY --from=build")?;
        let (from, to) = copied
            .split_once(' ')
            .context("expected `COPY --from=build FROM TO`")?;
        let from = from
            .strip_prefix(BUILD_FOLDER)
            .with_context(|| format!("expected a program in {BUILD_FOLDER}, found {from}"))?;
        Ok(Self {
            run: after("RUN").collect(),
            program: [from, to],
            user: only("USER")?,
        })
    }
}

pub(crate) fn run() -> Result<()> {
    let dockerfile = std::fs::read_to_string(DOCKERFILE)
        .with_context(|| format!("cannot read the {DOCKERFILE}"))?;
    let steps = Steps::of(&dockerfile)?;
    for line in &steps.run {
        crate::run(Command::new("sh").args(["-c", line]))?;
    }
    let image = tempfile::tempdir()?;
    let [from, to] = steps.program;
    let place = image.path().join(to.trim_start_matches('/'));
    std::fs::copy(from, place).with_context(|| format!("cannot copy {from}"))?;
    let data = image.path().join("data");
    std::fs::create_dir(&data)?;
    std::fs::copy(PHOTO, data.join("photo.jpg")).with_context(|| format!("cannot copy {PHOTO}"))?;
    // A temporary folder is its owner's alone.
    crate::run(Command::new("chmod").arg("755").arg(image.path()))?;
    let user = format!("--userspec={}", steps.user);
    for arguments in TRIALS {
        let mut trial = Command::new("chroot");
        crate::run(trial.arg(&user).arg(image.path()).arg(to).args(arguments))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dockerfile_is_understood() {
        let dockerfile = include_str!("../../Dockerfile");
        let steps = Steps::of(dockerfile).unwrap();
        assert_eq!(steps.program, ["target/image/polynet", "/polynet"]);
        assert_eq!(steps.user, "65532:65532");
        assert!(steps.run[0].contains("cargo build --release --locked --features serve"));
        assert_eq!(steps.run.len(), 2);
    }

    #[test]
    fn another_user_or_none_is_an_error() {
        let copied = "COPY --from=build /polynet/a /a";
        for (text, expected) in [
            (copied.to_owned(), "expected `USER`"),
            (format!("{copied}\nUSER 1\nUSER 2"), "expected one `USER`"),
            (
                "COPY --from=build /a /a\nUSER 1".to_owned(),
                "expected a program in /polynet/",
            ),
        ] {
            let error = Steps::of(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
