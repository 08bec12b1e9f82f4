//! What a layer unpacks to that is compressed with zstd: any number of frames in a row.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// How a frame begins.
const FRAME: &[u8] = b"\x28\xb5\x2f\xfd";
/// How one ends its beginning that is to be skipped; the first byte is any from 0x50 to 0x5f.
const SKIPPED: &[u8] = b"\x2a\x4d\x18";
/// How far back a frame may refer, in bytes, and so what unpacking takes: as much as the programs of zstd's authors take
/// unless they are told otherwise.
const MAX_WINDOW_BYTES: u64 = 128 << 20;

/// Unpacks as it is read.
pub(super) struct Unpacked<R> {
    source: R,
    decoder: FrameDecoder,
}

/// Whether something that begins so is compressed with zstd.
pub(super) fn is_zstd(start: &[u8]) -> bool {
    let is_skipped = |start: &[u8]| matches!(start, [0x50..=0x5f, rest @ ..] if rest.starts_with(SKIPPED));
    start.starts_with(FRAME) || is_skipped(start)
}

impl<R: BufRead> Unpacked<R> {
    pub(super) fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW_BYTES);
        Self { source, decoder }
    }

    /// Begins the next frame, if there is one.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut (&mut self.source).take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

impl<R: BufRead> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A block at a time: what is not asked for is not unpacked.
        while self.decoder.can_collect() == 0 {
            if !self.decoder.is_finished() {
                let block = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.source, block).map_err(io::Error::other)?;
            } else if !self.begin()? {
                return Ok(0);
            }
        }
        self.decoder.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    /// By the program `zstd -19 --check`.
    const OF_ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x04\x68\x2d\x01\x00\x82\x42\x08\x0c\xc0\x3d\x34\xc9\xad\x36\xea\xff\x8f\
        \x5e\x5d\x0f\x90\x6a\x2d\x9d\xc7\xdf\xa2\xc5\x27\xcf\xa7\x73\xbc\x3a\x50\x99\x42\xef\x5e\x01\x00\xee\x8b\x38\x2b";
    /// To be skipped: two bytes.
    const NOTE: &[u8] = b"\x5e\x2a\x4d\x18\x02\x00\x00\x00hi";

    fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut whole = Vec::new();
        Unpacked::new(bytes).read_to_end(&mut whole).map(|_| whole)
    }

    #[test]
    fn frames_in_a_row_are_one_and_notes_between_them_are_skipped() {
        let text = "hello from the reference implementation\n";
        assert_eq!(unpacked(OF_ZSTD).unwrap(), text.as_bytes());
        let mine = compress_to_vec(&b"and more"[..], CompressionLevel::Fastest);
        let all = [NOTE, OF_ZSTD, NOTE, &mine, NOTE].concat();
        assert_eq!(unpacked(&all).unwrap(), format!("{text}and more").as_bytes());
        assert!(is_zstd(&all) && is_zstd(&mine) && !is_zstd(b"P") && !is_zstd(b"\x1f\x8b\x08"));
    }

    #[test]
    fn what_is_cut_off_or_wants_too_much_memory_is_an_error() {
        // A window of 256 MiB.
        let wide = b"\x28\xb5\x2f\xfd\x00\x90\x01\x00\x00";
        for bytes in [&OF_ZSTD[..20], &OF_ZSTD[..3], &NOTE[..9], &[OF_ZSTD, b"tail"].concat(), wide] {
            assert!(unpacked(bytes).is_err(), "{bytes:?}");
        }
        // One of 128.
        assert_eq!(unpacked(b"\x28\xb5\x2f\xfd\x00\x88\x01\x00\x00").unwrap(), b"");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_unpacked_or_refused(
            place in 4..OF_ZSTD.len(), byte: u8, noise in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut damaged = OF_ZSTD.to_vec();
            damaged[place] = byte;
            // Nobody has to notice: the layer's digest does.
            for bytes in [damaged, [FRAME, &noise].concat()] {
                let mut start = Vec::new();
                let _ = Unpacked::new(bytes.as_slice()).take(1 << 20).read_to_end(&mut start);
            }
        }

        #[test]
        fn what_was_packed_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..5_000)) {
            let packed = compress_to_vec(bytes.as_slice(), CompressionLevel::Fastest);
            prop_assert_eq!(unpacked(&packed).unwrap(), bytes);
        }
    }
}
