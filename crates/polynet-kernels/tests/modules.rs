//! The law of the modules: each imports from those above it in the crate's table, and no two from each
//! other.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Every module by its path, and the code of its file up to its tests.
fn modules(folder: &Path, parent: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let module = [parent, &name].join(if parent.is_empty() { "" } else { "::" });
        if path.is_dir() {
            modules(&path, &module, found);
        } else if !name.contains("tests") && name != "lib" {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.lines().take_while(|line| *line != "#[cfg(test)]");
            // An indented `super` is the file itself, of a module in it; `pub(in …)` imports nothing.
            let code = code.filter(|line| {
                let text = line.trim_start();
                !text.starts_with("//")
                    && !text.starts_with("pub(in")
                    && !line.contains("  use super::*")
            });
            found.insert(module, code.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// The modules that a module's code names.
fn imports<'a>(module: &str, code: &str, all: &'a BTreeMap<String, String>) -> BTreeSet<&'a str> {
    let mut named = BTreeSet::new();
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let paths = [("crate::", ""), ("super::", parent), ("use ", module)];
    for (start, from) in paths {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let path = &code[at + start.len()..];
            let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            let path = path[..end.unwrap_or(path.len())].trim_end_matches(':');
            let path = [from, path].join(if from.is_empty() { "" } else { "::" });
            let is_inside = |other: &&String| {
                path == **other
                    || path
                        .strip_prefix(*other)
                        .is_some_and(|r| r.starts_with("::"))
            };
            let longest = all.keys().filter(is_inside).max_by_key(|name| name.len());
            named.extend(longest.filter(|name| *name != module).map(String::as_str));
        }
    }
    named
}

#[test]
fn modules_stand_in_the_order_of_the_table() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let text = fs::read_to_string(folder.join("lib.rs")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | "));
    let names = rows.filter_map(|row| row.split('`').nth(1));
    let table: Vec<&str> = names.collect();
    let mut all = BTreeMap::new();
    modules(&folder, "", &mut all);
    let outer: BTreeSet<&str> = all
        .keys()
        .filter_map(|name| name.split("::").next())
        .collect();
    assert_eq!(
        outer,
        table.iter().copied().collect(),
        "the table has every module"
    );
    let place = |module: &str| {
        table
            .iter()
            .position(|name| module.split("::").next() == Some(name))
    };
    let mut edges = 0;
    for (module, code) in &all {
        for import in imports(module, code, &all) {
            edges += 1;
            assert!(place(import) <= place(module), "{module} imports {import}");
        }
    }
    assert!(edges > 60, "imports are found: {edges}");
}

#[test]
fn no_two_modules_import_each_other() {
    let mut all = BTreeMap::new();
    modules(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        "",
        &mut all,
    );
    let mut left: BTreeMap<&str, BTreeSet<&str>> = all
        .iter()
        .map(|(module, code)| (module.as_str(), imports(module, code, &all)))
        .collect();
    while !left.is_empty() {
        let is_free =
            |imports: &BTreeSet<&str>| imports.iter().all(|name| !left.contains_key(name));
        let free: Vec<&str> = (left.iter().filter(|(_, imports)| is_free(imports)))
            .map(|(module, _)| *module)
            .collect();
        assert!(!free.is_empty(), "a circle of imports: {left:#?}");
        left.retain(|module, _| !free.contains(module));
    }
}
