//! The arguments of `archive`.
//!
//! Keeps true: which archive is meant is said by `--archive` or by SNAPMERGE_ARCHIVE, the same for
//! every command that uses one.

use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Subcommand};

use crate::archive::{Archive, EntryRef, Name, Policy, Signer, Subset};
use crate::base::error::Result;

/// Where the archive lies.
#[derive(Debug, Clone, Args)]
pub struct ArchivePlace {
    /// The archive: a folder, or s3://BUCKET/PREFIX (keys, region and endpoint come from AWS_*)
    #[arg(long, value_name = "PLACE", env = "SNAPMERGE_ARCHIVE")]
    pub archive: String,
}

/// Where sources that are named `archive:…` are.
#[derive(Debug, Clone, Default, Args)]
pub struct FromArchive {
    /// Where sources given as archive:NAME@DATE or archive:NAME@latest are: a folder, or
    /// s3://BUCKET/PREFIX
    #[arg(long, value_name = "PLACE", env = "SNAPMERGE_ARCHIVE")]
    pub archive: Option<String>,
}

/// How records are signed.
#[derive(Debug, Clone, Args)]
pub struct SigningArgs {
    /// Sign what is written with the ed25519 key in this file (PEM, as `openssl genpkey -algorithm
    /// ed25519` makes it)
    #[arg(long, value_name = "FILE", env = "SNAPMERGE_SIGN_KEY_FILE")]
    pub sign_key: Option<PathBuf>,
}

/// An archive that is written, and how its records are signed.
#[derive(Debug, Clone, Args)]
#[expect(missing_docs, reason = "flattened")]
pub struct WrittenArchive {
    #[command(flatten)]
    pub place: ArchivePlace,
    #[command(flatten)]
    pub signing: SigningArgs,
}

impl ArchivePlace {
    /// The archive, to be read.
    pub fn open(&self) -> Result<Archive> {
        Archive::at(&self.archive, None)
    }
}

impl SigningArgs {
    /// The archive at `place`, to be written.
    pub fn open(&self, place: &str) -> Result<Archive> {
        let signer = self.sign_key.as_deref().map(Signer::read).transpose()?;
        Archive::at(place, signer)
    }
}

impl WrittenArchive {
    /// The archive, to be written.
    pub fn open(&self) -> Result<Archive> {
        self.signing.open(&self.place.archive)
    }
}

/// Arguments of `archive`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge archive init --archive backups
  snapmerge archive add --archive backups album_2017.snapshot album_2018.snapshot.gz
  snapmerge archive ls --archive backups
  snapmerge archive get --archive backups album_2017@2026-11-01 -o album_2017.snapshot
  snapmerge archive forget --archive backups --keep-last 7 --keep-daily 30 --keep-monthly 12 --dry-run
  snapmerge archive check --archive s3://backups/qdrant --subset 3/7

An archive keeps what is in snapshots once, however many nights it is in, and gives each back byte by
byte. Its format is documented, and scripts/archive.py reads it without snapmerge.")]
pub struct ArchiveArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: ArchiveVerb,
}

/// What can be done with an archive.
#[derive(Debug, Subcommand)]
pub enum ArchiveVerb {
    /// Make an empty archive
    Init(InitArgs),
    /// Store snapshots
    Add(AddArgs),
    /// List what is stored
    Ls(LsArgs),
    /// Say all that is known of a stored snapshot
    Show(ShowArgs),
    /// Get a stored snapshot, byte by byte as it was
    Get(GetArgs),
    /// Read the archive and say what is damaged, what is lost by that and what is not
    Check(CheckArgs),
    /// Give snapshots up that no rule keeps, and remove what no other needs
    Forget(ForgetArgs),
    /// Say whether any record was removed, reordered or altered
    VerifyChain(VerifyChainArgs),
    /// Break the lock that a run left which will never end
    Unlock(UnlockArgs),
}

/// Arguments of `archive init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge archive init --archive backups
  snapmerge archive init --archive s3://backups/qdrant --sign-key archive.pem")]
#[expect(missing_docs, reason = "flattened")]
pub struct InitArgs {
    #[command(flatten)]
    pub written: WrittenArchive,
}

/// Arguments of `archive add`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge archive add --archive backups album_2017.snapshot
  snapmerge archive add --archive backups x.snapshot --name album_2017 --time 2026-11-01T03:00:00Z --tag before-upgrade

Qdrant's FILE.checksum beside a file, or snapmerge's FILE.manifest.json, must match. Of a .gz the
snapshot in it is stored. A snapshot that is stored already is not stored again.")]
pub struct AddArgs {
    /// Snapshot files, plain or .gz
    #[arg(required = true, value_name = "SNAPSHOT")]
    pub snapshots: Vec<PathBuf>,
    /// What it is a snapshot of [default: told from the file's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// When it was taken [default: told from its manifest, the file's name, or the file's age]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub time: Option<DateTime<Utc>>,
    /// A word to keep it by; repeat it for more
    #[arg(long, value_name = "WORD")]
    pub tag: Vec<String>,
    /// The SHA-256 that it must have
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,
    /// Refuse snapshots that have no checksum
    #[arg(long)]
    pub require_checksum: bool,
    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub written: WrittenArchive,
}

/// Arguments of `archive ls`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge archive ls --archive backups
  snapmerge archive ls --archive backups album_2017 --json")]
pub struct LsArgs {
    /// Only snapshots of these
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Print them as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub place: ArchivePlace,
}

/// Arguments of `archive show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge archive show --archive backups album_2017@latest
  snapmerge archive show --archive backups album_2017@2026-11-01 --files --json")]
pub struct ShowArgs {
    /// NAME, NAME@latest, or NAME@ and the beginning of its time
    #[arg(value_name = "ENTRY")]
    pub entry: EntryRef,
    /// List the files in it, with the hashes of what is stored of them
    #[arg(long)]
    pub files: bool,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub place: ArchivePlace,
}

/// Arguments of `archive get`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge archive get --archive backups album_2017 -o album_2017.snapshot
  snapmerge archive get --archive backups album_2017@2026-11-01 -o album_2017.snapshot --force

The file has the bytes and the SHA-256 of the snapshot that was stored, or is not there.")]
pub struct GetArgs {
    /// NAME, NAME@latest, or NAME@ and the beginning of its time
    #[arg(value_name = "ENTRY")]
    pub entry: EntryRef,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    pub force: bool,
    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub place: ArchivePlace,
}

/// Arguments of `archive check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge archive check --archive backups
  snapmerge archive check --archive backups --subset 3/7
  snapmerge archive check --archive backups --repair /mnt/copy/backups

Every record, recipe and name is looked at, and every object is read, decompressed and hashed; with
--subset one share of the objects, so that seven nights check all of them. Exits with 13 if anything
is damaged, with 3 if there are only files that nothing needs.")]
pub struct CheckArgs {
    /// Read only this share of the objects: 3/7 is the third of seven
    #[arg(long, value_name = "N/M")]
    pub subset: Option<Subset>,
    /// Fetch what is damaged from this copy of the archive
    #[arg(long, value_name = "PLACE")]
    pub repair: Option<String>,
    /// Print what was found as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub place: ArchivePlace,
}

/// What is kept.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "What is kept, for each name")]
pub struct KeepArgs {
    /// The newest N
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub keep_last: u32,
    /// The newest of each of N days
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub keep_daily: u32,
    /// The newest of each of N weeks
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub keep_weekly: u32,
    /// The newest of each of N months
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub keep_monthly: u32,
    /// The newest of each of N years
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub keep_yearly: u32,
    /// All that have this tag; repeat it for more
    #[arg(long, value_name = "WORD")]
    pub keep_tag: Vec<String>,
}

impl KeepArgs {
    /// The policy that was typed.
    pub fn policy(&self) -> Policy {
        Policy {
            last: self.keep_last,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
            yearly: self.keep_yearly,
            tags: self.keep_tag.clone(),
        }
    }
}

/// Arguments of `archive forget`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge archive forget --archive backups --keep-last 7 --keep-daily 30 --dry-run
  snapmerge archive forget --archive backups --keep-monthly 12 --keep-tag before-upgrade --name album_2017
  snapmerge archive forget --archive backups --entry album_2017@2026-11-01T03:00:00Z
  snapmerge archive forget --archive backups --leftovers

Without any rule nothing is done. That a snapshot was stored, and why it was given up, stays in the
archive's chain.")]
pub struct ForgetArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub keep: KeepArgs,
    /// Decide on snapshots of this name only; repeat it for more
    #[arg(long, value_name = "NAME")]
    pub name: Vec<String>,
    /// Give up this one, whatever the rules say; repeat it for more
    #[arg(long, value_name = "ENTRY", conflicts_with_all = ["name", "keep_last", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly", "keep_tag"])]
    pub entry: Vec<EntryRef>,
    /// Give up nothing, and only remove what killed runs left
    #[arg(long, conflicts_with_all = ["entry", "name", "keep_last", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly", "keep_tag"])]
    pub leftovers: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub written: WrittenArchive,
}

/// Arguments of `archive verify-chain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge archive verify-chain --archive backups
  snapmerge archive verify-chain --archive backups --trust archive.pub
  snapmerge archive verify-chain --archive backups --head ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad

Whoever may write everything could shorten the chain or write all of it anew. Note the head that this
prints somewhere else, and give it next time; or have records signed.")]
pub struct VerifyChainArgs {
    /// Every record must be signed with this public key (PEM)
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// A record with this hash must be in the chain
    #[arg(long, value_name = "HEX")]
    pub head: Option<Name>,
    /// Print what was found as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub place: ArchivePlace,
}

/// Arguments of `archive unlock`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge archive unlock --archive backups
  snapmerge archive unlock --archive backups --force

Says who holds the lock. A lock whose process is gone is broken by the next run anyway; with --force any
is, and whoever held it can write nothing any more.")]
pub struct UnlockArgs {
    /// Break it although its process may be at work
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub written: WrittenArchive,
}

/// A time: RFC 3339, or a day.
fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = text.parse::<DateTime<Utc>>() {
        return Ok(time);
    }
    let day = text.parse::<NaiveDate>().ok();
    day.and_then(|day| day.and_hms_opt(0, 0, 0))
        .map(|time| time.and_utc())
        .ok_or_else(|| "give it as 2026-11-01T03:00:00Z or 2026-11-01, in UTC".to_owned())
}
