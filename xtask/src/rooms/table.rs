//! The table of rooms in ARCHITECTURE.md.
//!
//! ```text
//! | room | holds | may use |
//! |---|---|---|
//! | `polynet-kernels` | kernels | unsafe |
//! | `files.rs` | files written whole or not at all | – |
//! | `gpu/` | graphs by Burn | kernels, files, burn |
//! | `polynet-cli` | the command | polynet, gpu |
//! ```
//!
//! A row may use rooms above it, `all above`, `unsafe`, crates that then are for the rows alone that
//! name them, and `polynet`: the names at the library's root. What stands in
//! parentheses is a remark.

use anyhow::{Context, Result, bail, ensure};

const HEADER: [&str; 3] = ["room", "holds", "may use"];
/// A row that may use no room.
const NOTHING: [&str; 4] = ["–", "-", "nothing", ""];

/// The rooms, those that use no others first.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
}

/// A room and what it may use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// A folder or file of the library, or a crate's short name.
    pub(super) room: String,
    /// Rooms, crates of others, `unsafe`, and `polynet`, the library's root.
    pub(super) may_use: Vec<String>,
}

impl Row {
    pub(super) fn may_use(&self, name: &str) -> bool {
        self.may_use.iter().any(|used| used == name)
    }
}

impl Table {
    /// Reads the table; `dependencies` are the crates of others that a row may name.
    ///
    /// # Errors
    ///
    /// No table; a row without three columns; a room twice; a name in the last column that is no
    /// room above and no dependency.
    pub(super) fn parse(document: &str, dependencies: &[String]) -> Result<Self> {
        let mut lines = document
            .lines()
            .map(cells)
            .skip_while(|cells| *cells != HEADER);
        let expected = format!("`| {} |`", HEADER.join(" | "));
        lines
            .next()
            .with_context(|| format!("expected a table that opens with {expected}"))?;
        let mut table = Self { rows: Vec::new() };
        for cells in lines.skip(1).take_while(|cells| !cells.is_empty()) {
            let [room, _, may_use] = cells.as_slice() else {
                bail!(
                    "expected {expected}, came a row of {} columns: {}",
                    cells.len(),
                    cells.join(" | ")
                );
            };
            let room = short(&without_remarks(room));
            ensure!(
                table.row(&room).is_none(),
                "`{room}` has two rows; join them"
            );
            let may_use = table
                .allowed(&room, may_use, dependencies)
                .with_context(|| format!("the row of `{room}`"))?;
            table.rows.push(Row { room, may_use });
        }
        ensure!(
            !table.rows.is_empty(),
            "expected a row for each room after {expected}"
        );
        Ok(table)
    }

    pub(super) fn row(&self, room: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.room == room)
    }

    /// The rows that name a crate of others, or `unsafe`; `None` for what everyone may use.
    pub(super) fn owners(&self, name: &str) -> Option<Vec<&str>> {
        let owners = self.rows.iter().filter(|row| row.may_use(name));
        let owners: Vec<&str> = owners.map(|row| row.room.as_str()).collect();
        let is_for_some = name == "unsafe" || !owners.is_empty();
        (is_for_some && self.row(name).is_none()).then_some(owners)
    }

    /// The names in the last column; the table has the rows above.
    fn allowed(&self, room: &str, text: &str, dependencies: &[String]) -> Result<Vec<String>> {
        let mut allowed = Vec::new();
        for name in without_remarks(text).split(',').map(short) {
            if NOTHING.contains(&name.as_str()) {
                continue;
            }
            if name == "all above" {
                allowed.extend(self.rows.iter().map(|row| row.room.clone()));
                continue;
            }
            let is_crate = dependencies
                .iter()
                .any(|crate_name| short(crate_name) == name);
            ensure!(
                self.row(&name).is_some() || is_crate || name == "unsafe",
                "`{name}` is no room above and no dependency of the workspace; rooms stand below those \
                 that they use, so that there is no circle: move the row of `{room}`, or mend the name"
            );
            allowed.push(name);
        }
        Ok(allowed)
    }
}

/// A room's or a crate's name as other tables and code may write it: `…/grow/`, `files.rs`,
/// `crates/polynet-kernels`, `polynet_kernels`, `Burn`.
pub(super) fn short(name: &str) -> String {
    let name = name.trim().trim_matches('`').trim_end_matches('/');
    let name = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let name = name.strip_suffix(".rs").unwrap_or(&name).replace('-', "_");
    name.strip_prefix("polynet_").unwrap_or(&name).to_owned()
}

/// The cells of a table's row; none for another line.
fn cells(line: &str) -> Vec<&str> {
    let row = line
        .trim()
        .strip_prefix('|')
        .and_then(|line| line.strip_suffix('|'));
    row.map_or_else(Vec::new, |row| row.split('|').map(str::trim).collect())
}

fn without_remarks(text: &str) -> String {
    let mut depth = 0_usize;
    let keep = |sign: &char| {
        match sign {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => return depth == 0,
        }
        false
    };
    text.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::Table;

    const ROWS: &str = "Text.\n\n| room | holds | may use |\n|---|---|---|\n\
                        | `crates/polynet-kernels` | kernels | `unsafe` |\n\
                        | `…/files.rs` | files | – |\n\
                        | `gpu/` (feature `gpu`) | Burn | kernels, files (locks, too), Burn |\n\
                        | `train/` | the loop | all above |\n\nMore.\n";

    fn parse(text: &str) -> Result<Table, String> {
        let dependencies = ["burn", "polynet", "rayon"].map(str::to_owned);
        Table::parse(text, &dependencies).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn rows_give_rooms_and_what_they_may_use() {
        let table = parse(ROWS).unwrap();
        let rows = table
            .rows
            .iter()
            .map(|row| (row.room.as_str(), row.may_use.join(" ")));
        let expected = [
            ("kernels", "unsafe"),
            ("files", ""),
            ("gpu", "kernels files burn"),
            ("train", "kernels files gpu"),
        ];
        assert!(
            rows.eq(expected.map(|(room, used)| (room, used.to_owned()))),
            "{table:?}"
        );
    }

    #[test]
    fn crates_and_unsafe_belong_to_the_rows_that_name_them() {
        let table = parse(ROWS).unwrap();
        assert_eq!(table.owners("burn"), Some(vec!["gpu"]));
        assert_eq!(table.owners("unsafe"), Some(vec!["kernels"]));
        assert_eq!(table.owners("rayon"), None);
        assert_eq!(table.owners("files"), None);
    }

    #[test]
    fn a_room_may_not_use_one_below() {
        let circle = ROWS.replace("| – |", "| gpu |");
        let error = parse(&circle).unwrap_err();
        assert!(
            error.contains("the row of `files`") && error.contains("`gpu` is no room above"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let cases = [
            ("no table", "expected a table that opens with"),
            (
                "| room | holds | may use |\n|---|---|---|\n",
                "expected a row for each room",
            ),
            (
                "| room | holds | may use |\n|---|---|---|\n| `a` | – |\n",
                "a row of 2 columns",
            ),
            (
                "| room | holds | may use |\n|---|---|---|\n| a | | – |\n| `a/` | | – |\n",
                "`a` has two rows",
            ),
            (
                "| room | holds | may use |\n|---|---|---|\n| a | | nonsense |\n",
                "`nonsense` is no room",
            ),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
