//! Where an operation works and shows how far it is.

use super::progress::Progress;
use super::scratch::Scratch;

/// Where the work is done and shown.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Scratch.
    pub scratch: &'a Scratch,
    /// Progress.
    pub progress: Progress,
}
