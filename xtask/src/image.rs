//! `cargo xtask image`: the steps of the Dockerfile without Docker.
//!
//! Its `RUN` lines build the program here; with a photograph it is then alone in a folder, in which a user
//! without rights runs it: what it says of itself, classes, a Parquet file, and a server that is asked.
//! Changing a process's root asks for root's rights.

use anyhow::{Context, Result, ensure};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const DOCKERFILE: &str = "Dockerfile";
/// The Dockerfile's folder of the build.
const BUILD_FOLDER: &str = "/polynet/";
/// A photograph in the image's `/data`, where a user's folder is mounted.
const PHOTO: &str = "crates/polynet/src/data/fixtures/images/photo.jpg";
/// A model there, to be served.
const MODEL: &str = "crates/polynet/pretrained";
/// What is asked of the program.
const TRIALS: [&[&str]; 4] = [
    &["--version"],
    &["inspect", "small-polynet"],
    &["predict", "/data/photo.jpg"],
    &[
        "predict",
        "/data/photo.jpg",
        "--out",
        "/data/out/classes.parquet",
    ],
];
/// The server, on a port that the system chooses.
const SERVER: [&str; 6] = [
    "serve",
    "/data/model",
    "--listen",
    "127.0.0.1:0",
    "--log",
    "json",
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
    fill(image.path())?;
    let user = format!("--userspec={}", steps.user);
    let program = || {
        let mut program = Command::new("chroot");
        program.arg(&user).arg(image.path()).arg(to);
        program
    };
    for arguments in TRIALS {
        crate::run(program().args(arguments))?;
    }
    let table = std::fs::read(image.path().join("data/out/classes.parquet"))?;
    ensure!(table.ends_with(b"PAR1"), "expected a Parquet file");
    let mut server = program();
    server.args(SERVER).stderr(Stdio::piped());
    let mut server = server.spawn().context("cannot start the server")?;
    let asked = ask(&mut server);
    let ended = stop(&mut server);
    asked.and(ended)
}

/// What a user mounts at `/data`, with a folder to write to; and of what Docker itself puts into every
/// container the one thing that is needed, random numbers.
fn fill(image: &Path) -> Result<()> {
    let devices = image.join("dev");
    std::fs::create_dir(&devices)?;
    for (name, minor) in [("random", "8"), ("urandom", "9")] {
        let mut node = Command::new("mknod");
        node.args(["-m", "444"]).arg(devices.join(name));
        crate::run(node.args(["c", "1", minor]))?;
    }
    let data = image.join("data");
    let (model, out) = (data.join("model"), data.join("out"));
    for folder in [&data, &model, &out] {
        std::fs::create_dir(folder)?;
    }
    std::fs::copy(PHOTO, data.join("photo.jpg")).with_context(|| format!("cannot copy {PHOTO}"))?;
    for file in ["config.json", "model.safetensors"] {
        let from = Path::new(MODEL).join(file);
        std::fs::copy(&from, model.join(file))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    // A temporary folder is its owner's alone.
    crate::run(Command::new("chmod").arg("755").arg(image))?;
    crate::run(Command::new("chmod").arg("777").arg(out))
}

/// Sends the photograph to a server that has just been started.
fn ask(server: &mut Child) -> Result<()> {
    let log = server.stderr.take().context("no log of the server")?;
    let mut lines = BufReader::new(log).lines().map_while(Result::ok);
    let address = lines
        .find_map(|line| {
            Some(
                line.split_once("\"address\":\"")?
                    .1
                    .split_once('"')?
                    .0
                    .to_owned(),
            )
        })
        .context("the server does not say where it listens")?;
    let photo = std::fs::read(PHOTO)?;
    let mut connection = TcpStream::connect(&address)
        .with_context(|| format!("no server at {address}, where it said"))?;
    write!(
        connection,
        "POST /classify HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        photo.len()
    )?;
    connection.write_all(&photo)?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    ensure!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"classes\""),
        "the server answered {answer}"
    );
    eprintln!("served: {}", answer.lines().last().unwrap_or_default());
    Ok(())
}

/// Stops the server as a container is stopped, which it ends by itself.
fn stop(server: &mut Child) -> Result<()> {
    crate::run(Command::new("kill").arg(server.id().to_string()))?;
    let status = server.wait()?;
    ensure!(status.success(), "the server that was stopped: {status}");
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
        assert!(steps.run[0].contains("cargo build --release --locked --features serve,parquet"));
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
