//! Claims about an entry, and whether what came out of the archive meets them.
//!
//! Invariants: what was not known when it was written down is not compared, and said to be open; a
//! manifest that cannot be read is an error, not nothing.

use serde_json::Value;

use super::Drilled;
use crate::archive::{Chain, Entry, Proven};
use crate::base::error::{Error, Result};
use crate::capture::Manifest;
use crate::format::schema::CollectionConfig;
use crate::point::Digest;
use crate::source::Source;
use crate::verify::Provenance;
use crate::verify::{ExpectedConfig, SettingDifference, config_differences, setting_differences};

/// All that was said.
pub struct Claims<'a> {
    id: &'a str,
    /// When it was captured.
    manifest: Option<Manifest>,
    /// When it was merged.
    provenance: Option<Provenance>,
    /// When it was restored before.
    earlier: Option<&'a Proven>,
}

impl<'a> Claims<'a> {
    /// Reads the claims of the archive about `entry`; an unreadable manifest or provenance is an error.
    pub fn of(chain: &'a Chain, entry: &'a Entry) -> Result<Self> {
        let unreadable = |what: &str, why: String| {
            Error::damaged(format!("reading the {what} of {}", entry.id), why)
                .next("it is in the archive's chain as it was beside the file that was stored")
        };
        let manifest = match &entry.manifest {
            // Others write manifests of another form; their checksum was compared all the same.
            Some(value) if value.get("manifest").is_some_and(Value::is_u64) => {
                let read: Result<Manifest, _> = serde_json::from_value(value.clone());
                Some(read.map_err(|err| unreadable("manifest", err.to_string()))?)
            }
            _ => None,
        };
        let provenance = entry
            .provenance
            .clone()
            .map(Provenance::parse)
            .transpose()
            .map_err(|why| unreadable("provenance", why))?;
        Ok(Self {
            id: &entry.id,
            manifest,
            provenance,
            earlier: chain
                .proven()
                .get(entry.id.as_str())
                .map(|(_, proven)| *proven),
        })
    }

    /// Compares all of it with what came out.
    pub fn compare(
        &self,
        source: &Source,
        digest: &Digest,
        shards: &[(u32, u64)],
        drilled: &mut Drilled,
    ) -> Result<()> {
        if let Some(manifest) = &self.manifest {
            self.with_manifest(manifest, source, shards, drilled)?;
        }
        if let Some(provenance) = &self.provenance {
            with_provenance(provenance, source, digest, drilled)?;
        }
        if let Some(earlier) = self.earlier {
            let before = format!("{} in an earlier drill", earlier.digest);
            drilled.judge("digest", earlier.digest.as_str(), digest, &before);
        }
        if self.manifest.is_none() && self.provenance.is_none() {
            drilled.open.push(format!(
                "points and config: nothing but the SHA-256 was known when {} was stored",
                self.id
            ));
        }
        Ok(())
    }

    fn with_manifest(
        &self,
        manifest: &Manifest,
        source: &Source,
        shards: &[(u32, u64)],
        drilled: &mut Drilled,
    ) -> Result<()> {
        let found = drilled.points;
        match manifest.points {
            Some(points) => {
                let wanted = points.to_string();
                drilled.judge("points", &wanted, found, &format!("{points} when captured"));
            }
            None => drilled.open.push(format!(
                "points: they were written to while it was captured ({} before, {} after); it has \
                 {found}",
                manifest.points_before, manifest.points_after
            )),
        }
        for part in &manifest.shards {
            let Some(points) = part.points else { continue };
            let there = shards.iter().find(|(number, _)| *number == part.shard);
            let found = there.map_or_else(|| "none".to_owned(), |(_, points)| points.to_string());
            let about = format!("points of shard {}", part.shard);
            drilled.judge(&about, &points.to_string(), found, "as captured");
        }
        let bytes = Value::Object(manifest.config.clone())
            .to_string()
            .into_bytes();
        let wanted = ExpectedConfig {
            config: CollectionConfig::parse(&format!("the manifest of {}", self.id), &bytes)?,
            ..ExpectedConfig::of(source)
        };
        drilled.settings("config as captured", config_differences(&wanted, source));
        Ok(())
    }
}

fn with_provenance(
    provenance: &Provenance,
    source: &Source,
    digest: &Digest,
    drilled: &mut Drilled,
) -> Result<()> {
    let points = provenance.points;
    let found = drilled.points;
    drilled.judge(
        "points",
        &points.to_string(),
        found,
        &format!("{points} when merged"),
    );
    match &provenance.digest {
        Some(merged) => drilled.judge("digest", merged, digest, "as merged"),
        None => drilled.open.push(
            "digest: the master's points were not looked at one by one when it was merged".into(),
        ),
    }
    let (config, payload, keys) = provenance.expected()?;
    let wanted = ExpectedConfig {
        config,
        payload,
        keys,
        ignored: Vec::new(),
    };
    drilled.settings(
        "config, payload indexes and shard keys as merged",
        setting_differences(&wanted, source),
    );
    Ok(())
}

impl Drilled {
    /// Compares one value with what it has to be.
    fn judge(&mut self, about: &str, wanted: &str, found: impl ToString, by: &str) {
        let found = found.to_string();
        match wanted == found {
            true => self.compared.push(format!("{about} ({by})")),
            false => self.differences.push(SettingDifference {
                about: format!("{about} ({by})"),
                expected: wanted.to_owned(),
                found,
            }),
        }
    }

    fn settings(&mut self, about: &str, differences: Vec<SettingDifference>) {
        if differences.is_empty() {
            self.compared.push(about.to_owned());
        }
        self.differences.extend(differences);
    }
}
