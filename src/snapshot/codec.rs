//! How the payload of a chunk is stored: plain, compressed, encrypted, or both.
//!
//! A chunk is compressed first, where that makes it shorter, and then encrypted. Each stands for
//! itself, so that chunks can be worked on side by side and one that is damaged is found at once.
//!
//! Encryption is XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) with the caller's key. The nonce
//! is 16 random bytes of the file, which its header tells, and the number of the chunk; the
//! additional data are the hash of the header and the chunk's kind. So a chunk opens at its own
//! place, in its own file, under its own header, and nowhere else.
//!
//! The only room that names `zstd`, `chacha20poly1305` and `getrandom`.

use serde::{Deserialize, Serialize};

use super::error::SnapshotError;
use super::format::Header;
#[cfg(feature = "zstd")]
use crate::limits::CHUNK_BYTES_MAX;

/// What is stored beside a payload when it is encrypted.
pub(super) const SEAL_BYTES: usize = 16;

/// The key of an encrypted snapshot file: 32 bytes that the caller keeps.
///
/// The library stores it nowhere. Who has it can read every file that was encrypted with it, and
/// make files that open with it.
#[derive(Clone)]
pub struct EncryptionKey([u8; 32]);

impl EncryptionKey {
    /// The key of these bytes. They must be random: a password is not a key.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl std::fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EncryptionKey(..)")
    }
}

impl Drop for EncryptionKey {
    fn drop(&mut self) {
        self.0 = [0; 32];
        // So that the store is not left out.
        std::hint::black_box(&self.0);
    }
}

/// What the header says of encryption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EncryptionHeader {
    pub(super) cipher: String,
    /// 16 bytes, in hexadecimal digits.
    pub(super) salt: String,
}

/// The name of the one cipher there is.
pub(super) const CIPHER: &str = "XChaCha20-Poly1305";

/// The name of the one compression there is.
pub(super) const COMPRESSION: &str = "zstd";

/// Compresses `raw` at a level; `None` when it does not become shorter.
#[cfg(feature = "zstd")]
pub(super) fn compress(raw: &[u8], level: i32) -> Option<Vec<u8>> {
    let compressed = zstd::bulk::compress(raw, level).ok()?;
    (compressed.len() < raw.len()).then_some(compressed)
}

#[cfg(not(feature = "zstd"))]
pub(super) fn compress(_: &[u8], _: i32) -> Option<Vec<u8>> {
    None
}

/// Undoes [`compress`]: gives at most [`CHUNK_BYTES_MAX`] bytes, and allocates no more than so many
/// whatever the bytes say. `None` when they are not compressed bytes or would give more.
#[cfg(feature = "zstd")]
pub(super) fn decompress(stored: &[u8]) -> Option<Vec<u8>> {
    zstd::bulk::decompress(stored, CHUNK_BYTES_MAX).ok()
}

#[cfg(not(feature = "zstd"))]
pub(super) fn decompress(_: &[u8]) -> Option<Vec<u8>> {
    None
}

/// Refuses a file that needs what this build does not have.
pub(super) fn check_supported(header: &Header) -> Result<(), SnapshotError> {
    let unsupported = |what: &str| Err(SnapshotError::Unsupported { what: what.to_owned() });
    match &header.compression {
        Some(name) if name != COMPRESSION || !cfg!(feature = "zstd") => {
            return unsupported(&format!("compression {name}"));
        }
        _ => (),
    }
    match &header.encryption {
        Some(found) if found.cipher != CIPHER || !cfg!(feature = "encryption") => {
            unsupported(&format!("encryption {}", found.cipher))
        }
        _ => Ok(()),
    }
}

#[cfg(feature = "encryption")]
mod cipher {
    use chacha20poly1305::aead::{Aead, KeyInit, Payload};
    use chacha20poly1305::{XChaCha20Poly1305, XNonce};

    use super::{CIPHER, EncryptionHeader, EncryptionKey};
    use crate::snapshot::error::SnapshotError;

    /// Encrypts or opens the chunks of one file.
    pub(in crate::snapshot) struct Cipher {
        aead: XChaCha20Poly1305,
        salt: [u8; 16],
        /// The hash of the header.
        context: [u8; 32],
    }

    /// A new salt and what the header says of it.
    pub(in crate::snapshot) fn new_header() -> Result<EncryptionHeader, SnapshotError> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| SnapshotError::Io {
            offset: 0,
            source: std::io::Error::other(error.to_string()),
        })?;
        let salt = format!("{:032x}", u128::from_be_bytes(salt));
        Ok(EncryptionHeader { cipher: CIPHER.to_owned(), salt })
    }

    impl Cipher {
        /// `None` when the header's salt is none.
        pub(in crate::snapshot) fn new(
            key: &EncryptionKey,
            header: &EncryptionHeader,
            context: [u8; 32],
        ) -> Option<Self> {
            let is_salt = header.salt.len() == 32
                && header.salt.bytes().all(|digit| digit.is_ascii_hexdigit());
            let salt =
                u128::from_str_radix(&header.salt, 16).ok().filter(|_| is_salt)?.to_be_bytes();
            let aead = XChaCha20Poly1305::new(&key.0.into());
            Some(Self { aead, salt, context })
        }

        fn nonce(&self, number: u64) -> XNonce {
            let mut nonce = [0; 24];
            nonce[..16].copy_from_slice(&self.salt);
            nonce[16..].copy_from_slice(&number.to_le_bytes());
            nonce.into()
        }

        fn data(&self, kind: u8) -> [u8; 33] {
            let mut data = [kind; 33];
            data[..32].copy_from_slice(&self.context);
            data
        }

        pub(in crate::snapshot) fn seal(&self, number: u64, kind: u8, payload: &[u8]) -> Vec<u8> {
            let payload = Payload { msg: payload, aad: &self.data(kind) };
            let sealed = self.aead.encrypt(&self.nonce(number), payload);
            sealed.expect("a chunk is below the limit of the cipher")
        }

        pub(in crate::snapshot) fn open(
            &self,
            number: u64,
            kind: u8,
            stored: &[u8],
        ) -> Option<Vec<u8>> {
            let payload = Payload { msg: stored, aad: &self.data(kind) };
            self.aead.decrypt(&self.nonce(number), payload).ok()
        }
    }
}

#[cfg(not(feature = "encryption"))]
mod cipher {
    use super::{EncryptionHeader, EncryptionKey};
    use crate::snapshot::error::SnapshotError;

    /// A build without encryption has none of these.
    pub(in crate::snapshot) struct Cipher(Never);

    /// Behind a field, so that the callers' code is the same in every build.
    enum Never {}

    pub(in crate::snapshot) fn new_header() -> Result<EncryptionHeader, SnapshotError> {
        Err(SnapshotError::Unsupported { what: "encryption".to_owned() })
    }

    impl Cipher {
        pub(in crate::snapshot) fn new(
            _: &EncryptionKey,
            _: &EncryptionHeader,
            _: [u8; 32],
        ) -> Option<Self> {
            None
        }

        pub(in crate::snapshot) fn seal(&self, _: u64, _: u8, _: &[u8]) -> Vec<u8> {
            match self.0 {}
        }

        pub(in crate::snapshot) fn open(&self, _: u64, _: u8, _: &[u8]) -> Option<Vec<u8>> {
            match self.0 {}
        }
    }
}

pub(super) use cipher::{Cipher, new_header};
