//! `data:` URLs: small files written into a job.
//!
//! Base64 may be broken over lines and indented, as a YAML block leaves it; Go's decoder accepts that, and so
//! do public job files.

use std::borrow::Cow;

use data_encoding::{BASE64_NOPAD, Encoding};

/// Decoded size of one `data:` URL, in bytes. Larger files are blobs.
pub const MAX_DATA_BYTES: usize = 8 << 20;

/// The type of a `data:` URL that names none.
const DEFAULT_MEDIA_TYPE: &str = "text/plain;charset=us-ascii";

/// A file that was written as a `data:` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataUrl {
    /// Its media type with parameters, in lower case. `application/gzip` means a packed folder.
    pub media_type: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Why a text is not a `data:` URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DataUrlError {
    /// It is some other URL, or none.
    #[error("does not start with 'data:'")]
    NotData,
    /// There is no comma between type and data.
    #[error("has no ',' between its type and its data")]
    NoComma,
    /// A `%` is not followed by two hex digits.
    #[error("has a '%' that is not followed by two hex digits")]
    Percent,
    /// The data is not base64, though its type says so.
    #[error("is marked ';base64' but its data is not base64")]
    Base64,
    /// It holds too much.
    #[error("holds more than {MAX_DATA_BYTES} bytes")]
    TooLarge,
}

/// Decodes a `data:` URL.
pub fn parse(url: &str) -> Result<DataUrl, DataUrlError> {
    let rest = strip_scheme(url.trim()).ok_or(DataUrlError::NotData)?;
    let (head, data) = rest.split_once(',').ok_or(DataUrlError::NoComma)?;
    // Base64 is a third larger than what it holds, percent-encoding up to three times, and line breaks come on top.
    if data.len() > 4 * MAX_DATA_BYTES {
        return Err(DataUrlError::TooLarge);
    }
    let (media_type, is_base64) = match strip_suffix_ignoring_case(head.trim(), ";base64") {
        Some(media_type) => (media_type, true),
        None => (head.trim(), false),
    };
    let raw = percent_decoded(data.as_bytes())?;
    let bytes = if is_base64 { base64_decoded(&raw)? } else { raw.into_owned() };
    if bytes.len() > MAX_DATA_BYTES {
        return Err(DataUrlError::TooLarge);
    }
    let media_type = if media_type.is_empty() { DEFAULT_MEDIA_TYPE } else { media_type };
    Ok(DataUrl { media_type: media_type.to_ascii_lowercase(), bytes })
}

impl DataUrl {
    /// Whether it is a folder, packed as a gzipped tar archive.
    pub fn is_archive(&self) -> bool {
        self.media_type.split(';').next().is_some_and(|kind| kind.trim() == "application/gzip")
    }
}

fn strip_scheme(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once(':')?;
    scheme.eq_ignore_ascii_case("data").then_some(rest)
}

fn strip_suffix_ignoring_case<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let start = text.len().checked_sub(suffix.len())?;
    let end = text.get(start..)?;
    end.eq_ignore_ascii_case(suffix).then(|| text[..start].trim_end())
}

fn percent_decoded(data: &[u8]) -> Result<Cow<'_, [u8]>, DataUrlError> {
    if !data.contains(&b'%') {
        return Ok(Cow::Borrowed(data));
    }
    let mut decoded = Vec::with_capacity(data.len());
    let mut bytes = data.iter();
    while let Some(&byte) = bytes.next() {
        if byte == b'%' {
            let mut digit =
                || bytes.next().and_then(|&digit| char::from(digit).to_digit(16)).ok_or(DataUrlError::Percent);
            let (high, low) = (digit()?, digit()?);
            decoded.push(u8::try_from(high * 16 + low).expect("two hex digits are one byte"));
        } else {
            decoded.push(byte);
        }
    }
    Ok(Cow::Owned(decoded))
}

fn base64_decoded(data: &[u8]) -> Result<Vec<u8>, DataUrlError> {
    let mut dense: Vec<u8> = data.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let padding = dense.iter().rev().take_while(|&&byte| byte == b'=').count();
    if padding > 2 {
        return Err(DataUrlError::Base64);
    }
    dense.truncate(dense.len() - padding);
    base64().decode(&dense).map_err(|_| DataUrlError::Base64)
}

/// Standard base64; what is left over in the last digit does not matter, as in Go.
fn base64() -> Encoding {
    let mut specification = BASE64_NOPAD.specification();
    specification.check_trailing_bits = false;
    specification.encoding().expect("only the check of trailing bits differs from the standard")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(url: &str) -> Result<Vec<u8>, DataUrlError> {
        parse(url).map(|data| data.bytes)
    }

    #[test]
    fn data_urls_are_read_as_found_in_the_wild() {
        let table: [(&str, &[u8]); 10] = [
            ("data:,hello", b"hello"),
            ("data:text/plain,a%20b%2Cc", b"a b,c"),
            ("DATA:text/plain;BASE64,aGVsbG8=", b"hello"),
            ("data:;base64,aGVsbG8", b"hello"),
            ("data:application/wasm;base64,AGFzbQEAAAA=", b"\0asm\x01\0\0\0"),
            ("data:application/wasm;base64,\n  AGFz\n  bQEA\r\n  AAA=\n", b"\0asm\x01\0\0\0"),
            ("data:;base64,aGVs bG8%3D", b"hello"),
            ("data:;base64,%2B/8=", b"\xfb\xff"),
            ("data:;base64,", b""),
            ("data:,", b""),
        ];
        for (url, expected) in table {
            assert_eq!(bytes(url).as_deref(), Ok(expected), "{url}");
        }
    }

    #[test]
    fn what_is_no_data_url_says_why() {
        let table = [
            ("https://example.org", DataUrlError::NotData),
            ("", DataUrlError::NotData),
            ("data:text/plain", DataUrlError::NoComma),
            ("data:,100%", DataUrlError::Percent),
            ("data:,%é", DataUrlError::Percent),
            ("data:;base64,????", DataUrlError::Base64),
            ("data:;base64,aGVsbG8===", DataUrlError::Base64),
            ("data:;base64,a", DataUrlError::Base64),
        ];
        for (url, expected) in table {
            assert_eq!(bytes(url), Err(expected), "{url}");
        }
    }

    #[test]
    fn too_much_data_is_refused() {
        let large = format!("data:,{}", "x".repeat(MAX_DATA_BYTES + 1));
        assert_eq!(bytes(&large), Err(DataUrlError::TooLarge));
    }

    #[test]
    fn a_gzip_archive_is_a_folder() {
        assert!(parse("data:Application/GZIP;base64,").unwrap().is_archive());
        assert!(!parse("data:application/wasm;base64,").unwrap().is_archive());
        assert_eq!(parse("data:,x").unwrap().media_type, "text/plain;charset=us-ascii");
    }

    proptest! {
        #[test]
        fn base64_of_any_bytes_is_read_back(content: Vec<u8>, width in 1_usize..80) {
            let text = data_encoding::BASE64.encode(&content);
            let lines: Vec<_> = text.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
            prop_assert_eq!(bytes(&format!("data:a/b;base64,{}", lines.join("\n  "))), Ok(content));
        }

        #[test]
        fn no_text_panics(text in "(data:)?\\PC{0,80}") {
            let _ = parse(&text);
        }
    }
}
