//! Checks that a source's points lie where a server looks for them.
//!
//! A shard is carried as it is, so a point in the wrong shard would stay there: a server restores it
//! unchecked, and has it twice from its next update on.
//!
//! Invariants: every id of a source with several shards is asked for.

use super::layout::Layout;
use super::segments::ShardPlan;
use crate::base::error::{Error, Kind, Result};
use crate::source::Source;

/// Refuses sources with points outside the shard that the hash ring gives them.
pub fn refuse_misplaced(sources: &[Source], shard_plans: &[ShardPlan]) -> Result<()> {
    let mut found = Vec::new();
    for (at, source) in sources.iter().enumerate() {
        // A shard's own snapshot does not say what other shards there were.
        if source.config_is_derived || source.snapshot.shards.len() < 2 {
            continue;
        }
        let layout = Layout::of(source.shard_keys.clone(), source.config.shard_number());
        for shard_plan in shard_plans
            .iter()
            .filter(|shard_plan| shard_plan.source == at)
        {
            let key = source.shard_keys.key_of(shard_plan.number);
            let (count, first) = layout.strangers(&shard_plan.ids, shard_plan.number, key)?;
            if let Some(first) = first {
                found.push(format!(
                    "shard {} of {} has {count} points that belong into other shards, the first is {first}",
                    shard_plan.number, source.name
                ));
            }
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Damaged,
        "looking where the sources' points lie",
        found.join("\n  and "),
    )
    .next("--route rebuild puts every point where it belongs"))
}
