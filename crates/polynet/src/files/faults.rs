//! A disk that fails, for tests: below a folder it refuses an operation, fills up, or stops and forgets
//! what was not synced.
//!
//! The operations are done to the real folder; beside it the disk remembers what is sure to be there after
//! a stop, and what may be. Folders of other tests are not touched.

use super::disk::Operation;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing; operations are counted.
    None,
    /// The operation of this number, counted from 0, is refused.
    Refusal(usize),
    /// After so many bytes no more fit.
    Full(u64),
    /// Every other write is interrupted by a signal.
    Interruptions,
    /// The machine stops at the operation of this number: it and all after it are not done.
    Stop(usize),
}

/// What of that which was not synced is there after a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Nothing: as after a power cut.
    Nothing,
    /// All: as after a process was killed.
    All,
    /// Some changes of names, and of what was written the beginning; drawn from this seed.
    Some(u64),
}

/// What a refused operation says.
pub(crate) const REFUSED: &str = "the disk refuses";

type Shared = Arc<Mutex<Disk>>;

static DISKS: Mutex<Vec<(PathBuf, Shared)>> = Mutex::new(Vec::new());

/// The disk of a folder, until it is dropped.
pub(crate) struct FaultyDisk(Shared);

impl FaultyDisk {
    /// Gives a folder, and all that is in it, a disk. What is there already is synced.
    pub(crate) fn below(root: &Path, fault: Fault) -> Self {
        let mut disk = Disk::new(root, fault);
        read_tree(root, &mut |path, bytes| disk.begin_with(path, bytes));
        let disk = Arc::new(Mutex::new(disk));
        lock(&DISKS).push((root.to_owned(), Arc::clone(&disk)));
        Self(disk)
    }

    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.0).bytes
    }

    /// Whether something has gone wrong.
    pub(crate) fn has_struck(&self) -> bool {
        lock(&self.0).has_struck
    }

    /// The machine started again on a sound disk after a [`Fault::Stop`], as often as wanted: the folder
    /// is then what is left of it.
    pub(crate) fn restart(&self, kept: Kept) {
        lock(&DISKS).retain(|(_, disk)| !Arc::ptr_eq(disk, &self.0));
        lock(&self.0).leave(kept);
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        lock(&DISKS).retain(|(_, disk)| !Arc::ptr_eq(disk, &self.0));
    }
}

/// A test that has failed is no reason for another to.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn disk_of(path: &Path) -> Option<Shared> {
    let disks = lock(&DISKS);
    let found = disks.iter().find(|(root, _)| path.starts_with(root));
    found.map(|(_, disk)| Arc::clone(disk))
}

pub(super) fn perform<T>(
    operation: Operation<'_>,
    path: &Path,
    act: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let Some(disk) = disk_of(path) else {
        return act();
    };
    let mut disk = lock(&disk);
    disk.before()?;
    let done = act()?;
    disk.after(operation, path);
    Ok(done)
}

/// The beginning of `bytes` that a file still takes.
pub(super) fn what_fits<'b>(path: &Path, bytes: &'b [u8]) -> io::Result<&'b [u8]> {
    match disk_of(path) {
        Some(disk) => lock(&disk).what_fits(bytes),
        None => Ok(bytes),
    }
}

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File(u64),
}

/// A change of the names in a folder.
#[derive(Debug)]
enum Change {
    Add(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, Node),
}

impl Change {
    fn folder(&self) -> Option<&Path> {
        let (Self::Add(path, _) | Self::Remove(path) | Self::Rename(path, ..)) = self;
        path.parent()
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Add(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Remove(path) => names.retain(|name, _| !name.starts_with(path)),
            Self::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

struct Disk {
    root: PathBuf,
    fault: Fault,
    operations: usize,
    writes: usize,
    bytes: u64,
    has_struck: bool,
    /// Files so far.
    files: u64,
    /// What is there now.
    live: BTreeMap<PathBuf, Node>,
    /// What is there after a stop, and the changes since, in their order.
    durable: BTreeMap<PathBuf, Node>,
    pending: Vec<Change>,
    /// What of each file is there after a stop.
    synced: HashMap<u64, Vec<u8>>,
    /// What each file held when the machine stopped.
    last: HashMap<u64, Vec<u8>>,
}

impl Disk {
    fn new(root: &Path, fault: Fault) -> Self {
        Self {
            root: root.to_owned(),
            fault,
            operations: 0,
            writes: 0,
            bytes: 0,
            has_struck: false,
            files: 0,
            live: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
            synced: HashMap::new(),
            last: HashMap::new(),
        }
    }

    fn begin_with(&mut self, path: &Path, bytes: Option<Vec<u8>>) {
        let node = match bytes {
            None => Node::Folder,
            Some(bytes) => {
                self.files += 1;
                self.synced.insert(self.files, bytes);
                Node::File(self.files)
            }
        };
        self.live.insert(path.to_owned(), node);
        self.durable.insert(path.to_owned(), node);
    }

    fn before(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        match self.fault {
            Fault::Refusal(at) if number == at => {
                self.has_struck = true;
                Err(io::Error::other(REFUSED))
            }
            Fault::Stop(at) if number >= at => {
                if !self.has_struck {
                    self.has_struck = true;
                    self.remember();
                }
                Err(io::Error::other(REFUSED))
            }
            _ => Ok(()),
        }
    }

    fn what_fits<'b>(&mut self, bytes: &'b [u8]) -> io::Result<&'b [u8]> {
        let mut bytes = bytes;
        self.writes += 1;
        match self.fault {
            Fault::Interruptions if self.writes % 2 == 1 => {
                self.has_struck = true;
                return Err(io::ErrorKind::Interrupted.into());
            }
            Fault::Full(space) if self.bytes + bytes.len() as u64 > space => {
                self.has_struck = true;
                bytes = &bytes[..(space - self.bytes) as usize];
                if bytes.is_empty() {
                    return Err(io::ErrorKind::StorageFull.into());
                }
            }
            _ => {}
        }
        self.bytes += bytes.len() as u64;
        Ok(bytes)
    }

    fn after(&mut self, operation: Operation<'_>, path: &Path) {
        let node = self.live.get(path).copied();
        match (operation, node) {
            (Operation::Open, None) => {
                self.files += 1;
                self.change(Change::Add(path.to_owned(), Node::File(self.files)));
            }
            (Operation::MakeFolder, _) => self.change(Change::Add(path.to_owned(), Node::Folder)),
            (Operation::Rename(to), Some(node)) => {
                self.change(Change::Rename(path.to_owned(), to.to_owned(), node));
            }
            (Operation::Remove, _) => self.change(Change::Remove(path.to_owned())),
            (Operation::Sync, Some(Node::File(file))) => {
                self.synced.insert(file, fs::read(path).unwrap());
            }
            (Operation::SyncFolder, _) => {
                let durable = &mut self.durable;
                self.pending.retain(|change| {
                    let is_here = change.folder() == Some(path);
                    if is_here {
                        change.apply(durable);
                    }
                    !is_here
                });
            }
            _ => {}
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    fn remember(&mut self) {
        for (path, node) in &self.live {
            if let Node::File(file) = node {
                self.last.insert(*file, fs::read(path).unwrap());
            }
        }
    }

    /// Makes the folder what a stop leaves of it.
    fn leave(&self, kept: Kept) {
        let mut random = ChaCha8Rng::seed_from_u64(match kept {
            Kept::Some(seed) => seed,
            Kept::Nothing | Kept::All => 0,
        });
        let mut names = self.durable.clone();
        for change in &self.pending {
            if match kept {
                Kept::Nothing => false,
                Kept::All => true,
                Kept::Some(_) => random.random(),
            } {
                change.apply(&mut names);
            }
        }
        fs::remove_dir_all(&self.root).unwrap();
        fs::create_dir(&self.root).unwrap();
        // Folders come before what is in them.
        for (path, node) in &names {
            match node {
                _ if !path.parent().is_some_and(Path::is_dir) => {}
                Node::Folder => fs::create_dir(path).unwrap(),
                Node::File(file) => {
                    fs::write(path, self.bytes_of(*file, kept, &mut random)).unwrap();
                }
            }
        }
    }

    fn bytes_of(&self, file: u64, kept: Kept, random: &mut ChaCha8Rng) -> &[u8] {
        let synced = self.synced.get(&file).map_or(&[][..], |bytes| bytes);
        let last = self.last.get(&file).map_or(synced, |bytes| bytes);
        match kept {
            Kept::Nothing => synced,
            Kept::All => last,
            Kept::Some(_) if last.starts_with(synced) => {
                &last[..random.random_range(synced.len()..=last.len())]
            }
            Kept::Some(_) => [synced, last][usize::from(random.random::<bool>())],
        }
    }
}

/// Calls `found` with each folder below `root`, and each file and its bytes.
pub(crate) fn read_tree(root: &Path, found: &mut impl FnMut(&Path, Option<Vec<u8>>)) {
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found(&path, None);
            read_tree(&path, found);
        } else {
            found(&path, Some(fs::read(&path).unwrap()));
        }
    }
}

/// A folder for many files that are forced to the disk, in memory where there is such a place.
pub(crate) fn folder_in_memory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    folder.unwrap()
}
