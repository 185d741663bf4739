//! Points that are in a collection and are not to be.
//!
//! Invariants: every point that is there and was not given is found; memory is bounded by a page of ids.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use crate::base::error::{Error, Result};
use crate::base::scratch;
use crate::build::ByKey;
use crate::point::{PointId, ShardKey};

/// Points that are deleted at once.
const BATCH_RECORDS: usize = 1000;

/// Ids that are there, walked along with ids that are given, to find those that were not.
pub struct OrphanScan {
    point_streams: BTreeMap<Option<ShardKey>, KeyPages>,
    /// Keys by number.
    keys: Vec<Option<ShardKey>>,
    found: BufWriter<File>,
    path: PathBuf,
    count: u64,
}

struct KeyPages {
    number: usize,
    pages: Receiver<Result<Vec<PointId>>>,
    page: std::vec::IntoIter<PointId>,
    head: Option<PointId>,
    last: Option<PointId>,
}

impl OrphanScan {
    /// Begins to read the ids of what is `there`; what is found goes into a file in `folder`.
    pub fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        there: &ByKey,
        folder: &Path,
    ) -> Result<Self> {
        let path = folder.join("not-given");
        let found = BufWriter::new(scratch::create(&path)?);
        let mut point_streams = BTreeMap::new();
        let mut keys = Vec::new();
        for (key, points) in there {
            let (sender, pages) = sync_channel(1);
            let points = points.clone();
            scope.spawn(move || {
                let read = points.ids(|ids| sender.send(Ok(ids.to_vec())).is_ok());
                if let Err(err) = read {
                    // Nobody listens any more when the work has failed elsewhere.
                    let _ = sender.send(Err(err));
                }
            });
            let number = keys.len();
            keys.push(key.clone());
            point_streams.insert(
                key.clone(),
                KeyPages {
                    number,
                    pages,
                    page: Vec::new().into_iter(),
                    head: None,
                    last: None,
                },
            );
        }
        Ok(Self {
            point_streams,
            keys,
            found,
            path,
            count: 0,
        })
    }

    /// The record with `id` under `key` is given; ids come ascending.
    pub fn given(&mut self, key: &Option<ShardKey>, id: PointId) -> Result<()> {
        let Some(point_stream) = self.point_streams.get_mut(key) else {
            return Ok(());
        };
        while let Some(head) = point_stream.peek()? {
            if head > id {
                break;
            }
            point_stream.head = None;
            if head < id {
                note(&mut self.found, &self.path, point_stream.number, head)?;
                self.count += 1;
            }
        }
        Ok(())
    }

    /// No more is given. Returns what was there and was not given.
    pub fn end(mut self) -> Result<NotGiven> {
        for point_stream in self.point_streams.values_mut() {
            while let Some(head) = point_stream.peek()? {
                point_stream.head = None;
                note(&mut self.found, &self.path, point_stream.number, head)?;
                self.count += 1;
            }
        }
        self.found
            .flush()
            .map_err(|err| Error::io("writing", &self.path, &err))?;
        Ok(NotGiven {
            keys: self.keys,
            path: self.path,
            count: self.count,
        })
    }
}

fn note(found: &mut BufWriter<File>, path: &Path, number: usize, id: PointId) -> Result<()> {
    writeln!(found, "{number} {id}").map_err(|err| Error::io("writing", path, &err))
}

impl KeyPages {
    fn peek(&mut self) -> Result<Option<PointId>> {
        while self.head.is_none() {
            if let Some(id) = self.page.next() {
                // An id that is deleted because it came too late would be a loss.
                if self.last.is_some_and(|last| last >= id) {
                    return Err(Error::failed(
                        "walking along the ids of the target",
                        format!("id {id} came out of order"),
                    ));
                }
                self.last = Some(id);
                self.head = Some(id);
                break;
            }
            match self.pages.recv() {
                Ok(page) => self.page = page?.into_iter(),
                // The thread is at its end.
                Err(_) => return Ok(None),
            }
        }
        Ok(self.head)
    }
}

/// Points that were there and were not given.
pub struct NotGiven {
    keys: Vec<Option<ShardKey>>,
    path: PathBuf,
    /// Number of these points.
    pub count: u64,
}

impl NotGiven {
    /// Deletes them from what is `there`.
    pub fn delete(&self, there: &ByKey) -> Result<()> {
        let file = File::open(&self.path).map_err(|err| Error::io("opening", &self.path, &err))?;
        let mut batches: BTreeMap<usize, Vec<PointId>> = BTreeMap::new();
        let delete = |number: usize, ids: &[PointId]| {
            let key = self.keys.get(number);
            match key.and_then(|key| there.get(key)) {
                Some(points) if !ids.is_empty() => points.delete(ids),
                _ => Ok(()),
            }
        };
        for line in BufReader::new(file).lines() {
            let line = line.map_err(|err| Error::io("reading", &self.path, &err))?;
            let parsed = line
                .split_once(' ')
                .and_then(|(number, id)| Some((number.parse().ok()?, id.parse().ok()?)));
            let Some((number, id)) = parsed else {
                return Err(Error::failed(
                    format!("reading {}", self.path.display()),
                    "it is not what was written",
                ));
            };
            let batch: &mut Vec<PointId> = batches.entry(number).or_default();
            batch.push(id);
            if batch.len() >= BATCH_RECORDS {
                delete(number, &std::mem::take(batch))?;
            }
        }
        for (number, ids) in batches {
            delete(number, &ids)?;
        }
        Ok(())
    }
}
