//! A folder that is published whole.
//!
//! Invariants: it has its name when everything in it is written and synced; nothing that is there is replaced: a folder
//! may hold what nobody thinks of.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{create, make_folder, rename_new};
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
    /// Stages a folder that is to become `target`, which is not there.
    pub fn new(target: &Path) -> Result<Self> {
        let refuse = |why: String| Error::usage(format!("writing {}", target.display()), why);
        let name = target
            .file_name()
            .ok_or_else(|| refuse("it names no folder".into()))?;
        if target.symlink_metadata().is_ok() {
            return Err(is_there(target));
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
    pub fn publish(self) -> Result<()> {
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
        rename_new(&path, &target).map_err(|err| match err.kind() {
            io::ErrorKind::AlreadyExists => is_there(&target),
            _ => Error::io("publishing", &target, &err),
        })?;
        sync(folder_of(&target))
    }
}

fn is_there(target: &Path) -> Error {
    Error::usage(
        format!("writing {}", target.display()),
        "it exists already, and folders are not replaced",
    )
    .next("choose another name, or remove it")
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

    fn write(target: &Path, text: &str) -> Result<()> {
        let mut staged = StagedFolder::new(target)?;
        for name in ["MARK", "deep/er/file"] {
            let (mut file, _) = staged.create(Path::new(name))?;
            file.write_all(text.as_bytes()).unwrap();
        }
        assert!(!target.exists());
        staged.publish()
    }

    #[test]
    fn a_folder_is_whole_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let text = || std::fs::read_to_string(target.join("deep/er/file")).unwrap();
        write(&target, "1").unwrap();
        assert_eq!(text(), "1");
        let err = write(&target, "2").unwrap_err().to_string();
        assert!(err.contains("exists already"), "{err}");
        // One that comes in between stays.
        let late = dir.path().join("late");
        let staged = StagedFolder::new(&late).unwrap();
        std::fs::create_dir(&late).unwrap();
        assert!(staged.publish().is_err());
        assert_eq!(std::fs::read_dir(&late).unwrap().count(), 0);
        assert_eq!(text(), "1");
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 2, "what is left beside it");
    }
}
