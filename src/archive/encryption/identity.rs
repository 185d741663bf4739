//! Where the secret key of an encrypted archive is: in a file, or printed by a command.
//!
//! Invariants: a secret key is read when an archive is encrypted and never otherwise, and goes nowhere
//! else, not into errors, not into Debug, not into requests, which say only where it is.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::age::Identity;
use crate::base::error::{Error, Result};
use crate::server::KEY_VARIABLE;

/// Largest file of keys, and largest output of a command, in bytes.
const BYTES_MAX: u64 = 64 << 10;

/// Sources of the key of an encrypted archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct IdentityOptions {
    /// Open an encrypted archive with the secret key in this file (an age identity, as `age-keygen`
    /// makes it)
    #[arg(long, value_name = "FILE", env = "SNAPMERGE_IDENTITY_FILE")]
    pub identity: Option<PathBuf>,
    /// The same with the secret key that this command prints, as 'pass show backups'; the shell runs it
    #[arg(long, value_name = "COMMAND", env = "SNAPMERGE_IDENTITY_COMMAND")]
    pub identity_command: Option<String>,
}

impl IdentityOptions {
    /// The keys, and what they came from, one origin after the other: who needs no more asks no further.
    pub(super) fn origins(&self) -> impl Iterator<Item = Result<(String, Vec<Identity>)>> + '_ {
        let file = self.identity.as_ref().map(|path| {
            let from = path.display().to_string();
            let doing = format!("reading key {from}");
            let opened = std::fs::File::open(path);
            let file = opened.map_err(|err| Error::io("reading key", path, &err))?;
            Ok((from, identities(&doing, &read(file, &doing)?)?))
        });
        // A closure, so that the command is run only where it is asked for.
        let command = self.identity_command.iter().map(|command| {
            let from = "the key's command".to_owned();
            let doing = "reading the key from its command".to_owned();
            Ok((from, identities(&doing, &output(command, &doing)?)?))
        });
        file.into_iter().chain(command)
    }

    /// Returns true if a key was given.
    pub fn is_given(&self) -> bool {
        self.identity.is_some() || self.identity_command.is_some()
    }
}

/// Standard output of a command. It may ask for a passphrase, so it has the terminal if there is one, and never what
/// this process reads: of a worker that is the request. Keys of servers are not its business.
fn output(command: &str, doing: &str) -> Result<SecretString> {
    let failed = |why: &dyn std::fmt::Display| {
        Error::failed(doing, why)
            .next("run it by hand: it must print AGE-SECRET-KEY-1… and end with 0")
    };
    let terminal = std::fs::File::open("/dev/tty");
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(terminal.map_or_else(|_| Stdio::null(), Stdio::from))
        .env_remove(KEY_VARIABLE)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|err| failed(&err))?;
    let text = child.stdout.take().map(|stdout| read(stdout, doing));
    let status = child.wait().map_err(|err| failed(&err))?;
    if !status.success() {
        return Err(failed(&format!("it ended with {status}")));
    }
    text.unwrap_or_else(|| Err(failed(&"it has no output")))
}

fn read(from: impl Read, doing: &str) -> Result<SecretString> {
    let mut text = String::new();
    let read = from.take(BYTES_MAX).read_to_string(&mut text);
    let text = SecretString::from(text);
    read.map_err(|err| Error::failed(doing, err))?;
    Ok(text)
}

/// The keys in a text as `age-keygen` writes it: one a line, beside comments.
fn identities(doing: &str, text: &SecretString) -> Result<Vec<Identity>> {
    let refuse = |why: &str| {
        Err(Error::usage(doing, why).next(
            "give a file as `age-keygen -o FILE` makes it; of one that has a passphrase the key is \
             read by --identity-command 'age -d FILE'",
        ))
    };
    let text = text.expose_secret();
    if text.starts_with("age-encryption.org") || text.starts_with("-----BEGIN AGE ENCRYPTED FILE") {
        return refuse("it is itself encrypted");
    }
    let mut identities = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.parse() {
            Ok(identity) => identities.push(identity),
            // The line is not shown.
            Err(why) => return refuse(why),
        }
    }
    match identities.is_empty() {
        true => refuse("there is no key in it"),
        false => Ok(identities),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;

    const KEY: &str = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0";

    fn read(options: &IdentityOptions) -> Result<Vec<usize>> {
        let count = |origin: Result<(String, Vec<Identity>)>| Ok(origin?.1.len());
        options.origins().map(count).collect()
    }

    #[test]
    fn keys_come_from_a_file_or_a_command_and_no_error_shows_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.txt");
        let of_file = IdentityOptions {
            identity: Some(path.clone()),
            ..IdentityOptions::default()
        };
        let of_command = |command: String| IdentityOptions {
            identity_command: Some(command),
            ..IdentityOptions::default()
        };
        let cat = of_command(format!("cat '{}'", path.display()));
        std::fs::write(&path, format!("# created: today\n\n{KEY}\r\n{KEY}\n")).unwrap();
        assert_eq!(read(&of_file).unwrap(), [2]);
        assert_eq!(read(&cat).unwrap(), [2]);
        assert_eq!(read(&IdentityOptions::default()).unwrap(), [0; 0]);
        for wrong in [
            "",
            "# none\n",
            &KEY[..60],
            "age-encryption.org/v1\nx",
            &KEY.to_lowercase(),
        ] {
            std::fs::write(&path, wrong).unwrap();
            for options in [&of_file, &cat] {
                let err = read(options).unwrap_err();
                assert_eq!(err.kind(), Kind::Usage, "{wrong}");
                assert!(!err.to_string().contains("1EGTZ"), "{err}");
            }
        }
        let err = read(&of_command(format!("echo {KEY}; exit 3"))).unwrap_err();
        assert!(err.to_string().contains("exit status: 3"), "{err}");
        assert!(!err.to_string().contains(KEY), "{err}");
    }
}
