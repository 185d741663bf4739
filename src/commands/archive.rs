//! `snapmerge archive`: snapshots of many nights in one place.
//!
//! Invariants: each verb parses, runs one operation and prints its report.

use clap::{Args, Subcommand};

use super::{Ended, OutputArgs, answer, show};
use crate::archive::{
    AddRequest, CheckRequest, CopyRequest, FindRequest, ForgetRequest, GetRequest, InitRequest,
    ListRequest, ShowRequest, UnlockRequest, VerifyChainRequest,
};
use crate::base::error::Result;

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

/// Verbs of `archive`.
#[derive(Debug, Subcommand)]
pub enum ArchiveVerb {
    /// Make an empty archive
    #[command(after_help = "\
Examples:
  snapmerge archive init --archive backups
  snapmerge archive init --archive s3://backups/qdrant --sign-key archive.pem
  snapmerge archive init --archive vault --encrypt age1lgce8577e00nrlll9nphqnd05m8cgga3e8urcauw8ysu2jv9a5hs9myer5

An encrypted archive is read with the secret key alone: --identity FILE, or --identity-command COMMAND.")]
    Init(VerbArgs<InitRequest>),
    /// Store snapshots
    #[command(after_help = "\
Examples:
  snapmerge archive add --archive backups album_2017.snapshot
  snapmerge archive add --archive backups 'full.snapshot#album_*'
  snapmerge archive add --archive backups x.snapshot --name album_2017 --time 2026-11-01T03:00:00Z --tag before-upgrade

Qdrant's FILE.checksum beside a file, or snapmerge's FILE.manifest.json, must match. Of a .gz the
snapshot in it is stored. A snapshot that is stored already is not stored again, unless what is there
of it is damaged. In an encrypted archive, without its key, it is stored whole.")]
    Add(VerbArgs<AddRequest>),
    /// List what is stored
    #[command(after_help = "\
Examples:
  snapmerge archive ls --archive backups
  snapmerge archive ls --archive backups album_2017 --json")]
    Ls(VerbArgs<ListRequest>),
    /// Say all that is known of a stored snapshot
    #[command(after_help = "\
Examples:
  snapmerge archive show --archive backups album_2017@latest
  snapmerge archive show --archive backups album_2017@2026-11-01 --files --json")]
    Show(VerbArgs<ShowRequest>),
    /// Get a stored snapshot, byte by byte as it was
    #[command(after_help = "\
Examples:
  snapmerge archive get --archive backups album_2017 -o album_2017.snapshot
  snapmerge archive get --archive backups album_2017@2026-11-01 -o album_2017.snapshot --force

The file has the bytes and the SHA-256 of the snapshot that was stored, or is not there.")]
    Get(VerbArgs<GetRequest>),
    /// Say in which snapshots a point is, and when it changed
    #[command(after_help = "\
Examples:
  snapmerge archive find --archive backups --id 4711
  snapmerge archive find --archive backups --id 6f1c0b5e-0d5e-4c43-9a57-0a3c2a9f4d11 --name album_2017

Only ids and logs are read. A point has changed where the number of the operation that changed it last is another
than in the snapshot of that name before. Exits with 10 if it is in none.")]
    Find(VerbArgs<FindRequest>),
    /// Read the archive and say what is damaged, what is lost by that and what is not
    #[command(after_help = "\
Examples:
  snapmerge archive check --archive backups
  snapmerge archive check --archive backups --subset 3/7
  snapmerge archive check --archive backups --repair /mnt/copy/backups

Every record, recipe and name is looked at, and every object is read, decompressed and hashed; with
--subset one share of the objects, so that seven nights check all of them. Of an encrypted archive, without its key,
everything is compared with the SHA-256 that names it; what is missing is not known then. A copy that was written to
since it was made repairs nothing. Exits with 13 if anything is damaged, with 3 if there are only files
that nothing needs.")]
    Check(VerbArgs<CheckRequest>),
    /// Copy an archive to another place, or bring a copy up to date
    #[command(after_help = "\
Examples:
  snapmerge archive copy --from backups --to s3://elsewhere/qdrant
  snapmerge archive copy --from s3://backups/qdrant --to /mnt/disk/backups

Only what is missing is copied, and every byte is hashed on its way. What the archive gave up, the copy gives
up, too. Nothing else may write to a copy: one that was written to is refused. `archive check --repair` mends the
archive from it; after the archive is lost, the copy is the archive.")]
    Copy(VerbArgs<CopyRequest>),
    /// Give snapshots up that no rule keeps, and remove what no other needs
    #[command(after_help = "\
Examples:
  snapmerge archive forget --archive backups --keep-last 7 --keep-daily 30 --dry-run
  snapmerge archive forget --archive backups --keep-daily 30 --keep-timezone Europe/Rome
  snapmerge archive forget --archive backups --keep-monthly 12 --keep-tag before-upgrade --name album_2017
  snapmerge archive forget --archive backups --entry album_2017@2026-11-01T03:00:00Z
  snapmerge archive forget --archive backups --leftovers

Without any rule nothing is done. An --entry that may mean several is refused. That a snapshot was
stored, and why it was given up, stays in the archive's chain.")]
    Forget(VerbArgs<ForgetRequest>),
    /// Say whether any record was removed, reordered or altered
    #[command(after_help = "\
Examples:
  snapmerge archive verify-chain --archive backups
  snapmerge archive verify-chain --archive backups --trust archive.pub
  snapmerge archive verify-chain --archive backups --head ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad

Whoever may write everything could shorten the chain or write all of it anew. This machine remembers the
last record that it saw ($XDG_STATE_HOME/snapmerge), and every command ends if that is gone; after an
archive was set back to an older copy on purpose, --accept-head has it remember what is there now. Note
the head that this prints somewhere else, too, and give it next time; or have records signed.")]
    VerifyChain(VerbArgs<VerifyChainRequest>),
    /// Break the lock that a run left which will never end
    #[command(after_help = "\
Examples:
  snapmerge archive unlock --archive backups
  snapmerge archive unlock --archive backups --force

Says who holds the lock. A lock whose process is gone is broken by the next run anyway; with --force any
is, and whoever held it can write nothing any more.")]
    Unlock(VerbArgs<UnlockRequest>),
}

/// A request and how its report is printed.
#[derive(Debug, Args)]
#[expect(missing_docs, reason = "flattened")]
pub struct VerbArgs<R: Args> {
    #[command(flatten)]
    pub request: R,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs the command.
pub fn run(args: ArchiveArgs) -> Result<Ended> {
    match args.verb {
        ArchiveVerb::Init(args) => show(&args.request, args.output),
        ArchiveVerb::Add(args) => show(&args.request, args.output),
        ArchiveVerb::Ls(args) => answer(&args.request, args.output),
        ArchiveVerb::Find(args) => answer(&args.request, args.output),
        ArchiveVerb::Show(args) => answer(&args.request, args.output),
        ArchiveVerb::Get(args) => show(&args.request, args.output),
        ArchiveVerb::Check(args) => show(&args.request, args.output),
        ArchiveVerb::Copy(args) => show(&args.request, args.output),
        ArchiveVerb::Forget(args) => show(&args.request, args.output),
        ArchiveVerb::VerifyChain(args) => answer(&args.request, args.output),
        ArchiveVerb::Unlock(args) => answer(&args.request, args.output),
    }
}
