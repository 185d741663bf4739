//! One master of albums that three servers took, ten minor versions apart, under every policy.

use crate::merge::Sources;
use crate::merge::policies::{POLICIES, decides};
use crate::support::cases::Case;
use crate::support::{Env, Outcome, Trial};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let trial = |policy: &'static str| {
        let name = format!("old/mix/{}", policy.replace(':', "_"));
        Trial::new(name, move || decides(Sources::of(albums(env)?)?, policy))
    };
    // By date the newest server's album is later throughout, which is what `last` has.
    let policies = POLICIES.iter().filter(|policy| **policy != "newest:taken");
    policies.map(|policy| trial(policy)).collect()
}

/// An album of 1.7.4, one of 1.13.6, and one of the newest server at hand; each shares ids with each. Those
/// of old servers have 500 points, so that other albums than those of one server overlap.
fn albums(env: &Env) -> Outcome<Vec<Case>> {
    let newest = env.sets.iter().rev().find_map(|set| {
        let cases = set.cases.as_ref().ok()?;
        cases.iter().find(|case| case.name == "album_2017")
    });
    Ok(vec![
        env.old_case("1.7.4", "album_2018")?,
        env.old_case("1.13.6", "album_2019_overlap")?,
        newest.ok_or("no album_2017")?.clone(),
    ])
}
