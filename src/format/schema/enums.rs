//! The words of Qdrant's configs: distances, datatypes, placements.
//!
//! Invariants: a word that this version does not know survives reading and writing unchanged
//! (`Other`), so that it can be named in a finding; it is never mistaken for a known one.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
            /// A word that this version does not know, as written.
            Other(String),
        }

        impl $name {
            /// Every word that this version knows, as Qdrant writes it.
            pub const KNOWN: &'static [&'static str] = &[$($word),+];

            /// The meaning of `word`; one that is not known becomes `Other`.
            pub fn from_word(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                }
            }

            /// The word as Qdrant writes it.
            pub fn as_word(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(other) => other,
                }
            }

            /// Returns true if this version knows the word.
            pub fn is_known(&self) -> bool {
                !matches!(self, Self::Other(_))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_word())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_word())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self::from_word(&String::deserialize(deserializer)?))
            }
        }
    };
}

words! {
    /// Measure of the closeness of two vectors.
    Distance {
        /// Cosine similarity; Qdrant stores such vectors normalized.
        Cosine = "Cosine",
        /// Euclidean distance.
        Euclid = "Euclid",
        /// Dot product.
        Dot = "Dot",
        /// Manhattan distance.
        Manhattan = "Manhattan",
    }
}

words! {
    /// Storage type of one element of a vector.
    Datatype {
        /// 32-bit floating point, the default.
        Float32 = "float32",
        /// 16-bit floating point.
        Float16 = "float16",
        /// Whole numbers from 0 to 255.
        Uint8 = "uint8",
        /// TurboQuant, 4 bits an element.
        Turbo4 = "turbo4",
        /// TurboQuant, 8 bits an element.
        Turbo8 = "turbo8",
        /// TurboQuant, 16 bits an element.
        Turbo16 = "turbo16",
    }
}

words! {
    /// Comparison of two multivectors.
    Comparator {
        /// The sum of the best matches.
        MaxSim = "max_sim",
    }
}

words! {
    /// Modifier of sparse values at query time.
    Modifier {
        /// Nothing, the default.
        None = "none",
        /// Weighted by inverse document frequency.
        Idf = "idf",
    }
}

words! {
    /// Placement of a part of a collection while it is served.
    Memory {
        /// Left on disk and paged in when asked for.
        Cold = "cold",
        /// Read into the page cache at start.
        Cached = "cached",
        /// Held in memory, never evicted.
        Pinned = "pinned",
    }
}

words! {
    /// Method by which points are spread over shards.
    ShardingMethod {
        /// By Qdrant's hash ring over all shards, the default.
        Auto = "auto",
        /// By shard key; within a key by the ring over the key's shards.
        Custom = "custom",
    }
}

impl Memory {
    /// Converts the older `on_disk` flag of a part whose other form is cached.
    pub fn from_on_disk(on_disk: bool) -> Self {
        if on_disk { Self::Cold } else { Self::Cached }
    }

    /// Converts the older `on_disk` flag of a part whose other form is held in memory.
    pub fn from_on_disk_or_pinned(on_disk: bool) -> Self {
        if on_disk { Self::Cold } else { Self::Pinned }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_both_ways() {
        for word in Distance::KNOWN {
            assert!(Distance::from_word(word).is_known());
            assert_eq!(Distance::from_word(word).as_word(), *word);
        }
        for word in Datatype::KNOWN {
            let json = format!("\"{word}\"");
            let read: Datatype = serde_json::from_str(&json).unwrap();
            assert!(read.is_known());
            assert_eq!(serde_json::to_string(&read).unwrap(), json);
        }
    }

    #[test]
    fn an_unknown_word_is_kept_and_known_as_such() {
        // Qdrant's words are case-sensitive: `cosine` is none of them.
        for word in ["cosine", "Hamming", ""] {
            let read = Distance::from_word(word);
            assert_eq!(read, Distance::Other(word.to_owned()));
            assert!(!read.is_known());
            assert_eq!(read.to_string(), word);
        }
    }
}
