//! Operations on the archive as a whole: making it, checking it, giving entries up, its chain and its
//! lock.
//!
//! Invariants: nothing is repaired from a place that is no archive; a lock that may be somebody's is
//! broken only by force.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{envelope, no_such_name};
use crate::archive::{
    ArchiveOptions, Checked, Copied, EntryRef, Forgetting, Holder, IdentityOptions, Name, PLACES,
    Policy, PruneReport, Subset, Trust, TrustOptions, Verified, WritableArchiveOptions,
    parse_recipients,
};
use crate::base::error::{Error, Kind, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};

/// Makes an empty archive.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct InitRequest {
    /// Encrypt the archive, so that the secret key of this public one (age1…, as `age-keygen` prints it)
    /// opens it; repeat it for more keys, each of which opens all of it
    #[arg(long, value_name = "RECIPIENT")]
    #[serde(default)]
    pub encrypt: Vec<String>,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub archive: WritableArchiveOptions,
}

/// An archive that was made.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "said by their names")]
pub struct InitReport {
    #[serde(flatten)]
    pub envelope: Envelope,
    pub archive: String,
    pub id: Uuid,
    /// The public keys of those who open it; none if it is not encrypted.
    #[serde(default)]
    pub recipients: Vec<String>,
}

impl Operation for InitRequest {
    const NAME: &'static str = "archive init";
    type Report = InitReport;

    fn run(self, _: &Context) -> Result<InitReport> {
        let recipients = parse_recipients(&self.encrypt)?;
        let archive = self.archive.open()?;
        // Whoever makes one by hand knows that none is there.
        archive.forget_seen()?;
        let chain = archive.init_for(&recipients)?;
        let first = chain.records.first();
        Ok(InitReport {
            envelope: envelope::<Self>(Outcome::DONE),
            archive: archive.what(),
            id: first.map_or(Uuid::nil(), |first| first.record.archive),
            recipients: recipients.iter().map(ToString::to_string).collect(),
        })
    }
}

/// Reads the archive and says what is damaged, what is lost by that and what is not.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct CheckRequest {
    /// Read only this share of the objects: 3/7 is the third of seven
    #[arg(long, value_name = "N/M")]
    pub subset: Option<Subset>,
    /// Fetch what is damaged from this copy of the archive
    #[arg(long, value_name = "PLACE")]
    pub repair: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub archive: WritableArchiveOptions,
}

/// Report of a check.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "said by their names")]
pub struct CheckReport {
    #[serde(flatten)]
    pub envelope: Envelope,
    pub archive: String,
    #[serde(flatten)]
    pub checked: Checked,
}

impl Operation for CheckRequest {
    const NAME: &'static str = "archive check";
    type Report = CheckReport;

    fn run(self, _: &Context) -> Result<CheckReport> {
        let archive = self.archive.open()?;
        let other = match self.repair {
            None => None,
            Some(place) => {
                let other = ArchiveOptions {
                    archive: place,
                    trust: self.archive.archive.trust,
                    key: self.archive.archive.key,
                };
                let other = other.open()?;
                // A place without an archive repairs nothing, and must not look as if it had.
                other.closed_chain()?;
                Some(other)
            }
        };
        let checked = archive.check(self.subset, other.as_ref())?;
        let differs = !checked.findings.is_empty() || checked.lock_left.is_some();
        let outcome = match checked.is_damaged() {
            true => Kind::Damaged.into(),
            false => Outcome::differs_if(differs),
        };
        Ok(CheckReport {
            envelope: envelope::<Self>(outcome),
            archive: archive.what(),
            checked,
        })
    }
}

/// Brings a copy of an archive to the state of the original.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct CopyRequest {
    /// The archive: one of [`PLACES`].
    #[arg(long, value_name = "PLACE", help = format!("The archive: {PLACES}"))]
    pub from: String,
    /// The copy: an empty place, or one that was copied there before
    #[arg(long, value_name = "PLACE")]
    pub to: String,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub trust: TrustOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub key: IdentityOptions,
}

/// Report of a copy.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "said by their names")]
pub struct CopyReport {
    #[serde(flatten)]
    pub envelope: Envelope,
    pub from: String,
    pub to: String,
    #[serde(flatten)]
    pub copied: Copied,
}

impl Operation for CopyRequest {
    const NAME: &'static str = "archive copy";
    type Report = CopyReport;

    fn run(self, context: &Context) -> Result<CopyReport> {
        let open = |archive: &str| {
            let archive = archive.to_owned();
            let (trust, key) = (self.trust.clone(), self.key.clone());
            ArchiveOptions {
                archive,
                trust,
                key,
            }
            .open()
        };
        let (from, to) = (open(&self.from)?, open(&self.to)?);
        let copied = from.copy_to(&to, context.progress)?;
        Ok(CopyReport {
            envelope: envelope::<Self>(Outcome::differs_if(copied.lock_left.is_some())),
            from: from.what(),
            to: to.what(),
            copied,
        })
    }
}

/// Gives entries up that no rule keeps, and removes what no other needs.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct ForgetRequest {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub keep: Policy,
    /// Decide on snapshots of this name only; repeat it for more
    #[arg(long, value_name = "NAME")]
    pub name: Vec<String>,
    /// Give up this one, whatever the rules say; repeat it for more
    #[arg(long, value_name = "ENTRY", conflicts_with_all = ["name", "Policy"])]
    pub entry: Vec<EntryRef>,
    /// Give up nothing, and only remove what killed runs left
    #[arg(long, conflicts_with_all = ["entry", "name", "Policy"])]
    pub leftovers: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub archive: WritableArchiveOptions,
}

/// Report of what was forgotten and removed, or would be.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "said by their names")]
pub struct ForgetReport {
    #[serde(flatten)]
    pub envelope: Envelope,
    pub archive: String,
    #[serde(flatten)]
    pub swept: PruneReport,
}

impl Operation for ForgetRequest {
    const NAME: &'static str = "archive forget";
    type Report = ForgetReport;

    fn run(self, _: &Context) -> Result<ForgetReport> {
        let archive = self.archive.open()?;
        let chain = archive.chain()?;
        let forgetting = if self.leftovers {
            Forgetting::Nothing
        } else if self.entry.is_empty() {
            let entries = chain.entries();
            let is_there = |name: &String| entries.iter().any(|entry| entry.name == *name);
            if let Some(name) = self.name.iter().find(|name| !is_there(name)) {
                return Err(no_such_name(name));
            }
            Forgetting::By(self.keep, self.name)
        } else {
            let ids = self
                .entry
                .iter()
                .map(|entry| Ok(entry.find_one(&chain)?.id));
            Forgetting::These(ids.collect::<Result<_>>()?)
        };
        let swept = archive.forget(&forgetting, self.dry_run)?;
        Ok(ForgetReport {
            envelope: envelope::<Self>(Outcome::differs_if(!swept.left_behind.is_empty())),
            archive: archive.what(),
            swept,
        })
    }
}

/// Says whether any record was removed, reordered or altered.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct VerifyChainRequest {
    /// A record with this hash must be in the chain
    #[arg(long, value_name = "HEX")]
    pub head: Option<Name>,
    /// Remember the chain that is there now, though this machine has seen another or a longer one
    #[arg(long)]
    pub accept_head: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub archive: ArchiveOptions,
}

/// Report of the verification of a chain.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "said by their names")]
pub struct VerifyChainReport {
    #[serde(flatten)]
    pub envelope: Envelope,
    pub archive: String,
    #[serde(flatten)]
    pub verified: Verified,
}

impl Operation for VerifyChainRequest {
    const NAME: &'static str = "archive verify-chain";
    type Report = VerifyChainReport;

    fn run(self, _: &Context) -> Result<VerifyChainReport> {
        let archive = self.archive.open()?;
        let trust = Trust {
            keys: Vec::new(),
            head: self.head,
        };
        let verified = archive.verify_chain(&trust, self.accept_head)?;
        let outcome = match verified.findings.is_empty() {
            false => Kind::Damaged.into(),
            true => Outcome::differs_if(verified.not_remembered.is_some()),
        };
        Ok(VerifyChainReport {
            envelope: envelope::<Self>(outcome),
            archive: archive.what(),
            verified,
        })
    }
}

/// Breaks the lock that a run left which will never end.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct UnlockRequest {
    /// Break it although its process may be at work
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub archive: WritableArchiveOptions,
}

/// A lock that was broken, if there was one.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "said by their names")]
pub struct UnlockReport {
    #[serde(flatten)]
    pub envelope: Envelope,
    pub archive: String,
    pub broken: Option<Holder>,
}

impl Operation for UnlockRequest {
    const NAME: &'static str = "archive unlock";
    type Report = UnlockReport;

    fn run(self, _: &Context) -> Result<UnlockReport> {
        let archive = self.archive.open()?;
        let broken = archive.holder()?;
        if let Some(holder) = &broken {
            if !self.force && !holder.is_gone() {
                return Err(Error::new(
                    Kind::Locked,
                    format!("unlocking {}", archive.what()),
                    format!("it is locked by {holder}, which may be at work"),
                )
                .next("if it will never end (its machine is gone), give --force"));
            }
            archive.unlock(holder.clone())?;
        }
        Ok(UnlockReport {
            envelope: envelope::<Self>(Outcome::DONE),
            archive: archive.what(),
            broken,
        })
    }
}
