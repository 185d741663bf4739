//! Which segments of a shard are carried and which are merged, for no more than a number of them to be left.
//!
//! Invariants: a segment without a live point is left out, unless nothing else is there for a server to add
//! points to; of the others, those with graphs are carried before those without, and the larger before the
//! smaller.

use std::cmp::Reverse;

use crate::format::SegmentKind;

/// A segment, as far as the choice goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Number of live points.
    pub points: u64,
    /// Kind of the segment.
    pub kind: SegmentKind,
}

/// Treatment of a segment when a shard has more than the master may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It travels whole.
    Carried,
    /// It becomes one with others.
    Merged,
    /// It is not needed.
    LeftOut,
}

/// The fates of `segments`, so that `most` are left or, where one with a graph is made of all, this one and one
/// for a server to add points to. `gets_graph` tells whether a segment of that many points is given a graph.
pub fn choose(segments: &[Candidate], most: usize, gets_graph: impl Fn(u64) -> bool) -> Vec<Fate> {
    let mut fates = vec![Fate::LeftOut; segments.len()];
    let mut set = |at: usize, fate: Fate| {
        if let Some(place) = fates.get_mut(at) {
            *place = fate;
        }
    };
    let mut live: Vec<(usize, Candidate)> = (segments.iter().copied().enumerate())
        .filter(|(_, segment)| segment.points > 0)
        .collect();
    live.sort_by_key(|(at, segment)| (!segment.kind.indexed, Reverse(segment.points), *at));
    let takes_points =
        |some: &[(usize, Candidate)]| some.iter().any(|(_, one)| one.kind.appendable);
    // One alone becomes no fewer by being merged.
    if live.len() <= 1 || live.len() + usize::from(!takes_points(&live)) <= most {
        if !takes_points(&live)
            && let Some(at) = segments.iter().position(|one| one.kind.appendable)
        {
            set(at, Fate::Carried);
        }
        for (at, _) in live {
            set(at, Fate::Carried);
        }
        return fates;
    }
    let fits = |carried: &usize| {
        let Some((whole, rest)) = live.split_at_checked(*carried) else {
            return false;
        };
        let points = rest.iter().map(|(_, segment)| segment.points).sum();
        // A server adds to no segment with a graph.
        let one_more = gets_graph(points) && !takes_points(whole);
        carried + 1 + usize::from(one_more) <= most
    };
    let carried_max = most.min(live.len().saturating_sub(2));
    let carried = (1..=carried_max).rev().find(fits).unwrap_or(0);
    for (place, (at, _)) in live.into_iter().enumerate() {
        set(
            at,
            match place < carried {
                true => Fate::Carried,
                false => Fate::Merged,
            },
        );
    }
    fates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(points: u64) -> Candidate {
        Candidate {
            points,
            kind: SegmentKind {
                indexed: true,
                appendable: false,
            },
        }
    }

    fn plain(points: u64) -> Candidate {
        Candidate {
            points,
            kind: SegmentKind {
                indexed: false,
                appendable: true,
            },
        }
    }

    /// The fates in letters: carried, merged, left out. A graph is built from 1,000 points on.
    fn fates(segments: &[Candidate], most: usize) -> String {
        let letter = |fate: &Fate| match fate {
            Fate::Carried => 'c',
            Fate::Merged => 'm',
            Fate::LeftOut => '-',
        };
        let fates = choose(segments, most, |points| points >= 1000);
        fates.iter().map(letter).collect()
    }

    #[test]
    fn the_largest_graphs_are_carried_and_the_rest_becomes_one() {
        let albums = [graph(5000), plain(10), graph(9000), plain(20), graph(7000)];
        assert_eq!(fates(&albums, 5), "ccccc");
        assert_eq!(fates(&albums, 4), "cmcmc");
        // With 5,030 points, what is merged gets a graph, so that a place is left for new points.
        assert_eq!(fates(&albums, 3), "mmcmm");
        assert_eq!(fates(&albums, 2), "mmmmm");
        assert_eq!(fates(&albums, 1), "mmmmm");
    }

    #[test]
    fn what_has_no_point_is_left_out_unless_points_could_be_added_nowhere() {
        let albums = [graph(5000), plain(0), graph(9000), plain(0)];
        assert_eq!(fates(&albums, 3), "ccc-");
        assert_eq!(fates(&albums, 2), "m-m-");
        assert_eq!(fates(&[plain(0), plain(7), plain(0)], 2), "-c-");
        assert_eq!(fates(&[plain(0), plain(0)], 2), "c-");
        assert_eq!(fates(&[graph(0)], 2), "-");
        assert_eq!(fates(&[graph(5000)], 1), "c");
        assert_eq!(fates(&[graph(5000), plain(0)], 1), "cc");
        assert_eq!(fates(&[], 1), "");
    }

    #[test]
    fn small_ones_become_one_beside_a_large_one() {
        let mut many = vec![plain(1); 500];
        many.push(graph(100_000));
        let expected = format!("{}c", "m".repeat(500));
        assert_eq!(fates(&many, 2), expected);
        assert_eq!(
            fates(&many, 8),
            format!("{}c", "c".repeat(6) + &"m".repeat(494))
        );
        // Merged without a graph, so that points can be added to it.
        assert_eq!(fates(&[plain(3), plain(4)], 1), "mm");
    }
}
