//! An uncompressed `.tar` as a listing of paths, and reading its members in place.
//!
//! Opening walks over the headers once. A member is then read from where it lies: nothing is
//! unpacked, the archive is never read as a whole, and any number of threads may read at once.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::layout::{Listing, Place};
use crate::data::{
    error::{DataError, DataErrorKind},
    picture::check_file_size,
};

/// First bytes of other archives, which can't be read in place.
const OTHERS: [(&str, &[u8]); 7] = [
    ("gzip", &[0x1F, 0x8B]),
    ("xz", &[0xFD, b'7', b'z', b'X', b'Z']),
    ("zstd", &[0x28, 0xB5, 0x2F, 0xFD]),
    ("bzip2", b"BZh"),
    ("zip", b"PK\x03\x04"),
    ("7z", b"7z\xBC\xAF"),
    ("rar", b"Rar!"),
];

/// A member of an archive, by its path.
pub(crate) enum Member {
    Folder(String),
    File {
        path: String,
        offset: u64,
        size: u64,
    },
    /// Its name is not UTF-8.
    Unreadable(Vec<u8>),
}

/// Opens an archive and lists its members.
pub(crate) fn list(path: &Path) -> Result<(File, Listing), DataError> {
    let mut listing = Listing::default();
    let file = walk(path, |member| match member {
        Member::Folder(path) => listing.add_folder(&path),
        Member::Unreadable(name) => listing.add_unreadable(&name),
        Member::File { path, offset, size } => {
            let archive = 0;
            listing.add_file(
                &path,
                Place::Member {
                    archive,
                    offset,
                    size,
                },
            );
        }
    })?;
    Ok((file, listing))
}

/// Opens an archive and calls `visit` for each member, in order. Only headers are read.
pub(crate) fn walk(path: &Path, visit: impl FnMut(Member)) -> Result<File, DataError> {
    let at = |error: &io::Error| DataError::io(path.display().to_string(), error);
    let file = File::open(path).map_err(|error| at(&error))?;
    let length = file.metadata().map_err(|error| at(&error))?.len();
    refuse_compressed(&file)
        .and_then(|()| walk_members(&file, length, visit))
        .map_err(|error| error.at(path.display().to_string()))?;
    Ok(file)
}

fn refuse_compressed(file: &File) -> Result<(), DataError> {
    let mut start = Vec::new();
    read_at_most(file, 6, &mut start)
        .map_err(|error| archive(format!("can't be read: {error}")))?;
    match OTHERS.iter().find(|(_, magic)| start.starts_with(magic)) {
        None => Ok(()),
        Some((name, _)) => Err(archive(format!(
            "expected an uncompressed .tar, the file is {name}; unpack it first"
        ))),
    }
}

fn read_at_most(file: &File, count: u64, into: &mut Vec<u8>) -> io::Result<()> {
    use std::io::Seek;
    let mut file = file;
    file.take(count).read_to_end(into)?;
    file.rewind()
}

fn walk_members(file: &File, length: u64, mut visit: impl FnMut(Member)) -> Result<(), DataError> {
    // What the crate says may hold the file's own bytes.
    let broken = |error: io::Error| {
        let reason: String = error.to_string().chars().take(120).collect();
        archive(format!(
            "expected a .tar archive: {}",
            reason.escape_debug()
        ))
    };
    let mut end = 0;
    let mut members = tar::Archive::new(file);
    for member in members.entries_with_seek().map_err(broken)? {
        let member = member.map_err(broken)?;
        let (offset, size) = (member.raw_file_position(), member.size());
        if member.header().entry_type().is_file() {
            end = offset.saturating_add(size);
        } else {
            end = end.max(offset);
        }
        let bytes = member.path_bytes();
        let Some(path) = member_path(&bytes)? else {
            if std::str::from_utf8(&bytes).is_err() {
                visit(Member::Unreadable(bytes.into_owned()));
            }
            continue;
        };
        let kind = member.header().entry_type();
        if kind.is_dir() {
            visit(Member::Folder(path));
        } else if kind.is_file() || kind.is_contiguous() {
            if offset.checked_add(size).is_none_or(|end| end > length) {
                return Err(archive(format!(
                    "the archive ends inside its member {path}; it was not copied whole"
                )));
            }
            visit(Member::File { path, offset, size });
        } else if kind.is_hard_link() || kind.is_symlink() || kind.is_gnu_sparse() {
            return Err(archive(format!(
                "expected plain files, the member {path} is a link or sparse; pack with \
                 --dereference --hard-dereference and without --sparse"
            )));
        }
    }
    if end.next_multiple_of(BLOCK) + BLOCK > length {
        return Err(archive(
            "the archive ends without its end mark; it was not copied whole. If it is, append the \
             mark: head -c 1024 /dev/zero >> FILE",
        ));
    }
    Ok(())
}

/// Bytes that members are padded to; an archive ends with two such blocks of zeros.
const BLOCK: u64 = 512;

/// A member's path without `.` and doubled slashes; nothing for the archive's root itself and for
/// names that are not UTF-8.
fn member_path(bytes: &[u8]) -> Result<Option<String>, DataError> {
    let Ok(path) = std::str::from_utf8(bytes) else {
        return Ok(None);
    };
    let names: Vec<_> = path
        .split('/')
        .filter(|name| !matches!(*name, "" | "."))
        .collect();
    if names.contains(&"..") {
        return Err(archive(format!(
            "expected paths that stay inside the archive, one is {path}"
        )));
    }
    Ok((!names.is_empty()).then(|| names.join("/")))
}

/// Reads one member. Threads don't disturb each other: no shared position is moved.
pub(crate) fn read_member(file: &File, offset: u64, size: u64) -> Result<Vec<u8>, DataError> {
    check_file_size(size)?;
    let mut bytes = vec![0; usize::try_from(size).expect("checked: at most 256 MiB")];
    read_exact_at(file, &mut bytes, offset).map_err(|error| {
        DataError::new(DataErrorKind::Io, format!("can't read the member: {error}"))
    })?;
    Ok(bytes)
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                bytes = &mut bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn archive(message: impl Into<String>) -> DataError {
    DataError::new(DataErrorKind::Archive, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{
        index::{Split, Splitting},
        sample_images::{picture_set, write_tar},
    };

    fn tar_of(files: &[(String, Vec<u8>)]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.tar");
        write_tar(&path, files);
        (folder, path)
    }

    #[test]
    fn members_are_read_from_where_they_lie() {
        let mut files = picture_set("./set/train/", &[("a", 3), ("b", 2)]);
        let long = format!("set/train/b/{}.png", "long".repeat(60));
        files.push((long, b"not an image, but bytes".to_vec()));
        let (_folder, path) = tar_of(&files);
        let (file, listing) = list(&path).unwrap();
        let index = listing.index(Split::All, Splitting::default()).unwrap();
        assert_eq!(index.samples.len(), 6);
        for sample in index.samples {
            let Place::Member { offset, size, .. } = sample.image.place else {
                panic!("a member");
            };
            let bytes = read_member(&file, offset, size).unwrap();
            let same_name = |name: &str| name.trim_start_matches("./") == &*sample.image.path;
            let (_, expected) = files.iter().find(|(name, _)| same_name(name)).unwrap();
            assert_eq!(bytes, *expected);
        }
    }

    #[test]
    fn an_archive_cut_inside_a_member_is_refused_by_that_members_name() {
        let (_folder, path) = tar_of(&picture_set("", &[("a", 2)]));
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..600]).unwrap();
        let error = list(&path).unwrap_err().to_string();
        assert!(
            error.contains("set.tar: the archive ends inside its member a/000.png"),
            "{error}"
        );
    }

    #[test]
    fn an_archive_cut_between_members_is_refused() {
        let (_folder, path) = tar_of(&picture_set("", &[("a", 3)]));
        let whole = std::fs::read(&path).unwrap();
        let names = |name: &str| whole.windows(9).position(|w| w == name.as_bytes());
        let second = names("a/001.png").unwrap();
        for end in [second, names("a/002.png").unwrap()] {
            std::fs::write(&path, &whole[..end]).unwrap();
            let error = list(&path).unwrap_err().to_string();
            assert!(error.contains("ends without its end mark"), "{error}");
            // One mark is enough, whatever follows.
            std::fs::write(&path, [&whole[..end], &[0; 512]].concat()).unwrap();
            assert!(list(&path).is_ok());
        }
    }

    #[test]
    fn what_is_no_plain_tar_is_refused() {
        let cases: &[(&[u8], &str)] = &[
            (b"\x1F\x8B\x08\0 and so on", "the file is gzip"),
            (b"\xFD7zXZ\0 and so on", "the file is xz"),
            (b"PK\x03\x04 and so on", "the file is zip; unpack it first"),
            (&[b'x'; 1024], "expected a .tar archive"),
            (&[0x1B; 1024], "expected a .tar archive"),
            (b"short", "expected a .tar archive"),
        ];
        for (bytes, expected) in cases {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let error = list(file.path()).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains(expected) && !text.contains(char::is_control),
                "{text}"
            );
            assert_eq!(error.kind(), DataErrorKind::Archive);
        }
    }

    #[test]
    fn links_and_paths_that_climb_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("link.tar");
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder
            .append_link(&mut header, "a/1.jpg", "a/2.jpg")
            .unwrap();
        builder.finish().unwrap();
        assert!(
            list(&path)
                .unwrap_err()
                .to_string()
                .contains("a/1.jpg is a link")
        );
        assert!(member_path(b"a/../../b.jpg").is_err());
        assert_eq!(member_path(b"./").unwrap(), None);
    }

    proptest::proptest! {
        #[test]
        fn damaged_headers_never_panic(position in 0usize..1024, value: u8) {
            let (_folder, path) = tar_of(&[("a/1.png".into(), vec![1; 40])]);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[position] = value;
            std::fs::write(&path, bytes).unwrap();
            let _ = list(&path);
        }
    }
}
