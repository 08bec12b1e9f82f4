//! Blocks: bytes whose name proves them.

use bytes::Bytes;
use multihash_codetable::{Code, MultihashDigest};

/// The largest block, in bytes: what the network's own exchange carries.
pub(crate) const MAX_BLOCK_BYTES: usize = 2 << 20;
/// The longest content that a CID may hold itself, in bytes: the bound of Kubo and Helia.
const MAX_INLINE_BYTES: usize = 128;

/// The codec of bytes without structure.
pub(crate) const RAW: u64 = 0x55;
/// The codec of nodes with links.
pub(crate) const DAG_PB: u64 = 0x70;
/// The hash function that is none: the digest is the content.
const IDENTITY: u64 = 0x00;

/// The name of a block, with room for content of [`MAX_INLINE_BYTES`].
pub(crate) type Cid = cid::CidGeneric<MAX_INLINE_BYTES>;
/// The part of a name that proves the bytes.
pub(crate) type Hash = cid::multihash::Multihash<MAX_INLINE_BYTES>;

/// Why bytes are not the block they are said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BlockError {
    #[error("it is larger than {MAX_BLOCK_BYTES} bytes")]
    TooLarge,
    #[error("other bytes came than its hash names")]
    Different,
    #[error("its hash function 0x{0:x} is unknown to this build")]
    UnknownHash(u64),
}

/// Checks that `bytes` are what `cid` names.
pub(crate) fn verify(cid: &Cid, bytes: &[u8]) -> Result<(), BlockError> {
    if bytes.len() > MAX_BLOCK_BYTES {
        return Err(BlockError::TooLarge);
    }
    let hash = cid.hash();
    let same = match hash.code() {
        IDENTITY => hash.digest() == bytes,
        code => {
            let hasher = Code::try_from(code).map_err(|_| BlockError::UnknownHash(code))?;
            hasher.digest(bytes).digest() == hash.digest()
        }
    };
    if same { Ok(()) } else { Err(BlockError::Different) }
}

/// The content of a block whose name holds it.
pub(crate) fn inline(cid: &Cid) -> Option<Bytes> {
    (cid.hash().code() == IDENTITY).then(|| Bytes::copy_from_slice(cid.hash().digest()))
}

/// Whether this build may have given a block that name.
pub(crate) fn is_ours(cid: &Cid) -> bool {
    cid.hash().code() == u64::from(Code::Sha2_256)
}

/// The name that this build gives to a block: version 1, SHA-256.
pub(crate) fn cid_of(codec: u64, bytes: &[u8]) -> Cid {
    let digest = Code::Sha2_256.digest(bytes);
    let hash = Hash::wrap(digest.code(), digest.digest()).expect("a SHA-256 digest has room");
    Cid::new_v1(codec, hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_what_its_name_says_with_every_hash_function() {
        for code in [Code::Sha2_256, Code::Sha2_512, Code::Blake2b256, Code::Blake3_256] {
            let hash = code.digest(b"hello");
            let cid = Cid::new_v1(RAW, Hash::wrap(hash.code(), hash.digest()).unwrap());
            assert_eq!(verify(&cid, b"hello"), Ok(()), "{code:?}");
            assert_eq!(verify(&cid, b"hellO"), Err(BlockError::Different), "{code:?}");
        }
    }

    #[test]
    fn a_name_may_hold_its_content() {
        let cid: Cid = "bafkqablimvwgy3y".parse().unwrap();
        assert_eq!(inline(&cid).unwrap(), "hello");
        assert_eq!(verify(&cid, b"hello"), Ok(()));
        assert_eq!(verify(&cid, b"other"), Err(BlockError::Different));
        let long = Hash::wrap(IDENTITY, &[7; MAX_INLINE_BYTES]).unwrap();
        let text = Cid::new_v1(RAW, long).to_string();
        assert_eq!(inline(&text.parse().unwrap()).unwrap(), [7; MAX_INLINE_BYTES].as_slice());
    }

    #[test]
    fn unknown_hashes_and_large_blocks_are_refused() {
        let sha1 = Cid::new_v1(RAW, Hash::wrap(0x11, &[0; 20]).unwrap());
        assert_eq!(verify(&sha1, b""), Err(BlockError::UnknownHash(0x11)));
        let large = vec![0; MAX_BLOCK_BYTES + 1];
        let cid = cid_of(RAW, &large);
        assert_eq!(verify(&cid, &large), Err(BlockError::TooLarge));
        // A short digest names many contents.
        let digest = Code::Sha2_256.digest(b"hello");
        let short = Cid::new_v1(RAW, Hash::wrap(0x12, &digest.digest()[..8]).unwrap());
        assert_eq!(verify(&short, b"hello"), Err(BlockError::Different));
    }
}
