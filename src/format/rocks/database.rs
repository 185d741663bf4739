//! A RocksDB opened to be read: the only user of the crate `rocksdb`.
//!
//! Invariants: nothing is written to it and nothing repaired; every block's checksum is verified when it
//! is read, and its manifest's when it is opened; blocks are passed through and not kept.

#[cfg(feature = "rocksdb")]
pub use rocks::{Cursor, Database};
#[cfg(not(feature = "rocksdb"))]
pub use without::{Cursor, Database};

#[cfg(feature = "rocksdb")]
mod rocks {
    use std::path::Path;

    use rocksdb::{DB, DBRawIterator, DBRecoveryMode, LogLevel, Options, ReadOptions};

    /// Bytes read ahead of a cursor.
    const READAHEAD_BYTES: usize = 256 << 10;
    /// Tables that are open at once.
    const OPEN_FILES_MAX: i32 = 256;

    /// An open database.
    pub struct Database {
        inner: DB,
    }

    impl Database {
        /// Opens the one in `folder`, which is scratch: RocksDB writes its own log there.
        ///
        /// # Errors
        /// The error message of RocksDB.
        pub fn open(folder: &Path) -> Result<Self, String> {
            let mut options = Options::default();
            options.set_paranoid_checks(true);
            // By default what follows a damaged record of its log would be left out without a word.
            options.set_wal_recovery_mode(DBRecoveryMode::AbsoluteConsistency);
            options.set_max_open_files(OPEN_FILES_MAX);
            options.set_skip_stats_update_on_db_open(true);
            options.set_log_level(LogLevel::Fatal);
            let columns = DB::list_cf(&options, folder).map_err(|err| describe(&err))?;
            let inner = DB::open_cf_for_read_only(&options, folder, columns, false);
            Ok(Self {
                inner: inner.map_err(|err| describe(&err))?,
            })
        }

        /// Closes it: its files may be removed.
        pub fn close(self) {
            drop(self);
        }

        /// A cursor at the first record of `column`; none if there is no such column.
        pub fn cursor(&self, column: &str) -> Result<Option<Cursor<'_>>, String> {
            let Some(handle) = self.inner.cf_handle(column) else {
                return Ok(None);
            };
            let mut options = ReadOptions::default();
            options.set_verify_checksums(true);
            options.fill_cache(false);
            options.set_readahead_size(READAHEAD_BYTES);
            let mut inner = self.inner.raw_iterator_cf_opt(handle, options);
            inner.seek_to_first();
            let cursor = Cursor { inner };
            cursor.check()?;
            Ok(Some(cursor))
        }
    }

    /// A place in a column; records come in the order of their keys' bytes.
    pub struct Cursor<'a> {
        inner: DBRawIterator<'a>,
    }

    impl Cursor<'_> {
        /// Key and value of the record here; none after the last.
        pub fn record(&self) -> Option<(&[u8], &[u8])> {
            self.inner.item()
        }

        /// Goes to the next record.
        pub fn advance(&mut self) -> Result<(), String> {
            if self.inner.valid() {
                self.inner.next();
            }
            self.check()
        }

        /// An iterator that fails ends as if there were no more.
        fn check(&self) -> Result<(), String> {
            self.inner.status().map_err(|err| describe(&err))
        }
    }

    fn describe(err: &rocksdb::Error) -> String {
        let text = err.to_string();
        format!("RocksDB: {}", text.lines().next().unwrap_or_default())
    }
}

/// Stands in for it in builds that leave RocksDB out.
#[cfg(not(feature = "rocksdb"))]
mod without {
    use std::convert::Infallible;
    use std::marker::PhantomData;
    use std::path::Path;

    /// There is none.
    pub struct Database(Infallible);

    impl Database {
        /// Says how to get one.
        pub fn open(_: &Path) -> Result<Self, String> {
            Err(super::super::GET_IT.to_owned())
        }

        /// There is nothing to close.
        pub fn close(self) {
            match self.0 {}
        }

        /// There is no database to ask.
        pub fn cursor(&self, _: &str) -> Result<Option<Cursor<'_>>, String> {
            match self.0 {}
        }
    }

    /// There is none.
    pub struct Cursor<'a>(Infallible, PhantomData<&'a ()>);

    impl Cursor<'_> {
        /// There is no record.
        pub fn record(&self) -> Option<(&[u8], &[u8])> {
            match self.0 {}
        }

        /// There is no record.
        pub fn advance(&mut self) -> Result<(), String> {
            match self.0 {}
        }
    }
}
