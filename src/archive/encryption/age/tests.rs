//! The format of age: the test vectors of its authors, round trips, and what is altered.

use std::io::Read as _;

use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::*;

/// A test vector of the format's authors: <https://github.com/C2SP/CCTV/tree/main/age>, which may be used
/// without conditions (0BSD). Those of at most 1 KiB that are neither armored nor of a passphrase.
#[derive(Deserialize)]
struct Vector {
    name: String,
    expect: String,
    payload: Option<String>,
    identities: Vec<String>,
    zlib: bool,
    age: String,
}

#[test]
fn the_test_vectors_of_the_format_end_as_they_must() {
    let mut count = 0;
    for line in include_str!("testkit.jsonl").lines() {
        let vector: Vector = serde_json::from_str(line).unwrap();
        let mut file = STANDARD.decode(&vector.age).unwrap();
        if vector.zlib {
            let packed = std::mem::take(&mut file);
            let mut unpacked = flate2::read::ZlibDecoder::new(packed.as_slice());
            unpacked.read_to_end(&mut file).unwrap();
        }
        let identities: Vec<Identity> = vector
            .identities
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let mut plain = Vec::new();
        let done = decrypt(&file, &identities.iter().collect::<Vec<_>>(), &mut plain);
        let name = &vector.name;
        match vector.expect.as_str() {
            "success" => {
                assert_eq!(done, Ok(()), "{name}");
                let hash = hex::encode(Sha256::digest(&plain));
                assert_eq!(Some(hash), vector.payload, "{name}");
            }
            "no match" => assert_eq!(done, Err(Fault::NoMatch), "{name}"),
            _ => assert!(matches!(done, Err(Fault::Damaged(_))), "{name}: {done:?}"),
        }
        count += 1;
    }
    assert!(count > 60, "{count}");
}

#[test]
fn what_is_encrypted_is_decrypted_by_each_of_its_recipients_and_nobody_else() {
    let [first, second, other] = [(); 3].map(|()| Identity::generate().unwrap());
    let recipients = [first.recipient(), second.recipient()];
    let (mut sealed, mut plain) = (Vec::new(), Vec::new());
    for bytes in [
        0,
        1,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        3 * CHUNK_BYTES,
    ] {
        let content: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
        encrypt(&content, &recipients, &mut sealed).unwrap();
        for identity in [&first, &second] {
            decrypt(&sealed, &[&other, identity], &mut plain).unwrap();
            assert!(plain == content, "{bytes} bytes");
        }
        assert_eq!(decrypt(&sealed, &[&other], &mut plain), Err(Fault::NoMatch));
        // The beginning, from no more than is said to be needed of a file for one.
        encrypt(&content, &[first.recipient()], &mut sealed).unwrap();
        assert!(sealed.len() <= bytes_of_prefix(bytes.max(1)));
        let want = bytes.min(2 * CHUNK_BYTES);
        if want < bytes {
            let head = sealed.get(..bytes_of_prefix(want)).unwrap_or(&sealed);
            decrypt_prefix(head, &first, want, &mut plain).unwrap();
            assert!(plain.len() >= want && content.starts_with(&plain));
        }
        for cut in [
            0,
            1,
            21,
            100,
            sealed.len() - 1,
            sealed.len().saturating_sub(CHUNK_BYTES),
        ] {
            assert!(decrypt(&sealed[..cut], &[&first], &mut plain).is_err());
        }
        sealed.push(0);
        assert!(decrypt(&sealed, &[&first], &mut plain).is_err());
    }
    assert!(encrypt(b"", &[], &mut sealed).is_err());
}

#[test]
fn every_flipped_bit_is_seen() {
    let identity = Identity::generate().unwrap();
    let (mut sealed, mut plain) = (Vec::new(), Vec::new());
    encrypt(&[7; 300], &[identity.recipient()], &mut sealed).unwrap();
    for at in 0..sealed.len() * 8 {
        let mut bytes = sealed.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        assert!(decrypt(&bytes, &[&identity], &mut plain).is_err(), "{at}");
    }
}

#[test]
fn keys_are_written_as_age_writes_them() {
    // The key of the test vectors.
    let secret = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0";
    let identity: Identity = secret.parse().unwrap();
    assert_eq!(identity.to_text().unwrap().expose_secret(), secret);
    let public = identity.recipient().to_string();
    assert!(public.starts_with("age1") && public.len() == 62, "{public}");
    assert_eq!(public.parse(), Ok(identity.recipient()));
    assert!(!format!("{identity:?}").contains("SECRET"));
    for wrong in [
        "",
        "age1",
        secret,
        &public[1..],
        &public.to_uppercase(),
        &format!("{public}q"),
    ] {
        assert!(wrong.parse::<Recipient>().is_err(), "{wrong}");
    }
    for wrong in ["", public.as_str(), &secret.to_lowercase(), &secret[..70]] {
        assert!(wrong.parse::<Identity>().is_err(), "{wrong}");
    }
}
