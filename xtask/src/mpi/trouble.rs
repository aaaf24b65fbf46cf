//! Ranks that hang, whose network is gone or whose disk is full: all end, no finished step is lost, and the
//! run goes on to the weights of an undisturbed one.

use super::launch::{self, Run, recorded_step};
use super::{last_rank_at_work, model};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// For how long ranks wait for one another where one hangs: longer than a busy machine keeps one from its
/// turn.
const PATIENCE_S: &str = "20";
const PATIENCE: &str = "POLYNET_RANK_PATIENCE";
/// The addresses of the two ends of a network of this machine's own.
const ADDRESSES: [&str; 2] = ["10.255.77.1", "10.255.77.2"];

pub(super) fn run(program: &Path, folder: &Path) -> Result<()> {
    a_full_disk_ends_all(program, folder)?;
    a_hung_rank_ends_all(program, folder)?;
    a_lost_network_ends_all(program, folder)
}

/// Goes on with a run by 4 ranks; it must come to the weights of the one in `equal-1`.
fn comes_to_the_same(program: &Path, folder: &Path, out: &Path) -> Result<()> {
    let ended = Run::resume(program, 4, out).wait()?;
    ensure!(ended.is_success, "the run did not go on:\n{}", ended.errors);
    let same = model(out)? == model(&folder.join("equal-1"))?;
    ensure!(same, "{} has come to other weights", out.display());
    Ok(())
}

/// Files may not become as large as a checkpoint, which the system says to whoever asks, and a full disk
/// says to everyone.
fn a_full_disk_ends_all(program: &Path, folder: &Path) -> Result<()> {
    let checkpoint = newest_checkpoint(&folder.join("equal-1"))?;
    let blocks = std::fs::metadata(checkpoint)?.len() / 512 - 1;
    let out = folder.join("full");
    let mut limited = launch::mpirun(2);
    limited.args(["sh", "-c"]);
    limited.arg(format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\""));
    limited.arg("sh");
    let ended = Run::start_by(limited, program, &out).wait()?;
    let says =
        ended.errors.contains("File too large") && ended.errors.contains("checkpoints/step-");
    ensure!(
        !ended.is_success && says,
        "the full disk did not end the run, or nothing says why:\n{}",
        ended.errors
    );
    comes_to_the_same(program, folder, &out)?;
    println!("ok: a full disk ended 2 ranks; 4 ranks came to the same weights");
    Ok(())
}

/// A rank that is there but does nothing, as one whose machine hangs.
fn a_hung_rank_ends_all(program: &Path, folder: &Path) -> Result<()> {
    let out = folder.join("hung");
    let run = Run::start(program, 2, &out).with_variable(PATIENCE, PATIENCE_S);
    let mut running = run.spawn()?;
    let last = last_rank_at_work(&mut running, &out)?;
    launch::signal("-STOP", last)?;
    let ended = running.wait()?;
    ensure!(!ended.is_success, "a rank hangs, and the run ends well");
    names_the_patience_and_loses_nothing(&out, &ended.errors)?;
    comes_to_the_same(program, folder, &out)?;
    println!("ok: a rank that hung ended the other; 4 ranks came to the same weights");
    Ok(())
}

/// Two ranks on two hosts whose link is cut. The hosts are network namespaces, which root alone can make.
fn a_lost_network_ends_all(program: &Path, folder: &Path) -> Result<()> {
    let network = match Network::new() {
        Ok(network) => network,
        Err(error) => {
            println!("left out: a lost network ends all ranks: {error:#}");
            return Ok(());
        }
    };
    let out = folder.join("cut");
    let mut running = Run::start_by(network.mpirun(folder)?, program, &out).spawn()?;
    let has_saved = running.wait_for_checkpoint(&out)?;
    ensure!(has_saved, "the run ended too early to be disturbed");
    network.cut()?;
    let ranks = launch::processes_of(program);
    ensure!(ranks.len() == 2, "expected 2 ranks, found {ranks:?}");
    launch::wait_for_end(&ranks);
    // It waits for its own process on the host that it can't reach.
    launch::signal("-KILL", running.id())?;
    names_the_patience_and_loses_nothing(&out, &running.wait()?.errors)?;
    comes_to_the_same(program, folder, &out)?;
    println!("ok: a lost network ended the ranks on both hosts; 4 ranks came to the same weights");
    Ok(())
}

fn names_the_patience_and_loses_nothing(out: &Path, errors: &str) -> Result<()> {
    let says = errors.contains(&format!("{PATIENCE} allows ({PATIENCE_S},"));
    ensure!(says, "nothing says why the run has ended:\n{errors}");
    let (newest, recorded) = (newest_checkpoint(out)?, recorded_step(out));
    let expected = format!("step-{recorded:09}.safetensors");
    ensure!(
        newest.ends_with(&expected),
        "{recorded} steps are recorded, and the newest checkpoint is {}",
        newest.display()
    );
    Ok(())
}

fn newest_checkpoint(out: &Path) -> Result<PathBuf> {
    let folder = out.join("checkpoints");
    let entries = std::fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?;
    let newest = entries.into_iter().map(|entry| entry.path()).max();
    newest.with_context(|| format!("no checkpoint in {}", folder.display()))
}

/// Two hosts with one link between them, gone when it is dropped.
struct Network {
    hosts: [String; 2],
}

impl Network {
    fn new() -> Result<Self> {
        let hosts = ["a", "b"].map(|end| format!("pn{end}{}", std::process::id()));
        let network = Self { hosts };
        let [a, b] = &network.hosts;
        for host in [a, b] {
            ip(&["netns", "add", host])?;
        }
        ip(&[
            "link", "add", a, "netns", a, "type", "veth", "peer", "name", b, "netns", b,
        ])?;
        for (host, address) in network.hosts.iter().zip(ADDRESSES) {
            let address = format!("{address}/24");
            ip(&["-n", host, "addr", "add", &address, "dev", host])?;
            ip(&["-n", host, "link", "set", "lo", "up"])?;
            ip(&["-n", host, "link", "set", host, "up"])?;
        }
        Ok(network)
    }

    /// mpirun on the first host, a rank on each. `folder` gets what starts processes on the second.
    fn mpirun(&self, folder: &Path) -> Result<Command> {
        let agent = folder.join("agent.sh");
        let host = &self.hosts[1];
        // The first argument is the host's address.
        let text = format!("shift\nexec ip netns exec {host} sh -c \"$*\"\n");
        std::fs::write(&agent, text).context("cannot write the agent")?;
        let local = launch::mpirun(2);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.hosts[0]]);
        command.arg(local.get_program()).args(local.get_args());
        for (name, value) in local.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let [a, b] = ADDRESSES;
        command.args(["--host", &format!("{a}:1,{b}:1")]);
        command.args(["--mca", "btl", "tcp,self", "--mca", "plm_rsh_agent"]);
        command.arg(format!("sh {}", agent.display())).args([
            "-x",
            "RAYON_NUM_THREADS",
            "-x",
            PATIENCE,
        ]);
        command.env(PATIENCE, PATIENCE_S);
        Ok(command)
    }

    fn cut(&self) -> Result<()> {
        let host = &self.hosts[0];
        ip(&["-n", host, "link", "set", host, "down"])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &self.hosts {
            // The link goes with its ends.
            let _ = ip(&["netns", "del", host]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot start ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let command = arguments.join(" ");
    ensure!(output.status.success(), "ip {command}: {}", said.trim());
    Ok(())
}
