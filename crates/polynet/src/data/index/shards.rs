//! Data sets in many archives, and an order of an epoch that reads each of them from front to
//! back.
//!
//! ```text
//! set    := DIR with NAME-DIGITS.tar …       NAME train, val, … says the split
//!         | PREFIX{000000..000099}SUFFIX     a range of numbers
//! member := class/key.jpg                    the first folder is the class
//!         | key.jpg key.cls                  the class is the text of key.cls; a number counts the
//!                                            lines of classes.txt beside the shards, if it is there
//! ```
//!
//! Opening reads the headers of all shards once. An epoch is an order of the samples, drawn from
//! seed and epoch alone: shards in a new order, one after the other, through a shuffle buffer. So
//! it goes on exactly at any batch, and nothing is kept of the buffer but numbers: a sample's
//! bytes are read when its turn comes, not far from where the last ones were.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use rand::{Rng, RngExt, seq::SliceRandom};

use super::{
    dataset::Archive,
    layout::{Listing, Place, TRAIN_NAME, VALIDATION_NAMES, has_image_extension, is_hidden},
    tarball::{self, Member},
};
use crate::data::error::{DataError, DataErrorKind};

/// Samples among which the next one is drawn. More mix better and read less in order.
pub(crate) const SHUFFLE_BUFFER: usize = 4096;

/// The most bytes of a `.cls` file.
const MAX_CLASS_BYTES: u64 = 200;

/// The most shards that a range may name.
const MAX_SHARDS: u64 = 100_000;

/// The shards that a path means, in order; nothing if it means something else.
pub(crate) fn find(path: &Path) -> Result<Option<Vec<PathBuf>>, DataError> {
    if let Some(range) = path.to_str().and_then(range_of)
        && !path.exists()
    {
        return range
            .map(Some)
            .map_err(|error| error.at(path.display().to_string()));
    }
    if !path.is_dir() {
        return Ok(None);
    }
    let io = |error: &std::io::Error| DataError::io(path.display().to_string(), error);
    let mut shards = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| io(&error))? {
        let shard = entry.map_err(|error| io(&error))?.path();
        if shard.is_file() && stem_of(&shard).is_some_and(|stem| split_stem(stem).is_some()) {
            shards.push(shard);
        }
    }
    shards.sort();
    refuse_gaps(&shards).map_err(|error| error.at(path.display().to_string()))?;
    Ok((!shards.is_empty()).then_some(shards))
}

/// Refuses shards of one name whose numbers leave some out.
fn refuse_gaps(shards: &[PathBuf]) -> Result<(), DataError> {
    let numbered = |shard: &PathBuf| {
        let (name, number) = split_stem(stem_of(shard)?)?;
        Some((
            name.to_owned(),
            number.to_owned(),
            number.parse::<u64>().ok()?,
        ))
    };
    let numbered: Vec<_> = shards.iter().filter_map(numbered).collect();
    for pair in numbered.windows(2) {
        let [(name, before, first), (next, _, second)] = pair else {
            continue;
        };
        if name == next && *second > first + 1 {
            let width = before.len();
            return Err(layout(format!(
                "expected all shards of {name}, {name}-{:0width$}.tar is missing; copy it, or \
                 renumber the others to go on without it",
                first + 1
            )));
        }
    }
    Ok(())
}

/// The files that `a-{000..123}.tar` means.
fn range_of(pattern: &str) -> Option<Result<Vec<PathBuf>, DataError>> {
    let (before, rest) = pattern.split_once('{')?;
    let (range, after) = rest.split_once('}')?;
    let (first, last) = range.split_once("..")?;
    let numbers = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
    let (low, high) = numbers;
    if low > high || high - low >= MAX_SHARDS {
        return Some(Err(layout(format!(
            "expected a range of 1 to {MAX_SHARDS} shards, the smaller number first, got \
             {first}..{last}"
        ))));
    }
    let width = first.len();
    let name = |number: u64| PathBuf::from(format!("{before}{number:0width$}{after}"));
    Some(Ok((low..=high).map(name).collect()))
}

fn stem_of(shard: &Path) -> Option<&str> {
    shard.file_name()?.to_str()?.strip_suffix(".tar")
}

/// `train-000003` as `train` and its number.
fn split_stem(stem: &str) -> Option<(&str, &str)> {
    let (name, number) = stem.rsplit_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !name.starts_with('.')).then_some((name, number))
}

/// Opens all shards and lists their images as `[split/]class/shard/name`.
pub(crate) fn list(shards: &[PathBuf]) -> Result<(Vec<Archive>, Listing), DataError> {
    let names = class_names(shards)?;
    let mut listing = Listing::default();
    let mut archives = Vec::new();
    for (number, path) in (0..).zip(shards) {
        let (mut images, mut classes) = (Vec::new(), HashMap::new());
        let shard = tarball::walk(path, |member| {
            let (path, offset, size) = match member {
                Member::File { path, offset, size } => (path, offset, size),
                Member::Unreadable(name) => return listing.add_unreadable(&name),
                Member::Folder(_) => return,
            };
            if has_image_extension(&path) && !is_hidden(&path) {
                images.push((path, offset, size));
            } else if let Some(key) = path.strip_suffix(".cls") {
                classes.insert(key.to_owned(), (offset, size));
            }
        })?;
        let at = |error: DataError, member: &str| error.at(format!("{}:{member}", path.display()));
        let stem = stem_of(path).unwrap_or("shard");
        let split = split_stem(stem).map_or(stem, |(name, _)| name);
        let is_split = split == TRAIN_NAME || VALIDATION_NAMES.contains(&split);
        for (image, offset, size) in images {
            let stem_of_image = image.rsplit_once('.').map_or(&*image, |(stem, _)| stem);
            let file = classes.get(stem_of_image);
            let file = file.or_else(|| classes.get(key_of(&image)));
            let class = match (file, image.split_once('/')) {
                (Some(&(offset, size)), _) => class_in(&shard, offset, size, &names),
                (None, Some((folder, _))) => Ok(folder.to_owned()),
                (None, None) => Err(layout(format!(
                    "expected a folder for its class around it, or beside it a file {}.cls",
                    key_of(&image)
                ))),
            };
            let class = class.map_err(|error| at(error, &image))?;
            let name = image.strip_prefix(&format!("{class}/")).unwrap_or(&image);
            let place = Place::Member {
                archive: number,
                offset,
                size,
            };
            listing.add_file(
                &match is_split {
                    true => format!("{split}/{class}/{stem}/{name}"),
                    false => format!("{class}/{stem}/{name}"),
                },
                place,
            );
        }
        archives.push(Archive {
            path: path.clone(),
            file: shard,
        });
    }
    Ok((archives, listing))
}

/// What a member and those that belong to it have in common: its path up to the name's first dot.
fn key_of(path: &str) -> &str {
    let name_start = path.rfind('/').map_or(0, |slash| slash + 1);
    let dot = path[name_start..].find('.');
    dot.map_or(path, |dot| &path[..name_start + dot])
}

/// The class that a `.cls` member says.
fn class_in(
    file: &fs::File,
    offset: u64,
    size: u64,
    names: &[String],
) -> Result<String, DataError> {
    let expected = |got: &str| layout(format!("expected a class in its .cls file, got {got}"));
    if size > MAX_CLASS_BYTES {
        return Err(expected(&format!("{size} bytes")));
    }
    let text = String::from_utf8(tarball::read_member(file, offset, size)?)
        .map_err(|_| expected("no text"))?;
    let text = text.trim();
    let named = text
        .parse::<usize>()
        .ok()
        .and_then(|number| names.get(number));
    match named.map_or(text, String::as_str) {
        "" => Err(expected("nothing")),
        class if class.contains('/') || class.starts_with('.') => Err(expected(class)),
        class => Ok(class.to_owned()),
    }
}

/// The lines of `classes.txt` beside the shards; none if there is no such file.
fn class_names(shards: &[PathBuf]) -> Result<Vec<String>, DataError> {
    let list = shards.first().and_then(|shard| shard.parent());
    let Some(list) = list
        .map(|folder| folder.join("classes.txt"))
        .filter(|l| l.is_file())
    else {
        return Ok(Vec::new());
    };
    let text = fs::read_to_string(&list)
        .map_err(|error| DataError::io(list.display().to_string(), &error))?;
    let text = text.trim_start_matches('\u{FEFF}');
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

fn layout(message: impl Into<String>) -> DataError {
    DataError::new(DataErrorKind::Layout, message)
}

/// All samples once: shards in a drawn order, each from front to back, through a buffer of
/// `buffer` samples from which the next is drawn.
pub(crate) fn order(mut shards: Vec<Vec<usize>>, buffer: usize, rng: &mut impl Rng) -> Vec<usize> {
    shards.shuffle(rng);
    let mut stream = shards.into_iter().flatten();
    let mut waiting: Vec<usize> = stream.by_ref().take(buffer.max(1)).collect();
    let mut order = Vec::new();
    for next in stream {
        let drawn = rng.random_range(0..waiting.len());
        order.push(std::mem::replace(&mut waiting[drawn], next));
    }
    waiting.shuffle(rng);
    order.extend(waiting);
    order
}

#[cfg(test)]
mod tests;
