//! The manual: one page a topic, shown by `snapmerge help TOPIC`, by `man` and here.
//!
//! Invariants: every command on a page is one that the command line takes (a test parses them all).

/// A page.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Argument of `snapmerge help`.
    pub topic: &'static str,
    /// Markdown; commands are fenced as `sh`.
    pub text: &'static str,
}

/// Declares the pages, in the order in which they are listed.
macro_rules! pages {
    ($($module:ident $topic:literal)+) => {
        $(
            #[doc = include_str!(concat!($topic, ".md"))]
            pub mod $module {}
        )+

        /// All pages.
        pub const PAGES: &[Page] = &[$(Page {
            topic: $topic,
            text: include_str!(concat!($topic, ".md")),
        }),+];
    };
}

pages! {
    getting_started "getting-started"
    concepts "concepts"
    inspect "inspect"
    merge "merge"
    conflicts "conflicts"
    job "job"
    ingest "ingest"
    verify "verify"
    servers "servers"
    archive "archive"
    nightly "nightly"
    disaster "disaster"
    kubernetes "kubernetes"
    security "security"
    performance "performance"
    limits "limits"
    formats "formats"
    exit_codes "exit-codes"
    json "json"
}

impl Page {
    /// The page of a topic; none if there is none.
    pub fn of(topic: &str) -> Option<Self> {
        PAGES.iter().find(|page| page.topic == topic).copied()
    }

    /// First heading of the page.
    pub fn title(&self) -> &'static str {
        let first = self.text.lines().next().unwrap_or_default();
        first.trim_start_matches("# ")
    }

    /// The page as a terminal shows it: commands are indented, not fenced.
    pub fn plain(&self) -> String {
        let mut plain = String::new();
        for (line, in_fence) in self.lines() {
            if in_fence {
                plain.push_str("    ");
            }
            plain.push_str(line);
            plain.push('\n');
        }
        plain
    }

    /// Lines without those of fences, each with whether it is between two.
    fn lines(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let mut in_fence = false;
        self.text.lines().filter_map(move |line| {
            if line.starts_with("```") {
                in_fence = !in_fence;
                return None;
            }
            Some((line, in_fence && !line.is_empty()))
        })
    }

    /// The commands of snapmerge on it, as they are typed.
    pub fn commands(&self) -> impl Iterator<Item = &'static str> {
        let lines = self.lines();
        lines.filter_map(|(line, in_fence)| {
            (in_fence && line.starts_with("snapmerge ")).then_some(line)
        })
    }
}
