//! Made-up workspaces that keep the table, and that break it.

use super::check_tree;
use std::path::PathBuf;

const TABLE: &str = "| room | holds | may use |\n|---|---|---|\n\
    | `polynet-kernels` | kernels | unsafe |\n\
    | `files.rs` | files | – |\n\
    | `arch/` | structures | files |\n\
    | `gpu/` | Burn | all above, burn |\n\
    | `train/` | the loop | all above |\n\
    | `polynet-cli` | the command | polynet, arch |\n\
    | `xtask` | checks | – |\n";

/// A workspace that keeps the table.
const KEPT: [(&str, &str); 16] = [
    ("ARCHITECTURE.md", TABLE),
    (
        "Cargo.toml",
        "[workspace.dependencies]\nburn = \"1\"\nrayon = \"1\"\npolynet = \"1\"\n\n[profile.dev]\n",
    ),
    ("crates/polynet/Cargo.toml", ""),
    (
        "crates/polynet/src/lib.rs",
        "pub mod arch;\npub use train::loops::Trainer;\n",
    ),
    ("crates/polynet/src/files.rs", "use std::fs;\n"),
    (
        "crates/polynet/src/arch/mod.rs",
        "mod cost;\nuse crate::files::write; // not crate::train\n",
    ),
    (
        "crates/polynet/src/arch/cost.rs",
        "use super::{super::files::{self, read}};\nuse rayon::iter;\n",
    ),
    (
        "crates/polynet/src/gpu/mod.rs",
        "use burn::tensor;\nuse crate::arch;\nuse polynet_kernels::conv;\n",
    ),
    (
        "crates/polynet/src/train/loops.rs",
        "fn f(x: crate::gpu::G) { crate::arch::g(\"burn::\") }\n",
    ),
    (
        "crates/polynet/tests/t.rs",
        "use polynet::train::Trainer;\n",
    ),
    ("crates/polynet-kernels/Cargo.toml", ""),
    (
        "crates/polynet-kernels/src/lib.rs",
        "fn f() { unsafe { crate::simd::g() } }\n",
    ),
    ("crates/polynet-cli/Cargo.toml", ""),
    (
        "crates/polynet-cli/src/main.rs",
        "use crate::x;\nuse polynet::{Trainer, arch::Report, self};\n",
    ),
    ("xtask/Cargo.toml", ""),
    ("xtask/src/main.rs", "use anyhow::Result;\n"),
];

/// A folder that goes when the test ends.
struct Workspace(PathBuf);

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is said of the workspace that keeps the table, after one file has another text.
fn check_with(test: &str, path: &str, text: &str) -> Result<(), String> {
    let name = format!("polynet-rooms-{}-{test}", std::process::id());
    let workspace = Workspace(std::env::temp_dir().join(name));
    for (path, text) in KEPT.iter().chain([&(path, text)]) {
        let path = workspace.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    check_tree(&workspace.0).map_err(|error| format!("{error:#}"))
}

#[test]
fn imports_of_allowed_rooms_pass() {
    assert_eq!(check_with("kept", "README.md", ""), Ok(()));
}

#[test]
fn what_breaks_the_table_is_named_with_file_and_line() {
    let cases = [
        (
            "crates/polynet/src/arch/cost.rs",
            "use crate::files;\n\nuse crate::train::loops::Trainer;\n",
            "crates/polynet/src/arch/cost.rs:3: `arch` uses `train`, but may use `files`: move",
        ),
        (
            "crates/polynet/src/arch/cost.rs",
            "use super::super::gpu;\n",
            "cost.rs:1: `arch` uses `gpu`",
        ),
        (
            "crates/polynet/src/files.rs",
            "fn f() { super::arch::g() }\n",
            "files.rs:1: `files` uses `arch`",
        ),
        (
            "crates/polynet/src/files.rs",
            "use polynet_kernels::Isa;\n",
            "may use nothing",
        ),
        (
            "crates/polynet/src/arch/mod.rs",
            "use crate::Trainer;\n",
            "`arch` uses `crate::Trainer` from the root",
        ),
        (
            "crates/polynet/src/train/loops.rs",
            "\nuse burn::tensor;\n",
            "loops.rs:2: `burn` is for `gpu` alone",
        ),
        (
            "crates/polynet/src/lib.rs",
            "fn f() { unsafe {} }\n",
            "lib.rs:1: `unsafe` is for `kernels` alone",
        ),
        (
            "crates/polynet/tests/t.rs",
            "use burn::tensor;\n",
            "tests/t.rs:1: `burn` is for `gpu` alone",
        ),
        (
            "crates/polynet-cli/src/main.rs",
            "use polynet::{Trainer,\n  train::Recipe};\n",
            "main.rs:2: `cli` uses `polynet::train::Recipe`, but may use `polynet` and `arch`: take",
        ),
        (
            "crates/polynet-cli/src/main.rs",
            "use polynet_kernels::Isa;\n",
            "`cli` uses `kernels`",
        ),
        (
            "xtask/src/main.rs",
            "use polynet::Model;\n",
            "`xtask` uses `polynet::Model`",
        ),
        (
            "crates/polynet/src/data.rs",
            "",
            "ARCHITECTURE.md: no row for the room `data`",
        ),
        (
            "ARCHITECTURE.md",
            &format!("{TABLE}| `plot/` | curves | – |\n"),
            "ARCHITECTURE.md: no room `plot`",
        ),
    ];
    for (number, (path, text, expected)) in cases.into_iter().enumerate() {
        let said = check_with(&format!("broken-{number}"), path, text).unwrap_err();
        assert!(said.contains(expected), "{text}: {said}");
        assert_eq!(said.lines().count(), 2, "{said}");
    }
}
