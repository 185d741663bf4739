//! Reading, hashing, cutting and sealing, each in its own thread.
//!
//! Invariants: no more than a few blocks and objects are in memory; when one thread fails, the others
//! end, and its error is the one that is told.

use std::io::Read as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::chunker::Chunker;
use super::files::FileHashes;
use super::{Adding, PendingUpload};
use crate::archive::OBJECTS;
use crate::archive::index::Index;
use crate::archive::name::Name;
use crate::archive::object::{PackBuilder, Sealer};
use crate::archive::pool::Pool;
use crate::archive::recipe::{PackRef, Recipe};
use crate::archive::store::{Store, key_of};
use crate::base::error::{Error, Result};
use crate::base::parallel::lock;
use crate::format::{Algorithm, Hashes, Input, TarExtents};

/// Bytes that are read at once.
const BLOCK_BYTES: usize = 1 << 20;
/// Blocks that wait to be cut.
const BLOCKS_WAITING: usize = 4;
/// Objects that are sealed and put at once.
const SEALERS_MAX: usize = 3;

/// Result of storing a snapshot's data.
pub struct StoredData {
    /// Recipe that rebuilds the snapshot from objects.
    pub recipe: Recipe,
    /// The file's hashes.
    pub hashes: Hashes,
    /// The snapshot's BLAKE3.
    pub blake3: String,
    /// Bytes of new objects as they lie there.
    pub new_bytes: u64,
}

/// Reads the snapshot, cuts it, and puts what is new.
pub fn store_all(
    adding: &Adding,
    runs: &TarExtents,
    index: Index,
    put: &mut PendingUpload<'_>,
) -> Result<StoredData> {
    let store = put.store;
    let run = Uuid::new_v4();
    let sealed: Mutex<Vec<(u32, PackRef)>> = Mutex::default();
    let (blocks_in, blocks) = sync_channel::<Block>(BLOCKS_WAITING);
    let (hashing_in, hashing) = sync_channel::<Block>(BLOCKS_WAITING);
    let (fillings_in, packs) = sync_channel::<(u32, PackBuilder)>(1);
    let packs = Mutex::new(Some(packs));
    let sealers = store.at_once().min(SEALERS_MAX);
    // Memory that was used once is used again: new memory is what costs most, after hashing.
    let (used_blocks, used_fillings) = (Pool::default(), Pool::default());
    let (cut, read) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(adding, &used_blocks, [blocks_in, hashing_in]));
        let hasher = scope.spawn(|| hash(runs, &used_blocks, hashing));
        let sealers: Vec<_> = (0..sealers)
            .map(|_| {
                scope.spawn(|| {
                    let ended = seal(store, run, &packs, &used_fillings, &sealed);
                    if ended.is_err() {
                        // Nobody waits for an object to be taken any more.
                        lock(&packs).take();
                    }
                    ended
                })
            })
            .collect();
        let mut chunker = Chunker::new(runs, index, fillings_in, &used_fillings);
        let mut cut = Ok(());
        for block in &blocks {
            cut = chunker.feed(&block);
            used_blocks.give_shared(block);
            if cut.is_err() {
                break;
            }
        }
        drop(blocks);
        let cut = cut.and_then(|()| chunker.end());
        let read = join(reader);
        let hashed = hasher
            .join()
            .map_err(|_| Error::failed("hashing", "a thread ended"));
        let read = read.and_then(|hashes| Ok((hashes, hashed?)));
        let mut failed = None;
        for sealer in sealers {
            if let Err(err) = join(sealer) {
                failed.get_or_insert(err);
            }
        }
        match (failed, read) {
            // If the sealers failed, so did everybody else for their sake.
            (Some(err), _) | (None, Err(err)) => (Err(err), None),
            (None, Ok(read)) => (cut, Some(read)),
        }
    });
    let mut parts = sealed.into_inner().unwrap_or_else(PoisonError::into_inner);
    parts.sort_by_key(|(number, _)| *number);
    let parts: Vec<PackRef> = parts.into_iter().map(|(_, part)| part).collect();
    put.objects = parts.iter().map(|part| part.name).collect();
    let cut = cut?;
    let (hashes, (content, blake3, files)) =
        read.ok_or_else(|| Error::failed("hashing", &adding.file))?;
    let sha256 = content.to_string();
    let recipe = cut.into_recipe(run, &parts, (runs, &files), sha256.clone())?;
    // Of a .gz they were hashed while it was decompressed.
    let hashes = hashes.unwrap_or_else(|| Hashes {
        algorithm: Algorithm::Sha256,
        file: sha256.clone(),
        content: sha256,
        content_bytes: recipe.bytes,
    });
    Ok(StoredData {
        recipe,
        new_bytes: parts.iter().map(|part| part.stored).sum(),
        hashes,
        blake3: blake3.to_hex().to_string(),
    })
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Err(Error::failed("storing", "a thread ended")))
}

/// Bytes that were read, for all that take them.
type Block = Arc<Vec<u8>>;

/// Reads the file, for all of `takers`. Of a .gz it returns the hashes.
fn read(
    adding: &Adding,
    used: &Pool<Vec<u8>>,
    takers: [SyncSender<Block>; 2],
) -> Result<Option<Hashes>> {
    let file = &adding.file;
    let mut input = Input::open(file, None, adding.passed.clone())?;
    if input.is_compressed() {
        input = Input::open(file, Some(Algorithm::Sha256), adding.passed.clone())?;
    }
    loop {
        let mut block = used.take();
        block.resize(BLOCK_BYTES, 0);
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..)
            && !rest.is_empty()
        {
            match input.read(rest) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
                Err(err) => return Err(Error::reading(format!("reading snapshot {file}"), &err)),
            }
        }
        block.truncate(filled);
        let block = Arc::new(block);
        // Whoever takes them has failed, and says why.
        let given = takers
            .iter()
            .all(|taker| taker.send(Arc::clone(&block)).is_ok());
        if filled == 0 || !given {
            return Ok(input.into_hashes());
        }
        used.give_shared(block);
    }
}

/// Hashes what was read, and the files in it.
fn hash(
    runs: &TarExtents,
    used: &Pool<Vec<u8>>,
    blocks: Receiver<Block>,
) -> (Name, blake3::Hash, Vec<blake3::Hash>) {
    let (mut whole, mut files) = (Sha256::new(), FileHashes::new(runs));
    let mut blake3 = blake3::Hasher::new();
    for block in blocks {
        whole.update(block.as_slice());
        blake3.update(&block);
        files.feed(&block);
        used.give_shared(block);
    }
    (Name::from_hasher(whole), blake3.finalize(), files.end())
}

/// Seals and puts objects as they are filled.
fn seal(
    store: &dyn Store,
    run: Uuid,
    packs: &Mutex<Option<Receiver<(u32, PackBuilder)>>>,
    used: &Pool<PackBuilder>,
    sealed: &Mutex<Vec<(u32, PackRef)>>,
) -> Result<()> {
    let mut sealer = Sealer::new(*run.as_bytes(), key_of(store))?;
    loop {
        let next = match &*lock(packs) {
            Some(packs) => packs.recv(),
            None => return Ok(()),
        };
        let Ok((number, pack)) = next else {
            return Ok(());
        };
        let object = sealer.seal(&pack)?;
        let part = PackRef {
            name: object.name,
            raw: pack.raw.len() as u64,
            stored: object.bytes.len() as u64,
            table: object.table,
        };
        used.give(pack);
        // Known before it is there, so that it is taken back in any case.
        lock(sealed).push((number, part));
        if !store.put_new(&object.name.path(OBJECTS), object.bytes)? {
            return Err(Error::failed(
                format!("storing object {}", object.name),
                "there is one already, and no two runs make the same",
            ));
        }
    }
}
