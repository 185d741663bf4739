//! Files and folders that are this user's alone.
//!
//! A file under a name that can be guessed may have been put there by somebody else: a link to
//! a folder that is then emptied, a journal that has a snapshot removed from a server with this user's
//! key.
//!
//! Invariants: a folder of ours is no link, has our owner and the mode 0700; a file of ours that is
//! read back is no link and no device, and has our owner; whatever is not so is refused and left as it
//! is.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags};

use super::error::{Error, Result};

/// The mode of a folder of ours.
pub const FOLDER_MODE: u32 = 0o700;
/// The mode of a file of ours.
pub const FILE_MODE: u32 = 0o600;

/// The mode of a file that others are to read, but for what the umask forbids.
pub const PUBLIC_MODE: u32 = 0o666;

/// The umask that this process was started with; see [`be_private`].
static UMASK: OnceLock<Mode> = OnceLock::new();

/// Has every file that this process makes from now on be its user's alone, whoever makes it (the
/// storage engine, a tar that is unpacked).
pub fn be_private() {
    let _ = UMASK.get_or_init(|| rustix::process::umask(Mode::RWXG | Mode::RWXO));
}

/// Gives a file the mode that it would have without [`be_private`].
pub fn give_mode(file: &File, mode: u32) -> io::Result<()> {
    match UMASK.get() {
        Some(umask) if mode != FILE_MODE => {
            let mode = mode & !umask.bits();
            file.set_permissions(std::fs::Permissions::from_mode(mode))
        }
        _ => Ok(()),
    }
}

/// Makes `folder`, which is ours, or finds that it is; those that it lies in are made too.
pub fn folder(folder: &Path) -> Result<()> {
    if let Some(parent) = folder.parent() {
        parents(parent)?;
    }
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => require_folder(folder),
        made => made.map_err(|err| Error::io("making folder", folder, &err)),
    }
}

/// Makes `folder`, with those that it lies in, unless it is there; it may be anybody's.
pub fn parents(folder: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(folder)
        .map_err(|err| Error::io("making folder", folder, &err))
}

/// An error unless `folder` is ours. One that others may look into is closed to them.
pub fn require_folder(folder: &Path) -> Result<()> {
    let failed = |err: &io::Error| Error::io("opening working folder", folder, err);
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = match rustix::fs::open(folder, flags, Mode::empty()) {
        Ok(open) => File::from(open),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
            return Err(refused(folder, "it is a link, or no folder"));
        }
        Err(err) => return Err(failed(&err.into())),
    };
    let meta = open.metadata().map_err(|err| failed(&err))?;
    owner(meta.uid()).map_err(|why| refused(folder, &why))?;
    if meta.mode() & 0o777 != FOLDER_MODE {
        open.set_permissions(std::fs::Permissions::from_mode(FOLDER_MODE))
            .map_err(|err| failed(&err))?;
    }
    Ok(())
}

/// Returns true if `folder` is a folder of ours as it is: no link, and writable by nobody else.
pub fn is_folder(folder: &Path) -> bool {
    folder
        .symlink_metadata()
        .is_ok_and(|meta| meta.is_dir() && owner(meta.uid()).is_ok() && meta.mode() & 0o022 == 0)
}

/// Opens a file of ours with `options`; an error if it is not.
pub fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let mut options = options.clone();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options
        .mode(FILE_MODE)
        .custom_flags(i32::try_from(flags.bits()).map_err(io::Error::other)?);
    let file = options.open(path)?;
    let meta = file.metadata()?;
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    if !meta.is_file() {
        return refuse("it is no file");
    }
    match owner(meta.uid()) {
        Ok(()) => Ok(file),
        Err(why) => refuse(&why),
    }
}

/// Opens a file of ours to be read; an error if it is not.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// Why what belongs to the user `uid` is not ours.
fn owner(uid: u32) -> Result<(), String> {
    let own = rustix::process::geteuid().as_raw();
    match uid == own {
        true => Ok(()),
        false => Err(format!("it belongs to user {uid}, and this is user {own}")),
    }
}

fn refused(path: &Path, why: &str) -> Error {
    Error::usage(
        format!("opening working folder {}", path.display()),
        format!("{why}; somebody else may have put it there"),
    )
    .next("see what it is and remove it, or work in a folder that only you can write to")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::base::error::Kind;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o777
    }

    #[test]
    fn a_folder_is_ours_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("a/b");
        folder(&own).unwrap();
        assert_eq!((mode(&own), mode(own.parent().unwrap())), (0o700, 0o700));
        // One of before, or made under another umask, is closed.
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o775)).unwrap();
        assert!(is_folder(&own.join("..")) && !is_folder(&own));
        folder(&own).unwrap();
        assert_eq!(mode(&own), 0o700);
        let target = dir.path().join("victim");
        std::fs::create_dir(&target).unwrap();
        std::fs::write(target.join("precious"), "x").unwrap();
        let link = dir.path().join("link");
        symlink(&target, &link).unwrap();
        let err = folder(&link).unwrap_err();
        assert_eq!(err.kind(), Kind::Usage);
        assert!(err.why().contains("link"), "{err}");
        assert!(!is_folder(&link));
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(folder(&file).is_err());
    }

    #[test]
    fn a_file_is_ours_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true);
        open(&file, &options).unwrap();
        assert_eq!(mode(&file), 0o600);
        let link = dir.path().join("link");
        symlink(&file, &link).unwrap();
        assert!(open(&link, &options).is_err());
        assert!(open(dir.path(), OpenOptions::new().read(true)).is_err());
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        assert!(open(&pipe, OpenOptions::new().read(true)).is_err());
    }

    #[test]
    fn what_is_anothers_is_refused() {
        let own = rustix::process::geteuid().as_raw();
        owner(own).unwrap();
        let err = refused(Path::new("work"), &owner(own + 1).unwrap_err());
        assert!(err.why().contains("belongs to user"), "{err}");
    }
}
