//! Where a file stands, and what it may therefore use.

use super::paths::{self, Use};
use super::table::{Row, Table, short};
use super::{DOCUMENT, LIBRARY};
use anyhow::Result;
use std::path::Path;

/// A Rust file of the workspace.
pub(super) struct Place {
    /// The short name of its crate.
    of_crate: String,
    /// Its module, `["grow", "tensors"]`; empty for the crate's root.
    module: Vec<String>,
    view: View,
}

/// How a file sees its crate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    /// From inside: it stands in `src`.
    Inside,
    /// From outside: a test, an example, a benchmark.
    Outside,
}

impl Place {
    /// The place of a file in a crate's folder.
    pub(super) fn new(folder: &Path, file: &Path) -> Result<Self> {
        let inside = file.strip_prefix(folder)?.with_extension("");
        let parts = inside
            .iter()
            .map(|part| part.to_string_lossy().into_owned());
        let mut module: Vec<String> = parts.collect();
        let view = match module.remove(0).as_str() {
            "src" => View::Inside,
            _ => View::Outside,
        };
        if module
            .last()
            .is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main"))
        {
            module.pop();
        }
        let name = folder.file_name().unwrap_or_default();
        Ok(Self {
            of_crate: short(&name.to_string_lossy()),
            module,
            view,
        })
    }

    /// Lines of the file's text and what is wrong with what they use.
    pub(super) fn problems(
        &self,
        table: &Table,
        text: &str,
    ) -> impl Iterator<Item = (usize, String)> {
        let uses = paths::of_file(text, &self.module).into_iter();
        uses.filter_map(|used| Some((used.line, self.problem(table, &used)?)))
    }

    /// The room; none for the library's root and for what stands outside its source.
    fn room<'a>(&'a self, table: &'a Table) -> Option<&'a Row> {
        let name = match (self.of_crate == LIBRARY, self.view) {
            (true, View::Inside) => self.module.first()?,
            (true, View::Outside) => return None,
            (false, _) => &self.of_crate,
        };
        table.row(name)
    }

    /// What is wrong with a use, and what to do.
    fn problem(&self, table: &Table, used: &Use) -> Option<String> {
        let room = self.room(table);
        let first = used.path.first()?;
        match first.as_str() {
            "crate" if self.of_crate == LIBRARY && self.view == View::Inside => {
                let name = used.path.get(1)?;
                self.use_of_room(table, room?, name, used)
            }
            "crate" => None,
            LIBRARY if self.of_crate == LIBRARY => None,
            LIBRARY => use_of_library(table, room?, used),
            _ => {
                let name = short(first);
                let is_ours = first.starts_with("polynet_");
                match (table.owners(&name), room) {
                    (None, Some(room)) if is_ours => self.use_of_room(table, room, &name, used),
                    (Some(owners), _) if !room.is_some_and(|room| room.may_use(&name)) => {
                        Some(format!(
                            "`{name}` is for {} alone: move this there, or do without",
                            list(&owners)
                        ))
                    }
                    _ => None,
                }
            }
        }
    }

    /// The room `name`, used by the room of `row`.
    fn use_of_room(&self, table: &Table, row: &Row, name: &str, used: &Use) -> Option<String> {
        let Row { room, may_use } = row;
        if name == room || row.may_use(name) {
            return None;
        }
        if table.row(name).is_none() {
            let path = used.path.join("::");
            return Some(format!(
                "`{room}` uses `{path}` from the root, where it stands for the library's users: write \
                 the path of its room"
            ));
        }
        Some(format!(
            "`{room}` uses `{name}`, but may use {}: move this to a room above both or what it needs to \
             one below both; or, if `{name}` can do without `{room}`, write it into {DOCUMENT}'s row of \
             `{room}`",
            list(may_use)
        ))
    }
}

/// The library, used by another crate.
fn use_of_library(table: &Table, row: &Row, used: &Use) -> Option<String> {
    let Row { room, may_use } = row;
    let path = used.path.join("::");
    let inner = used.path.get(1).filter(|name| table.row(name).is_some());
    let is_allowed = inner.map_or_else(|| row.may_use(LIBRARY), |inner| row.may_use(inner));
    (!is_allowed).then(|| {
        format!(
            "`{room}` uses `{path}`, but may use {}: take a name at the library's root, re-exporting it \
             there if users of the library want it, too",
            list(may_use)
        )
    })
}

/// `a`, `b` and `c`.
fn list(names: &[impl AsRef<str>]) -> String {
    let names: Vec<String> = names
        .iter()
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    match names.as_slice() {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
