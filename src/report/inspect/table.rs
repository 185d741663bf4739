//! The table of a shard's segments.
//!
//! Invariants: its columns are aligned; a number that is not known is a question mark.

use std::fmt::Write as _;

use super::lines::{clean, line};
use crate::inspect::{SegmentPoints, SegmentReport, SegmentVector, Storage};
use crate::report::words::{count, size};

/// One row a vector; what is the segment's stands in its first.
pub(super) fn table(segments: &[SegmentReport], out: &mut String) {
    const HEAD: [&str; 8] = [
        "segment", "points", "deleted", "size", "payload", "vector", "storage", "index",
    ];
    const RIGHT: [bool; 8] = [false, true, true, true, false, false, false, false];
    let mut rows = vec![HEAD.map(str::to_owned)];
    for segment in segments {
        let number = |count_of: fn(&SegmentPoints) -> u64| {
            let points = segment.points.as_ref();
            points.map_or("?".to_owned(), |points| count(count_of(points)))
        };
        let mut first = [
            segment.uuid.to_string().chars().take(8).collect(),
            number(|points| points.points_count),
            number(|points| points.deleted_count),
            size(segment.bytes),
            storage_words(segment.payload_storage.as_ref()),
        ];
        if segment.vectors.is_empty() {
            let [uuid, points, deleted, size, payload] = first;
            let none = String::new;
            rows.push([uuid, points, deleted, size, payload, none(), none(), none()]);
            continue;
        }
        for vector in &segment.vectors {
            let [uuid, points, deleted, size, payload] = std::mem::take(&mut first);
            let name = if vector.name.is_empty() {
                "unnamed"
            } else {
                &vector.name
            };
            rows.push([
                uuid,
                points,
                deleted,
                size,
                payload,
                clean(name),
                storage_words(vector.storage.as_ref()),
                index_words(vector),
            ]);
        }
    }
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let mut text = String::from("   ");
        for ((cell, width), right) in row.iter().zip(widths).zip(RIGHT) {
            // Writing to a String cannot fail.
            let _ = if right {
                write!(text, " {cell:>width$} ")
            } else {
                write!(text, " {cell:<width$} ")
            };
        }
        line(out, format_args!("{}", text.trim_end()));
    }
}

fn storage_words(storage: Option<&Storage>) -> String {
    let Some(storage) = storage else {
        return "?".to_owned();
    };
    let place = match storage.on_disk {
        Some(true) => ", on disk",
        Some(false) => ", in memory",
        None => "",
    };
    format!("{}{place}", clean(&storage.kind))
}

fn index_words(vector: &SegmentVector) -> String {
    let mut words = storage_words(vector.index.as_ref());
    if let (Some(m), Some(ef)) = (vector.hnsw_m, vector.hnsw_ef_construct) {
        // Writing to a String cannot fail.
        let _ = write!(words, ", m {m} ef {ef}");
    }
    if let Some(quantization) = &vector.quantization {
        for kind in quantization
            .as_object()
            .into_iter()
            .flatten()
            .map(|(kind, _)| kind)
        {
            let _ = write!(words, ", {}", clean(kind));
        }
    }
    words
}
