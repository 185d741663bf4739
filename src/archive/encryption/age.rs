//! Files as the tool `age` writes and reads them (<https://age-encryption.org/v1>), for X25519 keys.
//!
//! The format alone is written out here, on the primitives that TLS uses here anyway (`ring`). The crate
//! `age` brings message catalogues, passphrases and post-quantum keys with it, some sixty crates, and asks
//! crates that the storage engine is built with for other features. The test vectors of the format's
//! authors are in the tests.
//!
//! Invariants: nothing is returned of a file whose header or chunk does not authenticate, or that ends
//! early, or after which something follows; secret keys are cleared from memory when they are dropped,
//! and are in no error and no Debug.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use x25519_dalek::{PublicKey, StaticSecret};

/// The first line of a file.
const VERSION: &str = "age-encryption.org/v1\n";
/// Prefix of a recipient's line in the header.
const STANZA: &str = "-> ";
/// Prefix of the last line of a header.
const MAC: &str = "---";
/// Characters of a full line of a stanza's body.
const LINE_CHARS: usize = 64;
/// More bytes no header has that is read: some thousand recipients.
const HEADER_BYTES_MAX: usize = 256 << 10;
/// Bytes of the key that a file is encrypted with.
const FILE_KEY_BYTES: usize = 16;
/// Bytes of the nonce after the header.
const NONCE_BYTES: usize = 16;
/// Bytes of one chunk, and of what authenticates it.
const CHUNK_BYTES: usize = 64 << 10;
const TAG_BYTES: usize = 16;
/// Bech32 prefixes of public and secret keys.
const PUBLIC: &str = "age";
const SECRET: &str = "age-secret-key-";

/// Bytes that a file for one recipient has before its first chunk, if it was written here.
pub const OVERHEAD_BYTES: usize = 200 + NONCE_BYTES;

/// Bytes of such a file that hold its first `plain` bytes, in whole chunks.
pub fn bytes_of_prefix(plain: usize) -> usize {
    OVERHEAD_BYTES + plain.div_ceil(CHUNK_BYTES) * (CHUNK_BYTES + TAG_BYTES)
}

/// Why a file was not decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is for none of these identities.
    NoMatch,
    /// It is damaged, or no such file.
    Damaged(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoMatch => "it is encrypted for another key",
            Self::Damaged(why) => why,
        })
    }
}

/// A public key: `age1…`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Recipient(PublicKey);

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = bech32::encode::<Bech32>(Hrp::parse_unchecked(PUBLIC), self.0.as_bytes());
        f.write_str(&text.map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Recipient {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            return Err("it is a secret key; give the public one (age-keygen -y FILE)");
        }
        let bytes = decode(text, PUBLIC).filter(|_| !text.contains(|c: char| c.is_uppercase()));
        let refuse = "it is no public key of age (age1 and 58 more characters, X25519)";
        Ok(Self(PublicKey::from(bytes.ok_or(refuse)?)))
    }
}

/// A secret key: `AGE-SECRET-KEY-1…`.
pub struct Identity {
    secret: StaticSecret,
    recipient: Recipient,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.recipient)
    }
}

impl Identity {
    fn new(secret: StaticSecret) -> Self {
        let recipient = Recipient(PublicKey::from(&secret));
        Self { secret, recipient }
    }

    /// A new one.
    pub fn generate() -> Result<Self, Fault> {
        Ok(Self::new(StaticSecret::from(random::<32>()?)))
    }

    /// The public half.
    pub fn recipient(&self) -> Recipient {
        self.recipient
    }

    /// As `age-keygen` writes it.
    pub fn to_text(&self) -> Result<SecretString, Fault> {
        let hrp = Hrp::parse_unchecked(SECRET);
        let text = bech32::encode_upper::<Bech32>(hrp, self.secret.as_bytes());
        let text = text.map_err(|_| Fault::Damaged("the key cannot be written"))?;
        Ok(SecretString::from(text))
    }
}

impl FromStr for Identity {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = decode(text, SECRET).filter(|_| !text.contains(|c: char| c.is_lowercase()));
        let refuse = "it is no secret key of age (AGE-SECRET-KEY-1 and 58 more characters, X25519)";
        Ok(Self::new(StaticSecret::from(bytes.ok_or(refuse)?)))
    }
}

fn decode(text: &str, hrp: &str) -> Option<[u8; 32]> {
    let decoded = CheckedHrpstring::new::<Bech32>(text).ok()?;
    let is_kind = decoded.hrp().as_str().eq_ignore_ascii_case(hrp);
    let bytes: Vec<u8> = decoded.byte_iter().collect();
    is_kind.then_some(bytes)?.try_into().ok()
}

fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Fault::Damaged("the system gives no random bytes"))?;
    Ok(bytes)
}

/// Length of a derived key.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-SHA-256.
fn derive(key: &[u8], salt: &[u8], info: &str) -> Result<[u8; 32], Fault> {
    let mut derived = [0; 32];
    let salt = Salt::new(HKDF_SHA256, salt).extract(key);
    salt.expand(&[info.as_bytes()], Length(derived.len()))
        .and_then(|okm| okm.fill(&mut derived))
        .map_err(|_| CRYPTO)?;
    Ok(derived)
}

/// Fault for `ring`'s errors, which it does not return for the lengths used here.
const CRYPTO: Fault = Fault::Damaged("a key cannot be derived");

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, Fault> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| CRYPTO)?;
    Ok(LessSafeKey::new(key))
}

/// The key that wraps the key of a file, from what two X25519 keys share.
fn wrap_key(
    shared: &x25519_dalek::SharedSecret,
    salt: [&[u8; 32]; 2],
) -> Result<LessSafeKey, Fault> {
    if !shared.was_contributory() {
        return Err(Fault::Damaged("a key in its header is none"));
    }
    let key = derive(
        shared.as_bytes(),
        &salt.map(<[u8; 32]>::as_slice).concat(),
        "age-encryption.org/v1/X25519",
    )?;
    cipher(&key)
}

/// The number of a chunk, and whether it is the last, as its nonce.
fn nonce_of(number: u64, is_last: bool) -> Nonce {
    let mut nonce = [0; 12];
    for (to, from) in nonce.iter_mut().skip(3).zip(number.to_be_bytes()) {
        *to = from;
    }
    if let Some(last) = nonce.last_mut() {
        *last = u8::from(is_last);
    }
    Nonce::assume_unique_for_key(nonce)
}

/// Encrypts `plain` for `recipients`, of whom there must be one. `out` is replaced.
pub fn encrypt(plain: &[u8], recipients: &[Recipient], out: &mut Vec<u8>) -> Result<(), Fault> {
    if recipients.is_empty() {
        return Err(Fault::Damaged("there is nobody to encrypt it for"));
    }
    let file_key = random::<FILE_KEY_BYTES>()?;
    let mut header = VERSION.to_owned();
    for recipient in recipients {
        let ephemeral = StaticSecret::from(random::<32>()?);
        let share = PublicKey::from(&ephemeral);
        let shared = ephemeral.diffie_hellman(&recipient.0);
        let key = wrap_key(&shared, [share.as_bytes(), recipient.0.as_bytes()])?;
        let mut body = file_key.to_vec();
        key.seal_in_place_append_tag(nonce_of(0, false), Aad::empty(), &mut body)
            .map_err(|_| CRYPTO)?;
        let (share, body) = (
            STANDARD_NO_PAD.encode(share.as_bytes()),
            STANDARD_NO_PAD.encode(&body),
        );
        header += &format!("{STANZA}X25519 {share}\n{body}\n");
    }
    header += MAC;
    let mac = hmac::sign(&mac_key(&file_key)?, header.as_bytes());
    header += &format!(" {}\n", STANDARD_NO_PAD.encode(mac.as_ref()));
    let nonce = random::<NONCE_BYTES>()?;
    let key = cipher(&derive(&file_key, &nonce, "payload")?)?;
    out.clear();
    let chunks = plain.len().div_ceil(CHUNK_BYTES).max(1);
    out.reserve(header.len() + NONCE_BYTES + plain.len() + chunks * TAG_BYTES);
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&nonce);
    // An empty file has one chunk, which is empty.
    let mut rest = plain;
    for number in 0..chunks {
        let (chunk, after) = rest.split_at(rest.len().min(CHUNK_BYTES));
        rest = after;
        let start = out.len();
        out.extend_from_slice(chunk);
        let nonce = nonce_of(number as u64, number + 1 == chunks);
        let chunk = out.get_mut(start..).unwrap_or_default();
        let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), chunk);
        out.extend_from_slice(tag.map_err(|_| CRYPTO)?.as_ref());
    }
    Ok(())
}

fn mac_key(file_key: &[u8; FILE_KEY_BYTES]) -> Result<hmac::Key, Fault> {
    Ok(hmac::Key::new(
        hmac::HMAC_SHA256,
        &derive(file_key, &[], "header")?,
    ))
}

/// Decrypts a whole file. `out` is replaced.
pub fn decrypt(bytes: &[u8], identities: &[&Identity], out: &mut Vec<u8>) -> Result<(), Fault> {
    let (key, mut rest) = payload(bytes, identities)?;
    out.clear();
    out.reserve(rest.len());
    let mut number = 0;
    loop {
        let (chunk, after) = rest.split_at(rest.len().min(CHUNK_BYTES + TAG_BYTES));
        let is_last = after.is_empty();
        open_chunk(&key, chunk, number, is_last, out)?;
        if is_last {
            // The last chunk is empty only where it is the only one.
            return match number > 0 && chunk.len() <= TAG_BYTES {
                true => Err(Fault::Damaged("its last chunk is empty")),
                false => Ok(()),
            };
        }
        rest = after;
        number += 1;
    }
}

/// Decrypts the first chunks of a file whose beginning is `bytes`, until there are `plain` bytes: whole
/// chunks, of which none is the last. `out` is replaced.
pub fn decrypt_prefix(
    bytes: &[u8],
    identity: &Identity,
    plain: usize,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let (key, rest) = payload(bytes, &[identity])?;
    out.clear();
    let (chunks, _) = rest.as_chunks::<{ CHUNK_BYTES + TAG_BYTES }>();
    for (number, chunk) in (0..).zip(chunks) {
        if out.len() >= plain {
            break;
        }
        open_chunk(&key, chunk, number, false, out)?;
    }
    match out.len() >= plain {
        true => Ok(()),
        false => Err(Fault::Damaged("it ends early")),
    }
}

/// Adds one decrypted chunk to `out`.
fn open_chunk(
    key: &LessSafeKey,
    chunk: &[u8],
    number: u64,
    is_last: bool,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let start = out.len();
    out.extend_from_slice(chunk);
    let (nonce, room) = (nonce_of(number, is_last), out.get_mut(start..));
    let opened = key.open_in_place(nonce, Aad::empty(), room.unwrap_or_default());
    match opened.map(|opened| opened.len()) {
        Ok(opened) => out.truncate(start + opened),
        Err(_) => {
            out.truncate(start);
            return Err(Fault::Damaged("a part of it does not decrypt"));
        }
    }
    Ok(())
}

/// The key of the payload, and the payload after its nonce.
fn payload<'b>(
    bytes: &'b [u8],
    identities: &[&Identity],
) -> Result<(LessSafeKey, &'b [u8]), Fault> {
    let header = Header::parse(bytes)?;
    let file_key = header.file_key(identities)?;
    hmac::verify(&mac_key(&file_key)?, header.covered, &header.mac)
        .map_err(|_| Fault::Damaged("its header was altered"))?;
    let (nonce, rest) = header
        .rest
        .split_at_checked(NONCE_BYTES)
        .ok_or(Fault::Damaged("it ends early"))?;
    Ok((cipher(&derive(&file_key, nonce, "payload")?)?, rest))
}

/// The header of a file.
struct Header<'b> {
    stanzas: Vec<Stanza<'b>>,
    /// Bytes of the header that the MAC covers.
    covered: &'b [u8],
    mac: Vec<u8>,
    rest: &'b [u8],
}

/// The key of a file, wrapped for one recipient.
struct Stanza<'b> {
    args: Vec<&'b str>,
    body: Vec<u8>,
}

impl<'b> Header<'b> {
    fn parse(bytes: &'b [u8]) -> Result<Self, Fault> {
        let mut lines = Lines { bytes, at: 0 };
        if lines.next()? != VERSION.trim_end() {
            return Err(Fault::Damaged("it is not a file of age, version 1"));
        }
        let mut stanzas = Vec::new();
        loop {
            let start = lines.at;
            let line = lines.next()?;
            if let Some(mac) = line.strip_prefix(MAC) {
                let mac = mac
                    .strip_prefix(' ')
                    .and_then(base64)
                    .filter(|it| it.len() == 32);
                let mac = mac.ok_or(Fault::Damaged("its header has no end"))?;
                let covered = bytes.get(..start + MAC.len()).unwrap_or_default();
                let rest = bytes.get(lines.at..).unwrap_or_default();
                // A passphrase's stanza stands alone.
                let is_phrase = |stanza: &Stanza<'_>| stanza.args.first() == Some(&"scrypt");
                return match stanzas.is_empty()
                    || (stanzas.len() > 1 && stanzas.iter().any(is_phrase))
                {
                    true => Err(Fault::Damaged("its header is for nobody, or wrong")),
                    false => Ok(Self {
                        stanzas,
                        covered,
                        mac,
                        rest,
                    }),
                };
            }
            stanzas.push(Stanza::parse(line, &mut lines)?);
        }
    }

    /// The key of the file, by the first of `identities` that it is for.
    fn file_key(&self, identities: &[&Identity]) -> Result<[u8; FILE_KEY_BYTES], Fault> {
        for stanza in &self.stanzas {
            let [kind @ "X25519", args @ ..] = stanza.args.as_slice() else {
                continue;
            };
            let wrong = Fault::Damaged("a recipient in its header is wrong");
            let [share] = args else {
                return Err(wrong);
            };
            debug_assert_eq!(*kind, "X25519");
            let share: [u8; 32] = base64(share)
                .and_then(|share| share.try_into().ok())
                .ok_or(wrong)?;
            if stanza.body.len() != FILE_KEY_BYTES + TAG_BYTES {
                return Err(wrong);
            }
            for identity in identities {
                let shared = identity.secret.diffie_hellman(&PublicKey::from(share));
                let key = wrap_key(&shared, [&share, identity.recipient.0.as_bytes()])?;
                let mut body = stanza.body.clone();
                let opened = key.open_in_place(nonce_of(0, false), Aad::empty(), &mut body);
                if let Some(file_key) = opened.ok().and_then(|it| (&*it).try_into().ok()) {
                    return Ok(file_key);
                }
            }
        }
        Err(Fault::NoMatch)
    }
}

impl<'b> Stanza<'b> {
    fn parse(line: &'b str, lines: &mut Lines<'b>) -> Result<Self, Fault> {
        let wrong = Fault::Damaged("a recipient in its header is wrong");
        let args = line.strip_prefix(STANZA).ok_or(wrong)?;
        let args: Vec<&str> = args.split(' ').collect();
        let is_arg =
            |arg: &&str| !arg.is_empty() && arg.bytes().all(|byte| byte.is_ascii_graphic());
        if !args.iter().all(is_arg) {
            return Err(wrong);
        }
        let mut body = Vec::new();
        loop {
            let line = lines.next()?;
            body.extend(base64(line).ok_or(wrong)?);
            match line.len() {
                LINE_CHARS => {}
                0..LINE_CHARS => return Ok(Self { args, body }),
                _ => return Err(wrong),
            }
        }
    }
}

/// The lines of a header.
struct Lines<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Lines<'b> {
    /// The next line, which must end.
    fn next(&mut self) -> Result<&'b str, Fault> {
        let wrong = Fault::Damaged("its header has no end");
        let rest = self
            .bytes
            .get(self.at..HEADER_BYTES_MAX.min(self.bytes.len()));
        let rest = rest.ok_or(wrong)?;
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or(wrong)?;
        self.at += end + 1;
        let line = rest.get(..end).unwrap_or_default();
        std::str::from_utf8(line).map_err(|_| wrong)
    }
}

/// Base64 without padding, and of one form only.
fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text).ok()
}

/// Text that was decrypted, as a secret.
pub fn secret_text(bytes: Vec<u8>) -> Option<SecretString> {
    String::from_utf8(bytes).ok().map(SecretString::from)
}

/// The identity in a decrypted text.
pub fn identity_in(text: &SecretString) -> Result<Identity, &'static str> {
    text.expose_secret().trim().parse()
}

#[cfg(test)]
mod tests;
