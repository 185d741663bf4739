//! A folder that is published whole.
//!
//! Invariants: it has its name when everything in it is written and synced; a folder that is there is replaced in one
//! step, only when that was asked for, and only if it is one of the same kind.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use super::{create, exists, make_folder, rename_new};
use crate::base::error::{Error, Result};
use crate::base::own;
use crate::base::path::folder_of;
use crate::base::scratch::Scratch;
use crate::base::status;

/// A folder on its way to its final name.
#[derive(Debug)]
pub struct StagedFolder {
    _staging: Scratch,
    path: PathBuf,
    target: PathBuf,
    files: Vec<PathBuf>,
}

impl StagedFolder {
    /// Stages a folder that is to become `target`. With `replace` a folder that is there and has a file `mark` is
    /// replaced at the end; everything else that is there is an error.
    pub fn new(target: &Path, mark: &str, replace: bool) -> Result<Self> {
        let refuse = |why: String| Error::usage(format!("writing {}", target.display()), why);
        let name = target
            .file_name()
            .ok_or_else(|| refuse("it names no folder".into()))?;
        if target.symlink_metadata().is_ok() {
            if !replace {
                return Err(exists(target));
            }
            if !own::is_folder(target) || !target.join(mark).is_file() {
                return Err(refuse(format!(
                    "it is no folder with {mark}, and --force replaces no other"
                ))
                .next("choose another name"));
            }
        }
        let parent = folder_of(target);
        if !parent.is_dir() {
            return Err(refuse(format!("there is no folder {}", parent.display()))
                .next("make the folder first"));
        }
        let staging = Scratch::new(parent)?;
        let path = staging.path().join(name);
        make_folder(&path)?;
        Ok(Self {
            path,
            _staging: staging,
            target: target.to_owned(),
            files: Vec::new(),
        })
    }

    /// Creates the file `name` in it, with the folders that it lies in; returns it and its path until then.
    pub fn create(&mut self, name: &Path) -> Result<(File, PathBuf)> {
        let path = self.path.join(name);
        make_folder(folder_of(&path))?;
        let file = create(&path, own::FILE_MODE)?;
        self.files.push(path.clone());
        Ok((file, path))
    }

    /// Syncs everything in it, and gives it its final name.
    pub fn publish(self, replace: bool) -> Result<()> {
        let Self {
            path,
            target,
            files,
            _staging,
        } = self;
        for file in &files {
            sync(file)?;
            let inside = file.ancestors().skip(1);
            for folder in inside.take_while(|folder| folder.starts_with(&path)) {
                sync(folder)?;
            }
        }
        status::publishing(&path, &target);
        let failed = |err: io::Error| match err.kind() {
            io::ErrorKind::AlreadyExists => exists(&target),
            _ => Error::io("publishing", &target, &err),
        };
        match replace && target.symlink_metadata().is_ok() {
            // What was there goes away with the staging.
            true => rustix::fs::renameat_with(CWD, &path, CWD, &target, RenameFlags::EXCHANGE)
                .map_err(|err| failed(err.into()))?,
            false => rename_new(&path, &target).map_err(failed)?,
        }
        sync(folder_of(&target))
    }
}

fn sync(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|err| Error::io("syncing", path, &err))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn write(target: &Path, text: &str, replace: bool) -> Result<()> {
        let mut staged = StagedFolder::new(target, "MARK", replace)?;
        for name in ["MARK", "deep/er/file"] {
            let (mut file, _) = staged.create(Path::new(name))?;
            file.write_all(text.as_bytes()).unwrap();
        }
        assert!(replace || !target.exists());
        staged.publish(replace)
    }

    #[test]
    fn a_folder_is_whole_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let text = || std::fs::read_to_string(target.join("deep/er/file")).unwrap();
        write(&target, "1", false).unwrap();
        assert_eq!(text(), "1");
        assert!(write(&target, "2", false).is_err());
        assert_eq!(text(), "1");
        write(&target, "3", true).unwrap();
        assert_eq!(text(), "3");
        std::fs::remove_file(target.join("MARK")).unwrap();
        let err = write(&target, "4", true).unwrap_err().to_string();
        assert!(err.contains("MARK"), "{err}");
        assert_eq!(text(), "3");
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 1, "what is left beside it");
    }
}
