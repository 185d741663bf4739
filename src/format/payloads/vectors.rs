//! The names of a segment's vectors: keys of its `segment.json`, and parts of the names of two folders for
//! each vector (`get_vector_storage_path` and `get_vector_index_path` in
//! lib/segment/src/segment_constructor/segment_constructor_base.rs). Nothing else in a segment has them.
//!
//! Invariants: what lies in the folders is moved and never read; a folder of no vector stays; a segment stays of
//! its kind, since a server looks for the ids of the other kind in other files.

use std::path::Path;

use serde_json::Value;
use uuid::Uuid;

use crate::base::error::{Error, Result};
use crate::base::scratch;
use crate::format::schema::{VectorChanges, vector_label};
use crate::format::{SegmentKind, layout};

/// `segment.json` with the vectors that the master has, under their names there; or why two of them would
/// have one name, as one that the collection's config does not have any more.
pub fn renamed_state(changes: &VectorChanges, mut state: Value) -> Result<Value, String> {
    for kind in ["vector_data", "sparse_vector_data"] {
        if let Some(Value::Object(vectors)) = state.pointer_mut(&format!("/config/{kind}")) {
            let renamed = changes.keys(std::mem::take(vectors));
            *vectors = renamed.map_err(|(one, other)| {
                let (one, other) = (vector_label(&one), vector_label(&other));
                format!("{one} and {other} of a segment would get the same name")
            })?;
        }
    }
    Ok(state)
}

/// Returns why the vectors of a segment with this `state` cannot be renamed, or left out, there, if so.
pub fn unrenamable_state(changes: &VectorChanges, state: Value) -> Option<String> {
    let takes_points = SegmentKind::of(&state).appendable;
    let renamed = match renamed_state(changes, state) {
        Ok(renamed) => renamed,
        Err(why) => return Some(why),
    };
    (SegmentKind::of(&renamed).appendable != takes_points).then(|| {
        "of the vectors that are left, none tells that nothing is added to it, so a server would look for \
         its ids in files that it does not have"
            .into()
    })
}

/// Returns why the vectors of a segment with these `names` cannot be renamed there, if so.
pub fn unrenamable<'a>(names: impl IntoIterator<Item = &'a String>) -> Option<String> {
    let mut names = names.into_iter();
    let name = names.find(|name| name.contains('/'))?;
    Some(format!(
        "{} lies in a folder of a folder, which is not renamed",
        vector_label(name)
    ))
}

/// New name of the file called `name` of a segment; none if it is left out.
pub(super) fn renamed_file(changes: &VectorChanges, name: &str) -> Option<String> {
    let Some((folder, rest)) = name.split_once('/') else {
        return Some(name.to_owned());
    };
    renamed_folder(changes, folder).map(|folder| format!("{folder}/{rest}"))
}

fn renamed_folder(changes: &VectorChanges, folder: &str) -> Option<String> {
    for of_vector in [layout::vector_storage, layout::vector_index] {
        let unnamed = of_vector("");
        let name = match folder.strip_prefix(unnamed.as_str()) {
            Some("") => "",
            Some(rest) => match rest.strip_prefix('-') {
                Some(name) => name,
                None => continue,
            },
            None => continue,
        };
        return changes.name(name).map(of_vector);
    }
    Some(folder.to_owned())
}

/// Renames the vectors of the unpacked segment in `folder`, and leaves out those that the master does not
/// have.
pub(super) fn rename_in_folder(changes: &VectorChanges, folder: &Path) -> Result<()> {
    let failed = |err: std::io::Error| Error::io("listing", folder, &err);
    let mut moved = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !entry.file_type().map_err(failed)?.is_dir() {
            continue;
        }
        match renamed_folder(changes, &name) {
            Some(same) if same == name => {}
            Some(new) => moved.push((name, new)),
            None => scratch::remove_folder(&entry.path())?,
        }
    }
    // Two may change places.
    let moving: Vec<_> = moved
        .into_iter()
        .map(|(old, new)| (old, folder.join(Uuid::new_v4().to_string()), new))
        .collect();
    for (old, between, _) in &moving {
        scratch::move_folder(&folder.join(old), between)?;
    }
    for (_, between, new) in &moving {
        scratch::move_folder(between, &folder.join(new))?;
    }
    let path = folder.join(layout::SEGMENT_STATE);
    let bytes = std::fs::read(&path).map_err(|err| Error::io("reading", &path, &err))?;
    let state: Value = serde_json::from_slice(&bytes)
        .map_err(|err| Error::damaged(format!("reading {}", path.display()), err))?;
    std::fs::remove_file(&path).map_err(|err| Error::io("removing", &path, &err))?;
    let state = renamed_state(changes, state)
        .map_err(|why| Error::failed(format!("renaming vectors in {}", path.display()), why))?;
    super::write_json(&path, &state)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn files_go_with_their_vectors() {
        let changes = VectorChanges::of(&[("a", "b"), ("b", "a"), ("", "c")], &["old"]).unwrap();
        for (name, wanted) in [
            (
                "vector_storage-a/vectors/chunk_0.mmap",
                Some("vector_storage-b/vectors/chunk_0.mmap"),
            ),
            ("vector_index-b/graph.bin", Some("vector_index-a/graph.bin")),
            (
                "vector_storage/deleted.dat",
                Some("vector_storage-c/deleted.dat"),
            ),
            ("vector_index-old/graph.bin", None),
            (
                "vector_storage-a-2/matrix.dat",
                Some("vector_storage-a-2/matrix.dat"),
            ),
            ("vector_storage_a/x", Some("vector_storage_a/x")),
            (
                "payload_storage/page_0.dat",
                Some("payload_storage/page_0.dat"),
            ),
            ("segment.json", Some("segment.json")),
        ] {
            assert_eq!(renamed_file(&changes, name).as_deref(), wanted, "{name}");
        }
    }

    #[test]
    fn a_segment_stays_of_its_kind() {
        let fixed = json!({"storage_type": "Mmap", "index": {"type": "hnsw"}});
        let takes = json!({"storage_type": "InRamChunkedMmap", "index": {"type": "plain"}});
        let state = json!({"config": {"vector_data": {"a": fixed, "b": takes}}});
        let why = |renamed: &[(&str, &str)], dropped: &[&str]| {
            unrenamable_state(&VectorChanges::of(renamed, dropped).unwrap(), state.clone())
        };
        assert_eq!(why(&[("a", "c"), ("b", "a")], &[]), None);
        assert_eq!(why(&[], &["b"]), None);
        assert!(why(&[], &["a"]).unwrap().contains("nothing is added to it"));
        assert!(why(&[], &["a", "b"]).is_some());
        assert!(why(&[("a", "b")], &[]).unwrap().contains("the same name"));
    }

    #[test]
    fn two_vectors_of_a_folder_change_places() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        for name in ["a", "b", "old"] {
            for of_vector in [layout::vector_storage, layout::vector_index] {
                fs::create_dir(folder.join(of_vector(name))).unwrap();
                fs::write(folder.join(of_vector(name)).join("is"), name).unwrap();
            }
        }
        let state = json!({"version": 7, "config": {
            "vector_data": {"a": {"size": 1}, "b": {"size": 2}},
            "sparse_vector_data": {"old": {}},
            "payload_storage_type": {"type": "mmap"},
        }});
        fs::write(folder.join("segment.json"), state.to_string()).unwrap();
        let changes = VectorChanges::of(&[("a", "b"), ("b", "a")], &["old"]).unwrap();
        rename_in_folder(&changes, folder).unwrap();
        let of = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(of("vector_storage-a/is"), "b");
        assert_eq!(of("vector_index-b/is"), "a");
        assert!(!folder.join("vector_storage-old").exists());
        assert_eq!(fs::read_dir(folder).unwrap().count(), 5);
        let state: Value = serde_json::from_str(&of("segment.json")).unwrap();
        let wanted = json!({"version": 7, "config": {
            "vector_data": {"b": {"size": 1}, "a": {"size": 2}},
            "sparse_vector_data": {},
            "payload_storage_type": {"type": "mmap"},
        }});
        assert_eq!(state, wanted);
    }
}
