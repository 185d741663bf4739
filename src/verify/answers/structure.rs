//! The structure of a collection: do its points still lie in clusters as they did in the sources?
//!
//! On a sample of the points by the hashes of their ids, HDBSCAN looks for clusters, or the user's own
//! service does, and the silhouette says how well they are apart: 1 is perfectly, 0 not at all. A master
//! whose vectors were mixed up would look like noise beside its sources, although every count is right.
//!
//! Invariants: the same points give the same numbers; where there are too few points or clusters to
//! say anything, nothing is said instead of a zero.

use std::collections::{BTreeMap, BTreeSet};

use hdbscan::{Hdbscan, HdbscanHyperParams};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Asking;
use crate::base::error::{Error, Result};
use crate::engine::Columns;
use crate::point::{PointId, Vector};
use crate::server::Clustering;
use crate::stream::PointStream;
use crate::stream::sampled;

/// Fewer points than this have no structure to speak of.
const POINTS_MIN: usize = 20;
/// A cluster has at least this part of the points, and this many.
const CLUSTER_PART: usize = 40;
const CLUSTER_MIN: usize = 5;

/// The structure of the sources and of their master.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Structure {
    /// Finder of the clusters: `HDBSCAN`, or the address of a service.
    pub by: String,
    /// The vector that was looked at; empty for the unnamed one.
    pub vector: String,
    /// The sources, in their order.
    pub sources: Vec<SetStructure>,
    /// The master.
    pub master: SetStructure,
    /// The master's points as they lie in a plane: along the two directions in which they differ
    /// most, with their source's place in the list.
    pub projection: Vec<(f64, f64, Option<usize>)>,
    /// Silhouette of the master's points grouped by source; none for one source alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silhouette_by_source: Option<f64>,
    /// Drop of the master's silhouette against the sources', weighted by their points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<f64>,
    /// Drop above which it is a finding.
    pub drop_max: f64,
}

impl Structure {
    /// Returns the finding, if the drop is too large.
    pub fn finding(&self) -> Option<String> {
        let drop = self.drop.filter(|drop| *drop > self.drop_max)?;
        Some(format!(
            "the master's clusters are less apart than the sources': the silhouette is lower by \
             {drop:.3}, more than {:.3}",
            self.drop_max
        ))
    }
}

/// The structure of a set of points.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SetStructure {
    /// Name of the set.
    pub name: String,
    /// Points that were looked at.
    pub points: usize,
    /// Clusters that were found.
    pub clusters: usize,
    /// The part of the points that is in none.
    pub noise: f64,
    /// Lengths of the vectors: minimum, quartiles and maximum.
    pub norms: [f64; 5],
    /// Silhouette of the clusters; none with fewer than two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silhouette: Option<f64>,
}

/// Looks at about as many points of the master's and each source's point streams as `asking` says; `names` are
/// the sources'.
/// None if there is no dense vector to look at.
pub fn structure(
    master: &[PointStream<'_>],
    sources: &[PointStream<'_>],
    names: &[String],
    asking: Asking<'_>,
) -> Result<Option<Structure>> {
    let (wanted, drop_max) = (asking.structure, asking.drop_max);
    let of_master = drawn(master, wanted, None)?;
    let Some(vector) = of_master.vector.clone() else {
        return Ok(None);
    };
    let mut homes: BTreeMap<PointId, usize> = BTreeMap::new();
    let mut of_sources = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let own: Vec<PointStream<'_>> = sources
            .iter()
            .filter(|point_stream| point_stream.source == at)
            .cloned()
            .collect();
        let drawn = drawn(&own, wanted, Some(&vector))?;
        of_sources.push(structure_of(name, &drawn.rows, asking.clusters)?);
        // The last source that has a point counts here, whoever won it.
        for point_stream in &own {
            for record in point_stream.get(&of_master.ids, Columns::IDS)? {
                homes.insert(record.id, at);
            }
        }
    }
    let labels: Vec<Option<usize>> = of_master
        .ids
        .iter()
        .map(|id| homes.get(id).copied())
        .collect();
    let silhouette_by_source = silhouette(&of_master.rows, &labels);
    let master = structure_of("the master", &of_master.rows, asking.clusters)?;
    let (mut sum, mut weight) = (0.0, 0.0);
    for (said, points) in of_sources.iter().filter_map(|set| {
        let said = set.silhouette?;
        Some((said, to_float(set.points)))
    }) {
        sum += said * points;
        weight += points;
    }
    let drop = master
        .silhouette
        .filter(|_| weight > 0.0)
        .map(|of_master| sum / weight - of_master);
    let plane = project(&of_master.rows);
    let projection = plane.into_iter().zip(&labels);
    let by = asking.clusters.map(Clustering::url);
    Ok(Some(Structure {
        by: by.unwrap_or_else(|| "HDBSCAN".into()),
        projection: projection.map(|((x, y), home)| (x, y, *home)).collect(),
        vector,
        sources: of_sources,
        master,
        silhouette_by_source,
        drop,
        drop_max,
    }))
}

/// Points that were drawn, with one of their vectors.
struct Drawn {
    vector: Option<String>,
    ids: Vec<PointId>,
    rows: Vec<Vec<f32>>,
}

fn drawn(point_streams: &[PointStream<'_>], wanted: usize, vector: Option<&str>) -> Result<Drawn> {
    const VECTORS: Columns = Columns {
        vectors: true,
        payload: false,
    };
    let mut drawn = Drawn {
        vector: None,
        ids: Vec::new(),
        rows: Vec::new(),
    };
    for record in sampled(point_streams, None, VECTORS, wanted)? {
        for (name, values) in record.vectors {
            // If no vector was named, that of the first point counts.
            let own = vector.or(drawn.vector.as_deref());
            if let Vector::Dense(values) = values
                && own.is_none_or(|own| own == name)
            {
                drawn.vector.get_or_insert(name);
                drawn.ids.push(record.id);
                drawn.rows.push(values);
                break;
            }
        }
        if drawn.rows.len() == wanted {
            break;
        }
    }
    Ok(drawn)
}

fn structure_of(
    name: &str,
    rows: &[Vec<f32>],
    service: Option<&Clustering>,
) -> Result<SetStructure> {
    let labels = clusters(rows, service)?;
    let found: BTreeSet<usize> = labels.iter().copied().flatten().collect();
    let noise = labels.iter().filter(|label| label.is_none()).count();
    Ok(SetStructure {
        name: name.to_owned(),
        points: rows.len(),
        clusters: found.len(),
        noise: to_float(noise) / to_float(rows.len().max(1)),
        norms: norms(rows),
        silhouette: silhouette(rows, &labels),
    })
}

/// The cluster of each row, as the `service` says if there is one; none for noise.
fn clusters(rows: &[Vec<f32>], service: Option<&Clustering>) -> Result<Vec<Option<usize>>> {
    if rows.len() < POINTS_MIN {
        return Ok(vec![None; rows.len()]);
    }
    if let Some(service) = service {
        return service.labels(rows);
    }
    let size = (rows.len() / CLUSTER_PART).max(CLUSTER_MIN);
    let params = HdbscanHyperParams::builder()
        .min_cluster_size(size)
        .min_samples(CLUSTER_MIN)
        .build();
    let labels = Hdbscan::new(rows, params).cluster().map_err(|err| {
        Error::failed(
            format!("looking for clusters among {} points", rows.len()),
            err,
        )
    })?;
    let clusters = labels.into_iter().map(|label| usize::try_from(label).ok());
    Ok(clusters.collect())
}

/// The mean silhouette of the rows that have a label; none if there are fewer than two labels.
fn silhouette(rows: &[Vec<f32>], labels: &[Option<usize>]) -> Option<f64> {
    let labelled: Vec<(&Vec<f32>, usize)> = rows
        .iter()
        .zip(labels)
        .filter_map(|(row, label)| Some((row, (*label)?)))
        .collect();
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    for (_, label) in &labelled {
        *sizes.entry(*label).or_default() += 1;
    }
    if sizes.len() < 2 {
        return None;
    }
    let mut sum = 0.0;
    for (at, (row, own)) in labelled.iter().enumerate() {
        let mut far: BTreeMap<usize, f64> = BTreeMap::new();
        for (other, (other_row, label)) in labelled.iter().enumerate() {
            if other != at {
                *far.entry(*label).or_default() += distance(row, other_row);
            }
        }
        let mean = |label: usize, others: usize| {
            far.get(&label).copied().unwrap_or(0.0) / to_float(others.max(1))
        };
        let own_size = sizes.get(own).copied().unwrap_or(1);
        if own_size < 2 {
            // By definition 0.
            continue;
        }
        let within = mean(*own, own_size - 1);
        let nearest = sizes
            .iter()
            .filter(|(label, _)| *label != own)
            .map(|(label, size)| mean(*label, *size))
            .fold(f64::INFINITY, f64::min);
        let most = within.max(nearest);
        if most > 0.0 {
            sum += (nearest - within) / most;
        }
    }
    Some(sum / to_float(labelled.len()))
}

/// Quartiles of the rows' lengths.
fn norms(rows: &[Vec<f32>]) -> [f64; 5] {
    let squares = |row: &Vec<f32>| -> f64 {
        row.iter()
            .map(|value| f64::from(*value) * f64::from(*value))
            .sum()
    };
    let mut lengths: Vec<f64> = rows.iter().map(|row| squares(row).sqrt()).collect();
    lengths.sort_by(f64::total_cmp);
    let last = lengths.len().saturating_sub(1);
    [0, 1, 2, 3, 4].map(|quarter| lengths.get(last * quarter / 4).copied().unwrap_or(0.0))
}

/// Rounds in which a direction is looked for; after some tens it hardly turns any more.
const ROUNDS: usize = 40;

/// The rows along the two directions in which they differ most (principal components).
fn project(rows: &[Vec<f32>]) -> Vec<(f64, f64)> {
    let width = rows.first().map_or(0, Vec::len);
    let mut mean = vec![0.0; width];
    for row in rows {
        for (sum, value) in mean.iter_mut().zip(row) {
            *sum += f64::from(*value) / to_float(rows.len());
        }
    }
    let centred: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| {
            let pairs = row.iter().zip(&mean);
            pairs
                .map(|(value, mean)| f64::from(*value) - mean)
                .collect()
        })
        .collect();
    let first = direction(&centred, width, &[]);
    let second = direction(&centred, width, &first);
    centred
        .iter()
        .map(|row| (dot(row, &first), dot(row, &second)))
        .collect()
}

/// The direction in which `rows` differ most, at right angles to `than`.
fn direction(rows: &[Vec<f64>], width: usize, than: &[f64]) -> Vec<f64> {
    // Any start will do that is not by chance at right angles; the same every time.
    let mut along: Vec<f64> = (0..width)
        .map(|at| 1.0 + to_float(at * 7919 % 101) / 101.0)
        .collect();
    for _ in 0..ROUNDS {
        let mut next = vec![0.0; width];
        for row in rows {
            let part = dot(row, &along);
            for (sum, value) in next.iter_mut().zip(row) {
                *sum += part * value;
            }
        }
        let common = dot(&next, than);
        for (value, other) in next.iter_mut().zip(than) {
            *value -= common * other;
        }
        let length = dot(&next, &next).sqrt();
        if length <= f64::EPSILON {
            return vec![0.0; width];
        }
        next.iter_mut().for_each(|value| *value /= length);
        along = next;
    }
    along
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares: f32 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    f64::from(squares).sqrt()
}

#[expect(clippy::cast_precision_loss, reason = "counts of some thousands")]
fn to_float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two heaps of points around (0, 0) and (10, 0), denser in the middle, no two points equal.
    fn heaps() -> Vec<Vec<f32>> {
        let spiral = |at: u16, x: f32| {
            let (angle, radius) = (2.4 * f32::from(at), (f32::from(at) / 40.0).powi(2));
            vec![x + radius * angle.cos(), radius * angle.sin()]
        };
        let mut rows: Vec<Vec<f32>> = (0..40).map(|at| spiral(at, 0.0)).collect();
        rows.extend((0..40).map(|at| spiral(at, 10.0)));
        rows
    }

    #[test]
    fn heaps_are_found_and_are_apart() {
        let rows = heaps();
        let labels = clusters(&rows, None).unwrap();
        let of = |rows: &[Option<usize>]| rows.iter().copied().flatten().collect::<BTreeSet<_>>();
        let (left, right) = (of(&labels[..40]), of(&labels[40..]));
        assert!(!left.is_empty() && !right.is_empty(), "{labels:?}");
        assert!(left.is_disjoint(&right), "{labels:?}");
        let set = structure_of("heaps", &rows, None).unwrap();
        assert_eq!(set.clusters, left.len() + right.len());
        assert!(set.silhouette.unwrap() > 0.3, "{set:?} {labels:?}");
        assert_eq!(structure_of("few", &rows[..10], None).unwrap().clusters, 0);
        assert_eq!(structure_of("none", &[], None).unwrap().silhouette, None);
    }

    #[test]
    fn a_plane_keeps_what_differs_most() {
        // Long along one direction, less so along another, hardly along the third.
        let rows: Vec<Vec<f32>> = (0..60)
            .map(|at| {
                let (long, short) = (at as f32 - 30.0, (at % 5) as f32 - 2.0);
                vec![long, short, 0.01 * (at % 3) as f32]
            })
            .collect();
        let plane = project(&rows);
        let spread = |of: fn(&(f64, f64)) -> f64| {
            let values: Vec<f64> = plane.iter().map(of).collect();
            values.iter().copied().fold(0.0, f64::max) - values.iter().copied().fold(0.0, f64::min)
        };
        assert!(
            (spread(|at| at.0) - 59.0).abs() < 1.0,
            "{}",
            spread(|at| at.0)
        );
        assert!(
            (spread(|at| at.1) - 4.0).abs() < 1.0,
            "{}",
            spread(|at| at.1)
        );
        assert_eq!(project(&[]), vec![]);
        assert_eq!(
            norms(&[vec![3.0, 4.0], vec![0.0, 1.0]]),
            [1.0, 1.0, 1.0, 1.0, 5.0]
        );
    }

    #[test]
    fn a_silhouette_is_what_its_definition_says() {
        let rows = vec![vec![0.0], vec![1.0], vec![10.0], vec![11.0]];
        let labels = [Some(0), Some(0), Some(1), Some(1)];
        // Of the outer points (10.5 - 1) / 10.5, of the inner ones (9.5 - 1) / 9.5.
        let want = (9.5 / 10.5 + 8.5 / 9.5) / 2.0;
        assert!((silhouette(&rows, &labels).unwrap() - want).abs() < 1e-6);
        assert_eq!(silhouette(&rows, &[Some(0); 4]), None);
        assert_eq!(silhouette(&rows, &[None; 4]), None);
        let mixed = [Some(0), Some(1), Some(0), Some(1)];
        assert!(silhouette(&rows, &mixed).unwrap() < 0.1);
    }
}
