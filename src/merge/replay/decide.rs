//! Decides how a replay treats the collection that it finds.
//!
//! Invariants: it is a pure function of what is there, of what an earlier run wrote down, and of
//! what was asked for; a collection that nobody made for this merge is written to only by `--sync`.

use super::journal::{Earlier, Mark};
use crate::base::error::{Error, Kind, Result};

/// Use of an existing collection that is permitted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExistingTarget {
    /// Go on with an earlier run of the same merge, if there was one.
    #[default]
    Usual,
    /// Go on with an earlier run, and do nothing else.
    Resume,
    /// Bring it to the sources' state, whoever made it.
    Sync,
}

/// Action that a replay takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the collection, and write everything.
    Make,
    /// Write what comes after this.
    GoOn(Mark),
    /// All was written up to this and proven: compare.
    Compare(Mark),
    /// Bring it to the sources' state.
    Sync,
}

/// Decides for the collection at `address`, which has so many `points` if it is there, after what
/// `earlier` run of the same merge into it.
pub fn decide(
    address: &str,
    points: Option<u64>,
    earlier: Option<&Earlier>,
    asked: ExistingTarget,
) -> Result<Action> {
    let refuse = |why: &str, next: &str| {
        Err(Error::new(Kind::Refused, format!("writing to {address}"), why).next(next))
    };
    const OTHER_WAYS: &str = "write to a new collection, or bring this one to the sources' state \
                              with --sync, which also deletes what they do not have";
    match (points, earlier, asked) {
        (None, _, ExistingTarget::Resume) => refuse(
            "there is no such collection to resume",
            "leave --resume out to make it",
        ),
        (None, _, ExistingTarget::Usual | ExistingTarget::Sync) => Ok(Action::Make),
        (Some(_), _, ExistingTarget::Sync) => Ok(Action::Sync),
        (Some(_), None, ExistingTarget::Resume) => refuse(
            "it exists, and the journal has no earlier run of this merge into it",
            OTHER_WAYS,
        ),
        (Some(_), None, ExistingTarget::Usual) => refuse("it exists already", OTHER_WAYS),
        // The run was killed between two calls; an empty collection may be its own.
        (Some(points), Some(earlier), _) if !earlier.made && points > 0 => refuse(
            "it exists already, and was not made by the earlier run of this merge",
            OTHER_WAYS,
        ),
        (Some(_), Some(earlier), _) => Ok(match earlier.proven {
            Some(_) => Action::Compare(earlier.reached.clone()),
            None => Action::GoOn(earlier.reached.clone()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_its_action() {
        let mark = Mark {
            points: 7,
            digest: "v1:7:00".into(),
        };
        let run = |made, reached: &Mark, proven: bool| Earlier {
            target: "t".into(),
            plan: "p".into(),
            made,
            reached: reached.clone(),
            sent: proven,
            proven: proven.then(|| "v1:7:11".into()),
        };
        let unfinished = run(false, &Mark::default(), false);
        let half = run(true, &mark, false);
        let whole = run(true, &mark, true);
        use ExistingTarget::{Resume, Sync, Usual};
        for (points, earlier, asked, action) in [
            (None, None, Usual, Some(Action::Make)),
            (None, None, Sync, Some(Action::Make)),
            (None, None, Resume, None),
            // Somebody removed what an earlier run had made.
            (None, Some(&whole), Usual, Some(Action::Make)),
            (None, Some(&half), Resume, None),
            (Some(9), None, Usual, None),
            (Some(0), None, Usual, None),
            (Some(9), None, Resume, None),
            (Some(9), None, Sync, Some(Action::Sync)),
            (Some(9), Some(&whole), Sync, Some(Action::Sync)),
            (
                Some(0),
                Some(&unfinished),
                Usual,
                Some(Action::GoOn(Mark::default())),
            ),
            (Some(1), Some(&unfinished), Usual, None),
            (
                Some(9),
                Some(&half),
                Usual,
                Some(Action::GoOn(mark.clone())),
            ),
            (
                Some(9),
                Some(&half),
                Resume,
                Some(Action::GoOn(mark.clone())),
            ),
            (
                Some(7),
                Some(&whole),
                Usual,
                Some(Action::Compare(mark.clone())),
            ),
            (
                Some(7),
                Some(&whole),
                Resume,
                Some(Action::Compare(mark.clone())),
            ),
        ] {
            let got = decide("t", points, earlier, asked);
            match action {
                Some(action) => {
                    assert_eq!(got.unwrap(), action, "{points:?} {earlier:?} {asked:?}")
                }
                None => {
                    let err = got.unwrap_err();
                    assert_eq!(err.kind(), Kind::Refused);
                    assert!(err.next_step().is_some());
                }
            }
        }
    }
}
