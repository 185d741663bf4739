//! Looks at a server's telemetry that captures of many collections share.
//!
//! One look tells of all collections, and costs the server the more the more there are. What is moved between
//! two looks is proven by both, however far apart they are: a look before the first byte and one after the
//! last bound whatever was restored, dropped or written meanwhile. Wider bounds only make it likelier that
//! something was, and then the collection is captured by itself between two looks of its own.
//!
//! Invariants: a look stands for the state before an act only if its answer had arrived before the act began,
//! and for the state after it only if it was asked for after the act had ended.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::base::error::Result;
use crate::base::parallel::lock;
use crate::server::{Connection, Telemetry};

/// Age up to which an earlier look is the state before an act. An older one would be sound, too, but would take
/// what was written since for something that came in between.
const AGE_MAX: Duration = Duration::from_secs(60);

/// The last look at a server.
#[derive(Default)]
pub struct Looks {
    last: Mutex<Option<Arc<Telemetry>>>,
}

impl Looks {
    /// A look at `server` for the state before whatever begins after this returns.
    pub fn before(&self, server: &Connection) -> Result<Arc<Telemetry>> {
        self.last_or_new(server, |last| last.asked.elapsed() <= AGE_MAX)
    }

    /// A look at `server` for the state after what had ended at `moment`.
    pub fn after(&self, server: &Connection, moment: Instant) -> Result<Arc<Telemetry>> {
        self.last_or_new(server, |last| last.asked >= moment)
    }

    /// The last look if it will do. Whoever comes while another one looks waits, and may have that look.
    fn last_or_new(
        &self,
        server: &Connection,
        will_do: impl Fn(&Telemetry) -> bool,
    ) -> Result<Arc<Telemetry>> {
        let mut last = lock(&self.last);
        if let Some(last) = last.as_ref().filter(|last| will_do(last)) {
            return Ok(Arc::clone(last));
        }
        let look = Arc::new(server.telemetry()?);
        *last = Some(Arc::clone(&look));
        Ok(look)
    }
}
