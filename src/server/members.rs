//! Members of a cluster that a name of DNS leads to, as that of a headless service in Kubernetes does.
//!
//! Invariants: every address that the name has is asked who it is; one that does not answer, or is no
//! member of the cluster, is an error, since whatever lies there would otherwise be missed.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use super::address::Address;
use super::answers::ClusterStatus;
use super::connection::Connection;
use crate::base::error::{Error, Result};
use crate::base::text::serde_as_text;

/// The name that all members of a cluster have: `DNS[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersFrom {
    host: String,
    /// The port of REST, if it is not that of the server.
    port: Option<u16>,
}

impl FromStr for MembersFrom {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let read = || {
            let (host, port) = match text.split_once(':') {
                None => (text, None),
                Some((host, port)) => (host, Some(port.parse().ok()?)),
            };
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            (!host.is_empty() && host.chars().all(is_name)).then(|| Self {
                host: host.to_owned(),
                port,
            })
        };
        read().ok_or_else(|| {
            // What stands there may be a URL with a secret.
            Error::usage("reading --members-from", "it is no name of DNS")
                .next("give it as qdrant-headless or qdrant-headless:6333, without http://")
        })
    }
}

impl fmt::Display for MembersFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        match self.port {
            None => Ok(()),
            Some(port) => write!(f, ":{port}"),
        }
    }
}

serde_as_text!(
    MembersFrom,
    "MembersFrom",
    "a name of DNS, as qdrant-headless:6333"
);

impl Connection {
    /// The other members of this server's cluster, by id.
    pub fn members_from(&self, from: &MembersFrom) -> Result<BTreeMap<u64, Address>> {
        let server = self.address();
        let doing = format!("looking for the members of {server} at {from}");
        if server.is_encrypted() && !self.settings().insecure {
            return Err(Error::usage(
                doing,
                "members are asked by their IP addresses, for which a certificate is hardly made",
            )
            .next(
                "give each with --peer ID=https://HOST:6333, or take any certificate: --insecure",
            ));
        }
        let own = self.cluster()?;
        let port = from.port.unwrap_or_else(|| server.port());
        let found = (from.host.as_str(), port)
            .to_socket_addrs()
            .map_err(|err| {
                Error::failed(doing.as_str(), format!("the name has no address: {err}")).next(
                    "see that the name is known where this runs; it is that of a headless service",
                )
            })?;
        let mut answers = Vec::new();
        for at in found {
            let member = self.peer(&address_of(server, at)?)?;
            let answer = member.cluster().map_err(Error::from);
            answers.push((at, answer.map_err(|err| err.within(&doing))?));
        }
        let found = others(&own, answers).map_err(|why| {
            Error::failed(doing.as_str(), why)
                .next("GET /cluster of each tells its id; --peer ID=URL names members one by one")
        })?;
        let named = found.into_iter();
        named
            .map(|(peer, at)| Ok((peer, address_of(server, at)?)))
            .collect()
    }
}

fn address_of(server: &Address, at: SocketAddr) -> Result<Address> {
    let scheme = match server.is_encrypted() {
        true => "https",
        false => "http",
    };
    Address::parse(&format!("{scheme}://{at}"))
}

/// The members besides the one whose cluster is `own`, by id; or why an answer cannot be one of theirs.
fn others(
    own: &ClusterStatus,
    answers: Vec<(SocketAddr, ClusterStatus)>,
) -> Result<BTreeMap<u64, SocketAddr>, String> {
    let members = own.peer_ids();
    let mut found: BTreeMap<u64, SocketAddr> = BTreeMap::new();
    for (at, status) in answers {
        let Some(peer) = status.peer_id.filter(|_| status.is_enabled()) else {
            return Err(format!("{at} is part of no cluster"));
        };
        if !members.contains(&peer) {
            return Err(format!("{at} is member {peer} of another cluster"));
        }
        match found.get(&peer) {
            // One member that IPv4 and IPv6 lead to.
            Some(other) if other.is_ipv4() != at.is_ipv4() => {}
            Some(other) => {
                return Err(format!(
                    "{other} and {at} are both member {peer}, so that others may be missed"
                ));
            }
            None => drop(found.insert(peer, at)),
        }
    }
    found.retain(|peer, _| Some(*peer) != own.peer_id);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Peer;

    fn status(peer: u64, members: &[u64]) -> ClusterStatus {
        let peers = members
            .iter()
            .map(|id| (id.to_string(), Peer { uri: String::new() }));
        ClusterStatus {
            status: "enabled".into(),
            peer_id: Some(peer),
            peers: peers.collect(),
        }
    }

    #[test]
    fn a_name_is_a_name() {
        for text in [
            "qdrant-headless",
            "q.ns.svc.cluster.local:6333",
            "127.0.0.1:1",
        ] {
            assert_eq!(text.parse::<MembersFrom>().unwrap().to_string(), text);
        }
        for text in [
            "",
            ":6333",
            "http://q:6333",
            "q:",
            "q:x",
            "q:99999",
            "u:s3cr3t@q",
            "q/x",
        ] {
            let err = text.parse::<MembersFrom>().unwrap_err();
            assert!(!err.to_string().contains("s3cr3t"), "{err}");
        }
    }

    #[test]
    fn every_address_is_another_member_of_the_cluster() {
        let all = [1, 2, 3];
        let own = status(1, &all);
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let (a, b, c) = (
            at("10.0.0.1:6333"),
            at("10.0.0.2:6333"),
            at("[fd00::2]:6333"),
        );
        let found = others(&own, vec![(a, status(1, &all)), (b, status(2, &all))]);
        assert_eq!(found, Ok(BTreeMap::from([(2, b)])));
        let both = others(&own, vec![(c, status(2, &all)), (b, status(2, &all))]);
        assert_eq!(both, Ok(BTreeMap::from([(2, c)])));
        let alone = ClusterStatus {
            status: "disabled".into(),
            peer_id: None,
            peers: BTreeMap::new(),
        };
        for (answers, why) in [
            (
                vec![(a, status(2, &all)), (b, status(2, &all))],
                "both member 2",
            ),
            (vec![(a, status(9, &[9]))], "member 9 of another cluster"),
            (vec![(a, alone)], "part of no cluster"),
        ] {
            let err = others(&own, answers).unwrap_err();
            assert!(err.contains(why), "{err}");
        }
    }
}
