//! The structure of a collection: do its points still lie in clusters as they did in the sources?
//!
//! On a sample of the points by the hashes of their ids, HDBSCAN looks for clusters, and the
//! silhouette says how well they are apart: 1 is perfectly, 0 not at all. A master whose vectors were
//! mixed up would look like noise beside its sources, although every count is right.
//!
//! Keeps true: the same points give the same numbers; where there are too few points or clusters to
//! say anything, nothing is said instead of a zero.

use std::collections::{BTreeMap, BTreeSet};

use hdbscan::{Hdbscan, HdbscanHyperParams};
use serde::Serialize;

use crate::engine::Columns;
use crate::error::{Error, Result};
use crate::merge::{Lane, Reading, Scan};
use crate::point::{PointId, Sample, Vector};

/// Fewer points than this have no structure to speak of.
const POINTS_MIN: usize = 20;
/// A cluster has at least this part of the points, and this many.
const CLUSTER_PART: usize = 40;
const CLUSTER_MIN: usize = 5;

/// The structure of the sources and of their master.
#[derive(Debug, Clone, Serialize)]
pub struct Structure {
    /// The vector that was looked at; empty for the unnamed one.
    pub vector: String,
    /// The sources, in their order.
    pub sources: Vec<SetStructure>,
    /// The master.
    pub master: SetStructure,
    /// How well the sources are apart from each other in the master; none for one source alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silhouette_by_source: Option<f64>,
    /// How much lower the master's silhouette is than the sources', weighted by their points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<f64>,
    /// From which drop on it is a finding.
    pub drop_max: f64,
}

impl Structure {
    /// What is to be said of it, if the drop is too large.
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
#[derive(Debug, Clone, Serialize)]
pub struct SetStructure {
    /// What they are of.
    pub name: String,
    /// Points that were looked at.
    pub points: usize,
    /// Clusters that were found.
    pub clusters: usize,
    /// The part of the points that is in none.
    pub noise: f64,
    /// How well the clusters are apart; none with fewer than two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silhouette: Option<f64>,
}

/// Looks at about `wanted` points of the master's and each source's lanes; `names` are the sources'.
/// None if there is no dense vector to look at.
pub fn structure(
    master: &[Lane<'_>],
    sources: &[Lane<'_>],
    names: &[String],
    wanted: usize,
    drop_max: f64,
) -> Result<Option<Structure>> {
    let of_master = drawn(master, wanted, None)?;
    let Some(vector) = of_master.vector.clone() else {
        return Ok(None);
    };
    let mut homes: BTreeMap<PointId, usize> = BTreeMap::new();
    let mut of_sources = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let own: Vec<Lane<'_>> = sources
            .iter()
            .filter(|lane| lane.source == at)
            .cloned()
            .collect();
        let drawn = drawn(&own, wanted, Some(&vector))?;
        of_sources.push(look(name, &drawn.rows)?);
        // The last source that has a point counts here, whoever won it.
        for lane in &own {
            for record in lane.shard.retrieve(&of_master.ids, Columns::IDS)? {
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
    let master = look("the master", &of_master.rows)?;
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
    Ok(Some(Structure {
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

fn drawn(lanes: &[Lane<'_>], wanted: usize, vector: Option<&str>) -> Result<Drawn> {
    let mut all = 0;
    for lane in lanes {
        all += lane.shard.count(None)?;
    }
    let sample = Sample::about(2 * wanted as u64 + 20, all);
    let mut points: Vec<(u64, PointId, String, Vec<f32>)> = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let reading = Reading {
            sample: Some(sample),
            ..Reading::default()
        };
        let mut scan = Scan::start_reading(scope, lanes, reading)?;
        let mut group = Vec::new();
        while let Some(id) = scan.next_group(&mut group)? {
            let Some(scanned) = group.pop() else {
                continue;
            };
            for (name, values) in scanned.record.vectors {
                if let Vector::Dense(values) = values
                    && vector.is_none_or(|vector| vector == name)
                {
                    points.push((Sample::rank(id), id, name, values));
                    break;
                }
            }
        }
        Ok(())
    })?;
    points.sort_by_key(|(rank, ..)| *rank);
    // Where nobody said which vector, that of the first point counts.
    let name = points.first().map(|(_, _, name, _)| name.clone());
    points.retain(|(_, _, own, _)| Some(own) == name.as_ref());
    points.truncate(wanted);
    let mut drawn = Drawn {
        vector: name,
        ids: Vec::new(),
        rows: Vec::new(),
    };
    for (_, id, _, values) in points {
        drawn.ids.push(id);
        drawn.rows.push(values);
    }
    Ok(drawn)
}

fn look(name: &str, rows: &[Vec<f32>]) -> Result<SetStructure> {
    let labels = clusters(rows)?;
    let found: BTreeSet<usize> = labels.iter().copied().flatten().collect();
    let noise = labels.iter().filter(|label| label.is_none()).count();
    Ok(SetStructure {
        name: name.to_owned(),
        points: rows.len(),
        clusters: found.len(),
        noise: to_float(noise) / to_float(rows.len().max(1)),
        silhouette: silhouette(rows, &labels),
    })
}

/// The cluster of each row; none for noise.
fn clusters(rows: &[Vec<f32>]) -> Result<Vec<Option<usize>>> {
    if rows.len() < POINTS_MIN {
        return Ok(vec![None; rows.len()]);
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

    /// Two heaps of points around (0, 0) and (10, 0), and a line between them.
    fn heaps() -> Vec<Vec<f32>> {
        let near = |at: usize| (at % 7) as f32 / 20.0;
        let mut rows: Vec<Vec<f32>> = (0..40).map(|at| vec![near(at), near(at * 3)]).collect();
        rows.extend((0..40).map(|at| vec![10.0 + near(at), near(at * 5)]));
        rows
    }

    #[test]
    fn heaps_are_found_and_are_apart() {
        let rows = heaps();
        let set = look("heaps", &rows).unwrap();
        assert_eq!(set.clusters, 2, "{set:?}");
        assert!(set.silhouette.unwrap() > 0.9, "{set:?}");
        assert!(set.noise < 0.1, "{set:?}");
        assert_eq!(look("few", &rows[..10]).unwrap().clusters, 0);
        assert_eq!(look("none", &[]).unwrap().silhouette, None);
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
