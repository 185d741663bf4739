//! Addresses of servers and of collections on them: `http://host:6333`, `https://host/collection`.
//!
//! Invariants: an address holds no key; a server behind a path keeps its path; a collection's name
//! is the name itself, not its spelling in a URL.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::base::error::{Error, Result};
use crate::base::printable::without_passwords;
use crate::base::text::serde_as_text;

/// The port that Qdrant answers REST on, unless it is told otherwise.
pub const REST_PORT: u16 = 6333;
/// The port that Qdrant answers gRPC on, unless it is told otherwise.
const GRPC_PORT: u16 = 6334;
/// The segment before a collection's name in the server's own paths.
const COLLECTIONS: &str = "collections";

/// Address of a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Without query, fragment, user or trailing slash.
    url: Url,
}

/// Address of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CollectionAddress {
    /// The server.
    pub server: Address,
    /// The collection's name.
    pub collection: String,
}

/// Address of a server's gRPC, where it is not the host of REST with the next port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcAddress {
    url: Url,
}

impl GrpcAddress {
    /// Returns the origin, for a channel.
    pub(super) fn origin(&self) -> String {
        origin(
            &self.url,
            self.url.port_or_known_default().unwrap_or(GRPC_PORT),
        )
    }
}

impl FromStr for GrpcAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut url = read(text)?;
        if !says_port(text) {
            let _ = url.set_port(Some(GRPC_PORT));
        }
        if !matches!(url.path(), "" | "/") {
            return Err(Error::usage(
                format!("reading the address {}", without_passwords(text)),
                "gRPC has no path",
            )
            .next("give it as http://HOST:6334 or https://HOST:6334"));
        }
        Ok(Self { url })
    }
}

impl fmt::Display for GrpcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

serde_as_text!(
    GrpcAddress,
    "GrpcAddress",
    "an address, as http://HOST:6334"
);

fn origin(url: &Url, port: u16) -> String {
    let host = url.host_str().unwrap_or_default();
    format!("{}://{host}:{port}", url.scheme())
}

/// Returns true if `text` is meant as an address, and not as the name of a file.
pub fn is_address(text: &str) -> bool {
    let text = text.trim_start().to_ascii_lowercase();
    text.starts_with("http://") || text.starts_with("https://")
}

impl Address {
    /// Reads `http://host:6333`; a path is kept as what the server is reached under.
    pub fn parse(text: &str) -> Result<Self> {
        let mut url = read(text)?;
        trim_path(&mut url);
        Ok(Self { url })
    }

    /// Returns true if it has no path, so that nothing in it can be the name of a collection.
    pub fn is_bare(&self) -> bool {
        self.url.path().trim_matches('/').is_empty()
    }

    /// The host as it was given, without brackets around an IPv6 address.
    pub fn host(&self) -> String {
        match self.url.host() {
            Some(Host::Ipv6(ip)) => ip.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        }
    }

    /// The port of REST.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(REST_PORT)
    }

    /// `host:port`, with brackets where they belong.
    pub fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        format!("{host}:{}", self.port())
    }

    /// Returns true if the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Returns true if the host is this machine.
    pub fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            None => false,
        }
    }

    /// The URL of `segments` on this server, each of them encoded.
    pub fn join(&self, segments: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// The origin of gRPC on `port` (default: the port after REST's).
    pub(super) fn grpc(&self, port: Option<u16>) -> String {
        let port = port.unwrap_or_else(|| self.port().saturating_add(1));
        origin(&self.url, port)
    }

    /// The collection `name` on it.
    pub fn collection(&self, name: &str) -> CollectionAddress {
        CollectionAddress {
            server: self.clone(),
            collection: name.to_owned(),
        }
    }
}

impl CollectionAddress {
    /// Reads `http://host:6333/collection`, also as `http://host:6333/collections/collection`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut url = read(text)?;
        let mut segments: Vec<String> = url
            .path_segments()
            .map(|segments| segments.map(str::to_owned).collect())
            .unwrap_or_default();
        while segments.last().is_some_and(String::is_empty) {
            segments.pop();
        }
        let refuse =
            |why: &str| {
                Error::usage(format!("reading the address {}", without_passwords(text)), why).next(
                "give it as http://HOST:6333/COLLECTION, with what is special in the name as %XX",
            )
            };
        let last = segments
            .pop()
            .ok_or_else(|| refuse("it names no collection"))?;
        if last == COLLECTIONS {
            return Err(refuse("it names no collection"));
        }
        let collection = percent_decode_str(&last)
            .decode_utf8()
            .map_err(|_| refuse("the collection's name is not UTF-8"))?
            .into_owned();
        check_name(&collection).map_err(|why| refuse(&why))?;
        if segments.last().is_some_and(|last| last == COLLECTIONS) {
            segments.pop();
        }
        url.set_path(&segments.join("/"));
        trim_path(&mut url);
        Ok(Self {
            server: Address { url },
            collection,
        })
    }
}

/// Characters that no name of a collection or a vector may contain.
const NEVER: &[char] = &['<', '>', ':', '"', '/', '\\', '|', '?', '*', '\0', '\u{1f}'];
/// The longest name of a vector, in bytes.
const VECTOR_NAME_BYTES_MAX: usize = 200;

/// Checks that a collection or an alias can have this name; refuses what Qdrant refuses or would misread.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name == "." || name == ".." {
        return Err(format!("'{name}' is no name of a collection"));
    }
    if name.len() > 255 {
        return Err("the name is longer than 255 bytes".into());
    }
    match name.chars().find(|char| NEVER.contains(char)) {
        Some(char) => Err(format!(
            "a name with {char:?} is one that no collection can have"
        )),
        None => Ok(()),
    }
}

/// Checks that a collection with a vector of this name can be created, since
/// [`super::Feature::VectorNamesChecked`] (`validate_vector_name` of Qdrant's
/// lib/common/common/src/validation.rs); the error says why not.
pub fn check_vector_name(name: &str) -> Result<(), String> {
    if name.len() > VECTOR_NAME_BYTES_MAX {
        return Err(format!(
            "the name is longer than {VECTOR_NAME_BYTES_MAX} bytes"
        ));
    }
    match name.chars().find(|char| NEVER.contains(char)) {
        Some(char) => Err(format!("the name has {char:?} in it")),
        None => Ok(()),
    }
}

fn read(text: &str) -> Result<Url> {
    let doing = || format!("reading the address {}", without_passwords(text));
    let form = "give it as http://HOST:6333 or https://HOST:6333";
    let url =
        Url::parse(text.trim()).map_err(|err| Error::usage(doing(), err).next(form.to_owned()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Error::usage(
            doing(),
            format!("it begins with {}:, not with http: or https:", url.scheme()),
        )
        .next(form.to_owned()));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(Error::usage(doing(), "it names no host").next(form.to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::usage(
            doing(),
            "it holds a user or a key, which every list of processes would show",
        )
        .next("put the key into QDRANT_API_KEY or a file for --api-key-file, and the address alone here"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Error::usage(
            doing(),
            "it has a part after '?' or '#', which means nothing here",
        )
        .next(form.to_owned()));
    }
    let mut url = url;
    // The port of the scheme when it was said, Qdrant's own when nothing was.
    if url.port().is_none() && !says_port(text) {
        // Only a URL that cannot have a port refuses one.
        let _ = url.set_port(Some(REST_PORT));
    }
    Ok(url)
}

/// Returns true if the text names a port itself; the default of the scheme is dropped by the parser.
fn says_port(text: &str) -> bool {
    let rest = text.trim().split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let after_host = match authority.rsplit_once(']') {
        Some((_, after)) => after,
        None => authority,
    };
    after_host
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty())
}

fn trim_path(url: &mut Url) {
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Always with the port: without one it would be read as Qdrant's own, not as the scheme's.
        let path = self.url.path().trim_end_matches('/');
        write!(f, "{}://{}{path}", self.url.scheme(), self.authority())
    }
}

impl fmt::Display for CollectionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.server.join(&[&self.collection]);
        let name = url.path().rsplit('/').next().unwrap_or_default();
        write!(f, "{}/{name}", self.server)
    }
}

/// REST address of a member of a cluster, as `ID=URL`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerAddress {
    /// The member's id.
    pub peer: u64,
    /// REST address of the member.
    pub address: Address,
}

impl FromStr for PeerAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Error::usage(format!("reading --peer {}", without_passwords(text)), why)
                .next("give it as --peer ID=http://HOST:6333")
        };
        let (peer, url) = text
            .split_once('=')
            .ok_or_else(|| refuse("there is no '='"))?;
        let peer = peer
            .trim()
            .parse()
            .map_err(|_| refuse("what stands before '=' is no id of a member"))?;
        let address = Address::parse(url)?;
        Ok(Self { peer, address })
    }
}

impl TryFrom<String> for PeerAddress {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<PeerAddress> for String {
    fn from(peer: PeerAddress) -> Self {
        format!("{}={}", peer.peer, peer.address)
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl FromStr for CollectionAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

serde_as_text!(Address, "Address", "http://HOST:6333");
serde_as_text!(
    CollectionAddress,
    "CollectionAddress",
    "http://HOST:6333/COLLECTION"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;

    #[test]
    fn servers_are_read() {
        for (text, shown, host, port) in [
            ("http://prod", "http://prod:6333", "prod", 6333),
            ("http://prod:6333/", "http://prod:6333", "prod", 6333),
            ("http://prod:80", "http://prod:80", "prod", 80),
            ("https://prod:443", "https://prod:443", "prod", 443),
            (
                "https://q.example",
                "https://q.example:6333",
                "q.example",
                6333,
            ),
            ("http://[::1]:7000", "http://[::1]:7000", "::1", 7000),
            ("http://[::1]", "http://[::1]:6333", "::1", 6333),
            (
                "https://gate:8443/qdrant/eu/",
                "https://gate:8443/qdrant/eu",
                "gate",
                8443,
            ),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), shown, "{text}");
            assert_eq!(address.host(), host, "{text}");
            assert_eq!(address.port(), port, "{text}");
            assert_eq!(Address::parse(&address.to_string()).unwrap(), address);
        }
        let behind = Address::parse("https://gate:8443/qdrant/").unwrap();
        assert_eq!(
            behind.join(&["collections", "a b/c", "points"]).as_str(),
            "https://gate:8443/qdrant/collections/a%20b%2Fc/points"
        );
        assert_eq!(behind.grpc(None), "https://gate:8444");
        let loopback = Address::parse("http://[::1]:7000").unwrap();
        assert_eq!(loopback.grpc(Some(9)), "http://[::1]:9");
        assert!(loopback.is_loopback() && !behind.is_loopback());
    }

    #[test]
    fn collections_are_read() {
        for (text, server, collection) in [
            ("http://prod:6333/album", "http://prod:6333", "album"),
            ("http://prod/album/", "http://prod:6333", "album"),
            (
                "http://prod:6333/collections/album",
                "http://prod:6333",
                "album",
            ),
            (
                "https://gate:8443/eu/album%202017",
                "https://gate:8443/eu",
                "album 2017",
            ),
            ("http://[::1]:1/%C3%A4", "http://[::1]:1", "ä"),
        ] {
            let address = CollectionAddress::parse(text).unwrap();
            assert_eq!(address.server.to_string(), server, "{text}");
            assert_eq!(address.collection, collection, "{text}");
            let again = CollectionAddress::parse(&address.to_string()).unwrap();
            assert_eq!(again, address, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, says) in [
            ("prod:6333", "not with http"),
            ("ftp://prod/x", "ftp:"),
            ("http://", "host"),
            ("http://prod:99999/x", "port"),
            ("http://prod/x?api-key=1", "after '?'"),
            ("http://prod", "no collection"),
            ("http://prod/collections/", "no collection"),
            ("http://prod/a%2Fb", "no collection can have"),
            ("http://prod/%FF", "UTF-8"),
        ] {
            let err = CollectionAddress::parse(text).unwrap_err();
            assert_eq!(err.kind(), Kind::Usage, "{text}");
            assert!(err.to_string().contains(says), "{text}: {err}");
        }
        for text in ["http://u:s3cr3t@prod/x", "http://s3cr3t@prod/x"] {
            let err = CollectionAddress::parse(text).unwrap_err();
            assert!(err.why().contains("holds a user or a key"), "{err}");
            assert!(!err.to_string().contains("s3cr3t"), "{err}");
        }
    }
}
