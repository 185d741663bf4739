//! The one place that puts a finished file where others see it.
//!
//! Invariants: a file is whole or absent under its final name: it is written under another name in
//! a folder beside, synced, renamed, and the folder is synced; an existing file is replaced only
//! when that was asked for.

mod batch;
mod folder;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use digest_io::IoWrapper;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::base::error::{Error, Kind, Result};
use crate::base::own;
use crate::base::path::folder_of;
use crate::base::scratch::Scratch;
use crate::base::status;

pub use self::batch::{BatchWriter, Block};
pub use self::folder::StagedFolder;

/// Bytes copied at once.
const COPY_BYTES: usize = 256 * 1024;

/// A file on its way to its final name.
#[derive(Debug)]
pub struct Staged {
    staging: Arc<Scratch>,
    path: PathBuf,
    target: PathBuf,
}

impl Staged {
    /// Stages a file that is to become `target`. With `replace` an existing `target` is replaced at
    /// the end; without, it is an error now and then.
    pub fn new(target: &Path, replace: bool) -> Result<Self> {
        let name = name_of(target, replace)?;
        let folder = folder_of(target);
        if !folder.is_dir() {
            return Err(Error::usage(
                format!("writing {}", target.display()),
                format!("there is no folder {}", folder.display()),
            )
            .next("make the folder first"));
        }
        let staging = Arc::new(Scratch::new(folder)?);
        Ok(Self {
            path: staging.path().join(name),
            staging,
            target: target.to_owned(),
        })
    }

    /// Stages one more file beside this one, which is to become `target` in the same folder.
    pub fn another(&self, target: &Path, replace: bool) -> Result<Self> {
        Ok(Self {
            path: self.staging.path().join(name_of(target, replace)?),
            staging: Arc::clone(&self.staging),
            target: target.to_owned(),
        })
    }

    /// The name that the file has until it is published.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the file, which may be read too; an error if it exists.
    pub fn create(&self) -> Result<File> {
        create(&self.path, own::FILE_MODE)
    }

    /// Creates another file beside it, called `name`, which goes away with the staging unless it is
    /// taken.
    pub fn create_beside(&self, name: &str) -> Result<(PathBuf, File)> {
        let path = self.path.with_extension(name);
        let file = create(&path, own::FILE_MODE)?;
        Ok((path, file))
    }

    /// Takes a file that was created beside it in its place.
    pub fn take(&self, path: &Path) -> Result<()> {
        std::fs::rename(path, &self.path).map_err(|err| Error::io("renaming", path, &err))
    }

    /// Moves the file to `path` in the same file system, where it outlives the staging.
    pub fn put_aside(&self, path: &Path) -> Result<()> {
        std::fs::rename(&self.path, path).map_err(|err| Error::io("renaming", &self.path, &err))
    }

    /// Compresses the file at `path` in its place, and reads that back; what is decompressed must
    /// have the SHA-256 `content`. Returns the SHA-256 of the compressed file.
    pub fn compress(&self, path: &Path, content: &str) -> Result<String> {
        let failed = |err: &io::Error| Error::io("compressing into", &self.path, err);
        let mut from = File::open(path).map_err(|err| failed(&err))?;
        let mut encoder = GzEncoder::new(self.create()?, Compression::default());
        copy_all(&mut from, &mut encoder).map_err(|err| failed(&err))?;
        encoder.finish().map_err(|err| failed(&err))?;
        std::fs::remove_file(path).map_err(|err| Error::io("removing", path, &err))?;

        let hash_of = |reader: &mut dyn io::Read| -> Result<String> {
            let mut hash = IoWrapper(Sha256::new());
            copy_all(reader, &mut hash).map_err(|err| failed(&err))?;
            Ok(hex::encode(hash.0.finalize()))
        };
        let open = || File::open(&self.path).map_err(|err| failed(&err));
        if hash_of(&mut MultiGzDecoder::new(open()?))? != content {
            return Err(Error::failed(
                format!("reading {} back", self.path.display()),
                "what was compressed is not what was given",
            ));
        }
        hash_of(&mut open()?)
    }

    /// Syncs the file, gives it its final name, and syncs the folder.
    pub fn publish(self, replace: bool) -> Result<()> {
        publish(&self.path, &self.target, replace)
    }
}

/// The name of a file that may be written as `target`.
fn name_of(target: &Path, replace: bool) -> Result<&OsStr> {
    let refuse = |why| Error::usage(format!("writing {}", target.display()), why);
    if target.is_dir() {
        return Err(refuse("it is a folder").next("name a file with -o"));
    }
    if !replace && target.symlink_metadata().is_ok() {
        return Err(exists(target));
    }
    target.file_name().ok_or_else(|| refuse("it names no file"))
}

/// Syncs the file at `path`, gives it the name `target` on the same disk, and syncs its folder.
pub fn publish(path: &Path, target: &Path, replace: bool) -> Result<()> {
    let failed = |err: &io::Error| Error::io("publishing", target, err);
    let file = File::open(path).map_err(|err| failed(&err))?;
    file.sync_all().map_err(|err| failed(&err))?;
    drop(file);
    status::publishing(path, target);
    match place(path, target, replace) {
        Ok(true) => {}
        Ok(false) => return Err(exists(target)),
        Err(err) => return Err(failed(&err)),
    }
    let folder = folder_of(target);
    let open = File::open(folder).map_err(|err| Error::io("syncing folder", folder, &err))?;
    open.sync_all()
        .map_err(|err| Error::io("syncing folder", folder, &err))
}

/// Gives the file `staged` the name `target` on the same disk; false if another file has that name
/// and is not to be replaced.
fn place(staged: &Path, target: &Path, replace: bool) -> io::Result<bool> {
    place_by(staged, target, || match replace {
        true => std::fs::rename(staged, target),
        false => rename_new(staged, target),
    })
}

/// The same with `rename`, whose error is not believed: a network file system repeats a request whose
/// answer was lost, and the repetition finds the name taken (or the file gone) by what the first one
/// did.
fn place_by(
    staged: &Path,
    target: &Path,
    rename: impl FnOnce() -> io::Result<()>,
) -> io::Result<bool> {
    let file = staged.symlink_metadata()?;
    let Err(err) = rename() else {
        return Ok(true);
    };
    let there = target.symlink_metadata();
    if there.is_ok_and(|there| (there.dev(), there.ino()) == (file.dev(), file.ino())) {
        return Ok(true);
    }
    match err.kind() {
        io::ErrorKind::AlreadyExists => Ok(false),
        _ => Err(err),
    }
}

/// Renames without replacing. Where there is no such rename (NFS, FUSE) a link does not replace
/// either.
fn rename_new(staged: &Path, target: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, staged, CWD, target, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            match std::fs::hard_link(staged, target) {
                Ok(()) => std::fs::remove_file(staged),
                // There are no links either (exFAT): the name was free when we began.
                Err(err)
                    if err.kind() == io::ErrorKind::PermissionDenied
                        && target.symlink_metadata().is_err() =>
                {
                    std::fs::rename(staged, target)
                }
                Err(err) => Err(err),
            }
        }
        renamed => renamed.map_err(io::Error::from),
    }
}

/// Writes `bytes` to `target`, whole or not at all; others may read it as the umask lets them.
pub fn write(target: &Path, bytes: &[u8], replace: bool) -> Result<()> {
    write_with(target, bytes, replace, own::PUBLIC_MODE)
}

/// The same, for a file that is nobody else's business: only its owner may read it.
pub fn write_private(target: &Path, bytes: &[u8], replace: bool) -> Result<()> {
    write_with(target, bytes, replace, own::FILE_MODE)
}

/// Writes `value` as JSON that is nobody else's business.
pub fn write_private_json(target: &Path, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|err| Error::failed(format!("writing {}", target.display()), err))?;
    write_private(target, &bytes, true)
}

/// The value that a file of ours has, if there is one; one that somebody else put there is an error.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let mut bytes = Vec::new();
    let read = own::open_to_read(path).and_then(|mut file| file.read_to_end(&mut bytes));
    match read {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|err| Error::io("reading", path, &err))?,
    };
    let value = serde_json::from_slice(&bytes);
    value
        .map(Some)
        .map_err(|err| Error::failed(format!("reading {}", path.display()), err))
}

/// Opens a file of ours, to be written and read, from its beginning; what is in it stays.
pub fn open_private(path: &Path) -> Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    own::open(path, &options).map_err(|err| Error::io("opening", path, &err))
}

fn write_with(target: &Path, bytes: &[u8], replace: bool, mode: u32) -> Result<()> {
    let staged = Staged::new(target, replace)?;
    let mut file = create(&staged.path, mode)?;
    file.write_all(bytes)
        .and_then(|()| own::give_mode(&file, mode))
        .map_err(|err| Error::io("writing", target, &err))?;
    drop(file);
    staged.publish(replace)
}

/// Has the disk take what was written to `file` so far, so that less is left to be waited for when
/// it is published as `target`.
pub fn sync_data(file: &File, target: &Path) -> Result<()> {
    file.sync_data()
        .map_err(|err| Error::io("writing", target, &err))
}

/// A file being synced while something else goes on.
pub struct Syncing {
    path: PathBuf,
    thread: JoinHandle<io::Result<()>>,
}

/// Begins to sync the file at `path`.
pub fn sync_in_background(path: &Path) -> Result<Syncing> {
    let file = File::open(path).map_err(|err| Error::io("opening", path, &err))?;
    Ok(Syncing {
        path: path.to_owned(),
        thread: std::thread::spawn(move || file.sync_data()),
    })
}

impl Syncing {
    /// Waits until it is synced.
    pub fn wait(self) -> Result<()> {
        self.thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a thread ended")))
            .map_err(|err| Error::io("syncing", &self.path, &err))
    }
}

/// Makes `folder`, with those that it lies in, unless it is there; it may be anybody's.
pub fn make_folder(folder: &Path) -> Result<()> {
    own::parents(folder)
}

/// Removes the file at `path`, if it is there.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", path, &err)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A file that lines are added to, by one process at a time; made for its owner alone.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    /// Opens the log at `path`, with the folders that it lies in, and reads what is there; what
    /// follows its last whole line is cut off.
    pub fn open(path: &Path) -> Result<(Self, String)> {
        make_folder(folder_of(path))?;
        let failed = |err: &io::Error| Error::io("opening", path, err);
        let mut file = open_private(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::new(
                    Kind::Locked,
                    format!("opening {}", path.display()),
                    "another run of snapmerge has it open",
                )
                .next("wait until that one has ended"));
            }
            Err(err) => return Err(failed(&err.into())),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|err| failed(&err))?;
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        bytes.truncate(whole);
        file.set_len(whole as u64).map_err(|err| failed(&err))?;
        file.seek(SeekFrom::End(0)).map_err(|err| failed(&err))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::failed(format!("reading {}", path.display()), "it is no text"))?;
        let path = path.to_owned();
        Ok((Self { file, path }, text))
    }

    /// Returns the path of the log.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds `bytes`, which are on the disk when this returns.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .and_then(|()| self.file.sync_data())
            .map_err(|err| Error::io("writing", &self.path, &err))
    }

    /// Adds `line` as a line of JSON, which is on the disk when this returns.
    pub fn add(&mut self, line: &impl Serialize) -> Result<()> {
        let mut bytes = serde_json::to_vec(line)
            .map_err(|err| Error::failed(format!("writing {}", self.path.display()), err))?;
        bytes.push(b'\n');
        self.append(&bytes)
    }

    /// Removes everything that is in it.
    pub fn clear(&mut self) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|err| Error::io("emptying", &self.path, &err))
            .map(|_| ())
    }
}

/// Copies all of `from` into `to`.
fn copy_all(from: &mut dyn io::Read, to: &mut dyn io::Write) -> io::Result<()> {
    let mut reader = io::BufReader::with_capacity(COPY_BYTES, from);
    let mut writer = io::BufWriter::with_capacity(COPY_BYTES, to);
    io::copy(&mut reader, &mut writer)?;
    writer.flush()
}

fn create(path: &Path, mode: u32) -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|err| Error::io("creating", path, &err))
}

fn exists(target: &Path) -> Error {
    Error::new(
        Kind::Usage,
        format!("writing {}", target.display()),
        "it exists already",
    )
    .next("choose another name with -o, or give --force to replace it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.json");
        let staged = Staged::new(&target, false).unwrap();
        staged.create().unwrap().write_all(b"half").unwrap();
        assert!(!target.exists());
        drop(staged);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        write(&target, b"whole", false).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_written_is_its_owners_unless_it_is_meant_for_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| {
            let meta = std::fs::metadata(folder.path().join(name)).unwrap();
            meta.permissions().mode() & 0o777
        };
        write_private(&folder.path().join("private"), b"x", false).unwrap();
        make_folder(&folder.path().join("a/b")).unwrap();
        assert_eq!(
            (mode("private"), mode("a"), mode("a/b")),
            (0o600, 0o700, 0o700)
        );
        let planted = folder.path().join("planted.json");
        std::os::unix::fs::symlink(folder.path().join("private"), &planted).unwrap();
        assert!(read_json::<u32>(&planted).is_err());
        assert!(Log::open(&planted).is_err());
    }

    #[test]
    fn an_answer_that_is_wrong_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let (staged, target) = (folder.path().join("staged"), folder.path().join("target"));
        // As NFS answers a rename or a link that was sent twice, and did its work the first time.
        for (kind, by_link) in [
            (io::ErrorKind::AlreadyExists, true),
            (io::ErrorKind::AlreadyExists, false),
            (io::ErrorKind::NotFound, false),
        ] {
            std::fs::write(&staged, "ours").unwrap();
            let placed = place_by(&staged, &target, || {
                match by_link {
                    true => std::fs::hard_link(&staged, &target)?,
                    false => std::fs::rename(&staged, &target)?,
                }
                Err(kind.into())
            });
            assert!(placed.unwrap(), "{kind}");
            std::fs::remove_file(&target).unwrap();
        }
        std::fs::write(&staged, "the same").unwrap();
        std::fs::write(&target, "the same").unwrap();
        let taken = || Err(io::ErrorKind::AlreadyExists.into());
        assert!(!place_by(&staged, &target, taken).unwrap());
        assert!(!place(&staged, &target, false).unwrap());
        let failed = || Err(io::ErrorKind::PermissionDenied.into());
        assert!(place_by(&staged, &target, failed).is_err());
        assert!(place(&staged, &target, true).unwrap() && !staged.exists());
    }

    #[test]
    fn an_existing_file_is_replaced_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.json");
        write(&target, b"first", false).unwrap();
        let err = write(&target, b"second", false).unwrap_err();
        assert_eq!(err.kind(), Kind::Usage);
        assert_eq!(std::fs::read(&target).unwrap(), b"first");
        // Also when it appears between staging and publishing.
        let late = folder.path().join("b.json");
        let staged = Staged::new(&late, false).unwrap();
        staged.create().unwrap();
        std::fs::write(&late, b"theirs").unwrap();
        assert!(staged.publish(false).is_err());
        assert_eq!(std::fs::read(&late).unwrap(), b"theirs");
        write(&target, b"second", true).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"second");
    }
}
