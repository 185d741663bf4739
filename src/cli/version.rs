//! Output of `snapmerge --version`; `-V` prints the number alone.

use crate::engine;
use crate::format::releases;

/// The version, what it was built from and with, and the table of Qdrant's releases.
pub fn long() -> String {
    let rocksdb = match cfg!(feature = "rocksdb") {
        true => "rocksdb",
        false => "none (without rocksdb snapshots of servers before 1.17 may be refused)",
    };
    let commit = option_env!("SNAPMERGE_COMMIT").unwrap_or("not told when it was built");
    format!(
        "{}\nengine    qdrant-edge {}\nfeatures  {rocksdb}\ncommit    {commit}\n\n{}\n\
         A master is of today's form, which servers since 1.14 restore; `merge --into` writes to older ones.",
        env!("CARGO_PKG_VERSION"),
        engine::VERSION,
        releases::table(),
    )
}
