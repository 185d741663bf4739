//! Scratch folder and progress display of an operation.

use super::progress::Progress;
use super::scratch::Scratch;

/// Scratch folder and progress display of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Workspace<'a> {
    /// Scratch.
    pub scratch: &'a Scratch,
    /// Progress.
    pub progress: Progress,
}
