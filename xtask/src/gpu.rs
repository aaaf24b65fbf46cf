//! `cargo xtask gpu`: the program on an NVIDIA GPU, against the processor and beside PyTorch.
//!
//! Builds the program for a GPU and packs it with `peers/gpu.py` and what that reads, for a machine that
//! has PyTorch but no toolchain; where there is a GPU here, the script runs at once. What it has measured
//! is printed as tables for docs/performance.md by `--table`.

use crate::cargo;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Build for a GPU, check it against the processor and measure it beside PyTorch
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How the program reaches the GPU
    #[arg(long, value_enum, default_value = "cuda")]
    backend: Backend,
    /// Where the archive for another machine goes
    #[arg(long, default_value = "target/gpu", value_name = "DIR")]
    out: PathBuf,
    /// Print the tables of a results file instead
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Backend {
    /// The driver for NVIDIA GPUs; the build downloads an LLVM bundle
    Cuda,
    /// Any driver for Vulkan
    Vulkan,
}

impl Backend {
    fn feature(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Vulkan => "gpu",
        }
    }

    /// `polynet … --device`
    fn device(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Vulkan => "gpu",
        }
    }
}

/// Where systems keep the loader of Vulkan's drivers.
const VULKAN_LOADERS: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/libvulkan.so.1",
    "/usr/lib64/libvulkan.so.1",
    "/usr/lib/libvulkan.so.1",
];
/// The folder in the archive.
const BUNDLE: &str = "polynet-gpu";
/// What the script reads, and its name beside it.
const FILES: [(&str, &str); 4] = [
    ("peers/gpu.py", "gpu.py"),
    ("peers/graph_network.py", "graph_network.py"),
    ("recipes/first.toml", "first.toml"),
    ("assets/cifar10-small.tar", "photographs.tar"),
];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(results) = &arguments.table {
        let text = std::fs::read_to_string(results)
            .with_context(|| format!("cannot read {}", results.display()))?;
        print!("{}", tables(&serde_json::from_str(&text)?)?);
        return Ok(());
    }
    let bundle = arguments.out.join(BUNDLE);
    pack(&bundle, arguments)?;
    let device = arguments.backend.device();
    let archive = arguments.out.join(format!("{BUNDLE}.tar.gz"));
    let mut tar = Command::new("tar");
    crate::run(
        tar.arg("-czf")
            .arg(&archive)
            .arg("-C")
            .args([&arguments.out, Path::new(BUNDLE)]),
    )?;
    println!(
        "on a machine with an NVIDIA GPU and PyTorch:\n  tar -xzf {BUNDLE}.tar.gz && python3 {BUNDLE}/gpu.py \
         --device {device}\nwith {}; then here: cargo xtask gpu --table gpu.json",
        archive.display()
    );
    if Command::new("nvidia-smi")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        let mut script = Command::new("python3");
        script
            .arg(bundle.join("gpu.py"))
            .args(["--device", device, "--out"]);
        crate::run(script.arg(arguments.out.join("gpu.json")))?;
    }
    Ok(())
}

/// Builds the program and lays it into a folder with the script.
fn pack(bundle: &Path, arguments: &Arguments) -> Result<()> {
    let target = arguments.out.join("build");
    let mut build = cargo(&["build", "--release", "--package", "polynet-cli"]);
    build.args(["--features", arguments.backend.feature(), "--target-dir"]);
    crate::run(build.arg(&target))?;
    std::fs::create_dir_all(bundle).with_context(|| format!("cannot make {}", bundle.display()))?;
    let program = target.join("release/polynet");
    let program = program.to_str().context("the path of --out is no text")?;
    for (from, name) in FILES.iter().chain([&(program, "polynet")]) {
        std::fs::copy(from, bundle.join(name)).with_context(|| format!("cannot copy {from}"))?;
    }
    if let Backend::Vulkan = arguments.backend {
        // A machine for computing has NVIDIA's driver, but often not the loader.
        let loader = VULKAN_LOADERS.iter().find(|path| Path::new(path).exists());
        let loader = loader.context("libvulkan.so.1 is missing: install Debian's libvulkan1")?;
        std::fs::copy(loader, bundle.join("libvulkan.so.1"))
            .with_context(|| format!("cannot copy {loader}"))?;
    }
    Ok(())
}

/// Results of `peers/gpu.py` as Markdown.
fn tables(results: &Value) -> Result<String> {
    let records = |key: &str| {
        let records = results[key].as_array();
        records.with_context(|| format!("expected the results of peers/gpu.py, found no `{key}`"))
    };
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let machine = &results["machine"];
    let mut out = format!(
        "{}, driver {}; PyTorch {}, CUDA {}; `--device {}`\n\n",
        text(&machine["gpu"]),
        text(&machine["driver"]),
        text(&machine["torch"]),
        text(&machine["cuda"]),
        text(&results["device"]),
    );
    out += "| parity with the processor | error | limit |\n|---|---:|---:|\n";
    for record in records("parity")? {
        let error = record["error"].as_f64();
        let error = error.map_or_else(|| left_out(record), |error| format!("{error:.1e}"));
        let limit = record["limit"].as_f64();
        let limit = limit.map_or_else(String::new, |limit| format!("{limit:.0e}"));
        out += &format!("| {} | {error} | {limit} |\n", text(&record["what"]));
    }
    out +=
        "\n| work | polynet | PyTorch, channels-last | ratio of speeds |\n|---|---:|---:|---:|\n";
    for record in records("rows")? {
        let sides = [&record["polynet"], &record["pytorch"]];
        let [ours, theirs] = sides.map(speed);
        let ratio = match sides.map(|side| side["images_per_s"].as_f64()) {
            [Some(ours), Some(theirs)] => format!("{:.2}", ours / theirs),
            _ => String::new(),
        };
        let [work, network, precision] =
            ["work", "network", "precision"].map(|key| text(&record[key]));
        let size = &record["size"];
        out +=
            &format!("| {work} {network} {size}², {precision} | {ours} | {theirs} | {ratio} |\n");
    }
    ensure!(!records("rows")?.is_empty(), "the results have no rows");
    Ok(out)
}

/// Images a second, batch and memory of one side of a row.
fn speed(side: &Value) -> String {
    let Some(speed) = side["images_per_s"].as_f64() else {
        return left_out(side);
    };
    let gibibytes = side["peak_bytes"].as_f64().unwrap_or_default() / f64::from(1 << 30);
    let way = side["way"].as_str().map(|way| format!("{way}, "));
    format!(
        "{speed:.0} images/s ({}batch {}, {gibibytes:.1} GiB)",
        way.unwrap_or_default(),
        side["batch"]
    )
}

fn left_out(record: &Value) -> String {
    format!(
        "– ({})",
        record["left_out"].as_str().unwrap_or("not measured")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn results_become_tables() {
        let side =
            |speed: f64| json!({"batch": 64, "images_per_s": speed, "peak_bytes": 3_u64 << 29});
        let mut eager = side(100.0);
        eager["way"] = json!("eager");
        let results = json!({
            "device": "cuda",
            "machine": {"gpu": "A GPU", "driver": "1", "torch": "2", "cuda": "13"},
            "parity": [
                {"what": "logits", "error": 2.04e-6, "limit": 1e-4},
                {"what": "losses", "limit": 1e-3, "left_out": "no time left"},
            ],
            "rows": [
                {"work": "train", "network": "a", "size": 32, "precision": "f32", "polynet": side(50.0), "pytorch": eager},
                {"work": "predict", "network": "a", "size": 32, "precision": "f32", "polynet": side(50.0), "pytorch": {"left_out": "no batch"}},
            ],
        });
        let tables = super::tables(&results).unwrap();
        let expected = "A GPU, driver 1; PyTorch 2, CUDA 13; `--device cuda`\n\n\
            | parity with the processor | error | limit |\n|---|---:|---:|\n\
            | logits | 2.0e-6 | 1e-4 |\n\
            | losses | – (no time left) | 1e-3 |\n\n\
            | work | polynet | PyTorch, channels-last | ratio of speeds |\n|---|---:|---:|---:|\n\
            | train a 32², f32 | 50 images/s (batch 64, 1.5 GiB) | 100 images/s (eager, batch 64, 1.5 GiB) | 0.50 |\n\
            | predict a 32², f32 | 50 images/s (batch 64, 1.5 GiB) | – (no batch) |  |\n";
        assert_eq!(tables, expected);
        let error = super::tables(&json!({})).unwrap_err().to_string();
        assert!(error.contains("found no `parity`"), "{error}");
    }
}
