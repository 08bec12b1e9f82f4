//! CAR archives, version 1: a header, then blocks with their names.
//!
//! Read and written here, because the format is four numbers and the crates that have it follow older libraries.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::block::{Cid, MAX_BLOCK_BYTES};

/// The largest header, in bytes: it lists roots, and everybody sends one.
const MAX_HEADER_BYTES: u64 = 64 << 10;
/// The largest name of a block with its numbers, in bytes.
const MAX_CID_BYTES: u64 = 256;
/// What a header of version 1 has in it: a text of seven letters, then the number 1.
const VERSION_1: &[u8] = b"gversion\x01";

/// Why there is no next block.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CarError {
    #[error("the archive is malformed: {0}")]
    Malformed(&'static str),
    #[error("the archive broke off: {0}")]
    Broken(#[from] io::Error),
}

/// Reads blocks, one by one. They are not verified here.
#[derive(Debug)]
pub(crate) struct CarReader<R> {
    reader: R,
    begun: bool,
}

impl<R: AsyncRead + Unpin> CarReader<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, begun: false }
    }

    /// The next block, or none at the end. Not to be called again after an error.
    pub(crate) async fn next(&mut self) -> Result<Option<(Cid, Bytes)>, CarError> {
        if !self.begun {
            self.header().await?;
            self.begun = true;
        }
        let Some(length) = self.number().await? else { return Ok(None) };
        if length > MAX_BLOCK_BYTES as u64 + MAX_CID_BYTES {
            return Err(CarError::Malformed("a block is larger than 2 MiB"));
        }
        let section = self.bytes(length).await?;
        let mut rest = &section[..];
        let cid = Cid::read_bytes(&mut rest).map_err(|_| CarError::Malformed("a block has no CID"))?;
        Ok(Some((cid, section.slice_ref(rest))))
    }

    async fn header(&mut self) -> Result<(), CarError> {
        let length = self.number().await?.ok_or(CarError::Malformed("it is empty"))?;
        if length > MAX_HEADER_BYTES {
            return Err(CarError::Malformed("its header is too large"));
        }
        let header = self.bytes(length).await?;
        match header.windows(VERSION_1.len()).any(|window| window == VERSION_1) {
            true => Ok(()),
            false => Err(CarError::Malformed("it is not of version 1")),
        }
    }

    /// A number of seven bits a byte, the lowest first; none if there is nothing more.
    async fn number(&mut self) -> Result<Option<u64>, CarError> {
        let mut number = 0;
        for shift in (0..u64::BITS - 7).step_by(7) {
            let byte = match self.reader.read_u8().await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && shift == 0 => return Ok(None),
                byte => byte?,
            };
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(Some(number));
            }
        }
        Err(CarError::Malformed("a length is too long"))
    }

    /// So many bytes, which the caller has bounded.
    async fn bytes(&mut self, length: u64) -> Result<Bytes, CarError> {
        let mut bytes = Vec::new();
        (&mut self.reader).take(length).read_to_end(&mut bytes).await?;
        if (bytes.len() as u64) < length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(bytes.into())
    }
}

/// The beginning of an archive with one root.
pub(crate) fn header(root: &Cid) -> Bytes {
    let root = root.to_bytes();
    // CBOR: a map of two; "roots", a list of one, a link (tag 42) in bytes that begin with zero; "version", 1.
    let mut header = b"\xa2eroots\x81\xd8\x2a\x58".to_vec();
    header.push(u8::try_from(root.len() + 1).expect("our names have 36 bytes"));
    header.push(0);
    header.extend(root);
    header.extend(VERSION_1);
    prefixed(&[&header])
}

/// A block as it stands in an archive.
pub(crate) fn section(cid: &Cid, block: &[u8]) -> Bytes {
    prefixed(&[&cid.to_bytes(), block])
}

/// `parts` behind their length.
fn prefixed(parts: &[&[u8]]) -> Bytes {
    let low = |number: usize| number.to_le_bytes()[0];
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(length + 4);
    while length >= 0x80 {
        bytes.push(low(length) | 0x80);
        length >>= 7;
    }
    bytes.push(low(length));
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipfs::{RAW, cid_of};

    fn archive(blocks: &[&[u8]]) -> Vec<u8> {
        let mut archive = header(&cid_of(RAW, blocks[0])).to_vec();
        blocks.iter().for_each(|block| archive.extend(section(&cid_of(RAW, block), block)));
        archive
    }

    fn read(archive: &[u8]) -> Result<Vec<(Cid, Bytes)>, CarError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut reader, mut blocks) = (CarReader::new(archive), Vec::new());
            while let Some(block) = reader.next().await? {
                blocks.push(block);
            }
            Ok(blocks)
        })
    }

    #[test]
    fn what_is_written_is_read() {
        let large = vec![7; 100_000];
        let blocks = read(&archive(&[b"one", b"", &large])).unwrap();
        let expected = [&b"one"[..], b"", &large].map(|block| (cid_of(RAW, block), Bytes::copy_from_slice(block)));
        assert_eq!(blocks, expected);
    }

    #[test]
    fn an_archive_that_breaks_off_is_told_from_one_that_ends() {
        let whole = archive(&[b"one", b"two"]);
        let second = whole.len() - section(&cid_of(RAW, b"two"), b"two").len();
        for length in 1..whole.len() {
            let result = read(&whole[..length]);
            let ends = length == second || length == header(&cid_of(RAW, b"one")).len();
            assert_eq!(result.is_ok(), ends, "{length}: {result:?}");
        }
    }

    #[test]
    fn bounds_are_checked_before_anything_is_read() {
        let huge = |start: &[u8]| [start, b"\xff\xff\xff\xff\x7f"].concat();
        assert!(matches!(read(&huge(b"")), Err(CarError::Malformed("its header is too large"))));
        let start = header(&cid_of(RAW, b""));
        assert!(matches!(read(&huge(&start)), Err(CarError::Malformed("a block is larger than 2 MiB"))));
        assert!(matches!(read(&[0xff; 20]), Err(CarError::Malformed("a length is too long"))));
        assert!(matches!(read(b"\x0a\xa1gversion\x02"), Err(CarError::Malformed("it is not of version 1"))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let _ = read(&[&header(&cid_of(RAW, b""))[..], &bytes].concat());
        }
    }
}
