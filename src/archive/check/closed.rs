//! Checking an encrypted archive without its key: everything that lies there is compared with the hash that
//! names it.
//!
//! Invariants: what cannot be known without the key is not claimed: that nothing is missing, and which
//! entries a damaged file belongs to; a file that another run removes meanwhile is no damage.

use std::collections::BTreeSet;

use super::super::chain::{self, Chain};
use super::super::lock::LOCK;
use super::super::name::{Name, is_of_job};
use super::super::store::{Listed, RESERVE, Store};
use super::super::{Archive, OBJECTS, RECIPES, object, recipe};
use super::repair::fetch_again;
use super::{Checked, Finding, chain_files};
use crate::base::error::{Kind, Result};
use crate::base::parallel::in_parallel;

/// Result of checking a file.
enum CheckedFile {
    /// It has the hash that names it, and so many bytes.
    Whole(u64),
    Repaired(u64),
    Wrong(String),
    Gone,
}

impl Archive {
    /// Hashes every recipe, and every object or those of the share, and fetches from `repair` what is
    /// damaged.
    pub(super) fn check_closed(
        &self,
        repair: Option<&dyn Store>,
        checked: &mut Checked,
    ) -> Result<()> {
        checked.without_key = true;
        let store = &*self.store;
        let listed = store.list("")?;
        let named = |folder, bytes_max| named(&listed, folder, bytes_max);
        let recipes = named(RECIPES, recipe::STORED_BYTES_MAX);
        let mut objects = named(OBJECTS, object::STORED_BYTES_MAX);
        checked.objects_all = objects.len() as u64;
        let subset = checked.subset;
        let is_in_share = |name: &Name| subset.is_none_or(|s| name.share(s.of) == s.which - 1);
        objects.retain(|file| is_in_share(&file.name));
        let look = |file: &&File| check_file(store, repair, file);
        let looked = in_parallel(&recipes, store.at_once(), |file| look(&file))?;
        for (file, looked) in recipes.iter().zip(looked) {
            let name = file.name;
            checked.recipes += u64::from(matches!(
                looked,
                CheckedFile::Whole(_) | CheckedFile::Repaired(_)
            ));
            match looked {
                CheckedFile::Repaired(_) => checked.repaired.push(format!("recipe {name}")),
                CheckedFile::Wrong(why) => checked.findings.push(Finding::Recipe { name, why }),
                CheckedFile::Whole(_) | CheckedFile::Gone => {}
            }
        }
        let looked = in_parallel(&objects, store.at_once(), |file| look(&file))?;
        for (file, looked) in objects.iter().zip(looked) {
            let name = file.name;
            checked.objects += u64::from(!matches!(looked, CheckedFile::Gone));
            match looked {
                CheckedFile::Whole(bytes) => checked.bytes += bytes,
                CheckedFile::Repaired(bytes) => {
                    checked.bytes += bytes;
                    checked.repaired.push(format!("object {name}"));
                }
                CheckedFile::Wrong(why) => checked.findings.push(Finding::Object { name, why }),
                CheckedFile::Gone => {}
            }
        }
        if let Some(other) = repair {
            fetch_missing(store, other, &listed, checked)?;
        }
        let (now, _) = self.examine()?;
        checked.records_meanwhile = (now.records.len() as u64).saturating_sub(checked.records);
        checked.findings.extend(extras(&listed, &now, checked));
        Ok(())
    }
}

/// Fetches what a copy of the same state has and this archive has not: without the key nobody knows that it
/// is missing.
fn fetch_missing(
    store: &dyn Store,
    other: &dyn Store,
    listed: &[Listed],
    checked: &mut Checked,
) -> Result<()> {
    if chain::read_head(store)? != chain::read_head(other)? {
        return Ok(());
    }
    let here: BTreeSet<&str> = listed.iter().map(|one| one.name.as_str()).collect();
    let theirs = other.list("")?;
    for (folder, word, bytes_max) in [
        (RECIPES, "recipe", recipe::STORED_BYTES_MAX),
        (OBJECTS, "object", object::STORED_BYTES_MAX),
    ] {
        for file in named(&theirs, folder, bytes_max) {
            if !here.contains(file.path.as_str())
                && fetch_again(store, other, &file.path, file.name)?
            {
                checked.repaired.push(format!("{word} {}", file.name));
            }
        }
    }
    Ok(())
}

/// A file that is named by its hash.
struct File {
    name: Name,
    path: String,
    bytes_max: u64,
}

/// Those of `listed` in `folder` that are named by a hash.
fn named(listed: &[Listed], folder: &str, bytes_max: u64) -> Vec<File> {
    let files = listed.iter().filter_map(|one| {
        Some(File {
            name: Name::of_path(folder, &one.name)?,
            path: one.name.clone(),
            bytes_max,
        })
    });
    files.collect()
}

/// Compares a file with its name, and fetches it again if it is damaged.
fn check_file(store: &dyn Store, repair: Option<&dyn Store>, file: &File) -> Result<CheckedFile> {
    let wrong = match store.get(&file.path, file.bytes_max) {
        Ok(None) => return Ok(CheckedFile::Gone),
        Ok(Some(bytes)) => match Name::of(&bytes) {
            is if is == file.name => return Ok(CheckedFile::Whole(bytes.len() as u64)),
            is => format!("its SHA-256 is {is}"),
        },
        Err(err) if err.kind() == Kind::Damaged => err.why().to_owned(),
        Err(err) => return Err(err),
    };
    if let Some(other) = repair
        && fetch_again(store, other, &file.path, file.name)?
    {
        let bytes = store.head(&file.path, 1)?.map_or(0, |(_, bytes)| bytes);
        return Ok(CheckedFile::Repaired(bytes));
    }
    Ok(CheckedFile::Wrong(wrong))
}

/// Of what is listed, what is no part of an archive.
fn extras(listed: &[Listed], chain: &Chain, checked: &Checked) -> Vec<Finding> {
    let of_chain = chain_files(chain, checked);
    let is_part = |name: &str| {
        is_of_job(name)
            || [chain::HEAD, LOCK, RESERVE].contains(&name)
            || of_chain.contains(name)
            || [OBJECTS, RECIPES]
                .into_iter()
                .any(|folder| Name::of_path(folder, name).is_some())
    };
    let extra = listed.iter().filter(|listed| !is_part(&listed.name));
    extra
        .map(|listed| Finding::Extra {
            path: listed.name.clone(),
            bytes: listed.bytes,
        })
        .collect()
}
