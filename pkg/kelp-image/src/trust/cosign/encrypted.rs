//! A private key under a passphrase, in the form that cosign has from The Update Framework: JSON with
//! the parameters of scrypt, and a NaCl secret box.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::Aead;
use crypto_secretbox::{Key, KeyInit, Nonce, XSalsa20Poly1305};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::Error;

/// What cosign writes: 32 MiB and a tenth of a second.
const N: u64 = 32768;
const R: u32 = 8;
const P: u32 = 1;

/// The most memory that a key file may have scrypt take.
const MEMORY_LIMIT: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// Decrypts a key.
pub(super) fn open(sealed: &[u8], passphrase: &str) -> Result<Vec<u8>, Error> {
    let sealed: Sealed =
        serde_json::from_slice(sealed).map_err(Error::json("read the private key"))?;
    if sealed.kdf.name != "scrypt" || sealed.cipher.name != "nacl/secretbox" {
        return Err(Error::Invalid(format!(
            "the private key is encrypted by {} and {}, which is not supported",
            sealed.kdf.name, sealed.cipher.name
        )));
    }
    let key = derive(&sealed.kdf.params, &bytes(&sealed.kdf.salt)?, passphrase)?;
    let nonce: [u8; 24] = bytes(&sealed.cipher.nonce)?
        .try_into()
        .map_err(|_| invalid("the nonce has not 24 bytes"))?;
    XSalsa20Poly1305::new(&key)
        .decrypt(&Nonce::from(nonce), bytes(&sealed.ciphertext)?.as_slice())
        .map_err(|_| Error::Invalid("the passphrase of the private key is wrong".to_owned()))
}

/// Encrypts a key.
pub(super) fn seal(key: &[u8], passphrase: &str) -> Result<Vec<u8>, Error> {
    let (salt, nonce) = (random::<32>()?, random::<24>()?);
    let params = Params { n: N, r: R, p: P };
    let box_key = derive(&params, &salt, passphrase)?;
    let ciphertext = XSalsa20Poly1305::new(&box_key)
        .encrypt(&Nonce::from(nonce), key)
        .map_err(|_| invalid("it can't be encrypted"))?;
    let sealed = Sealed {
        kdf: Kdf {
            name: "scrypt".to_owned(),
            params,
            salt: STANDARD.encode(salt),
        },
        cipher: Cipher {
            name: "nacl/secretbox".to_owned(),
            nonce: STANDARD.encode(nonce),
        },
        ciphertext: STANDARD.encode(ciphertext),
    };
    serde_json::to_vec(&sealed).map_err(Error::json("write the private key"))
}

fn derive(params: &Params, salt: &[u8], passphrase: &str) -> Result<Key, Error> {
    let blocks = u128::from(params.n) + u128::from(params.p);
    let memory = blocks * u128::from(params.r) * 128;
    if !params.n.is_power_of_two() || memory > u128::from(MEMORY_LIMIT) || params.p > 16 {
        return Err(invalid("its parameters of scrypt are out of bounds"));
    }
    let log_n = params.n.trailing_zeros() as u8;
    let scrypt = scrypt::Params::new(log_n, params.r, params.p)
        .map_err(|error| invalid(&format!("scrypt: {error}")))?;
    let mut key = [0; 32];
    scrypt::scrypt(passphrase.as_bytes(), salt, &scrypt, &mut key)
        .map_err(|error| invalid(&format!("scrypt: {error}")))?;
    Ok(Key::from(key))
}

fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], Error> {
    let mut bytes = [0; LENGTH];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| invalid("no random bytes are to be had"))?;
    Ok(bytes)
}

fn bytes(text: &str) -> Result<Vec<u8>, Error> {
    STANDARD
        .decode(text)
        .map_err(|error| invalid(&format!("base64: {error}")))
}

fn invalid(reason: &str) -> Error {
    Error::Invalid(format!("the private key: {reason}"))
}
