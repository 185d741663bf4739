//! Snapshots on a server: made, listed, removed; and the moment when one is being made.
//!
//! Invariants: a snapshot is asked for once; whoever stops waiting for one still learns its name, so
//! that it can be removed; what is removed and is not there any more is no failure.

use std::time::Duration;

use reqwest::Method;
use tokio::task::JoinHandle;

use super::Connection;
use super::answers::ServerSnapshot;
use super::call::{Call, CallTimeout};
use super::failure::Failure;
use super::rest::not_found_as_none;
use crate::base::error::{Error, Result};

/// Longest time that a server may take to make a snapshot.
const MAKING: Duration = Duration::from_secs(24 * 3600);
/// Longest wait for the name of a snapshot that nobody wants any more.
const NAME_WAIT: Duration = Duration::from_secs(60);

/// A snapshot that a server is making.
pub struct Making {
    connection: Connection,
    doing: String,
    task: JoinHandle<Result<ServerSnapshot, Failure>>,
}

impl Connection {
    /// Begins to make a snapshot of this member's part of a collection.
    pub fn make_snapshot(&self, collection: &str) -> Making {
        let doing = format!("making a snapshot of {collection} on {}", self.who());
        let call = Call::new(
            Method::POST,
            doing.clone(),
            &["collections", collection, "snapshots"],
        )
        .query("wait", "true")
        .once()
        .patience(CallTimeout::For(MAKING));
        let connection = self.clone();
        let task = self.spawn(async move { connection.asked(&call).await });
        Making {
            connection: self.clone(),
            doing,
            task,
        }
    }

    /// The snapshots of a collection that lie on this member.
    pub fn snapshots(&self, collection: &str) -> Result<Vec<ServerSnapshot>, Failure> {
        self.ask(&self.listing(collection))
    }

    /// The same while putting away.
    pub fn snapshots_putting_away(&self, collection: &str) -> Result<Vec<ServerSnapshot>, Failure> {
        let listed = not_found_as_none(self.ask_putting_away(&self.listing(collection)))?;
        Ok(listed.unwrap_or_default())
    }

    fn listing(&self, collection: &str) -> Call {
        let doing = format!("listing the snapshots of {collection} on {}", self.who());
        Call::get(doing, &["collections", collection, "snapshots"])
    }

    /// Removes a snapshot from this member, also when the user asked to stop. Tells whether it was
    /// there.
    pub fn delete_snapshot(&self, collection: &str, name: &str) -> Result<bool, Failure> {
        let doing = format!(
            "removing snapshot {name} of {collection} from {}",
            self.who()
        );
        let call = Call::new(
            Method::DELETE,
            doing,
            &["collections", collection, "snapshots", name],
        )
        .query("wait", "true")
        .patience(self.at_least(Duration::from_secs(300)));
        let removed = not_found_as_none(self.ask_putting_away::<bool>(&call))?;
        Ok(removed.is_some())
    }
}

impl Making {
    /// Waits until it is made. When the user asks to stop before, its name is still waited for, but
    /// not for long: then the failure comes with the snapshot.
    pub fn wait(mut self) -> (Option<ServerSnapshot>, Result<(), Failure>) {
        let ended = |done: std::result::Result<Result<ServerSnapshot, Failure>, _>| match done {
            Ok(made) => made,
            Err(err) => Err(Error::failed(self.doing.clone(), err).into()),
        };
        let task = &mut self.task;
        match self.connection.run(&self.doing, async { Ok(task.await) }) {
            Ok(done) => match ended(done) {
                Ok(made) => (Some(made), Ok(())),
                Err(failure) => (None, Err(failure)),
            },
            Err(stopped) => {
                let task = &mut self.task;
                let named = self.connection.put_away(&self.doing, async {
                    Ok::<_, Error>(match tokio::time::timeout(NAME_WAIT, task).await {
                        Ok(done) => ended(done).ok(),
                        Err(_) => None,
                    })
                });
                (named.unwrap_or(None), Err(stopped))
            }
        }
    }
}
