//! What people write to name content of IPFS: `CID`, `CID/path`, `/ipfs/…`, `ipfs://…`, and names that are looked up.

use std::fmt;

use super::block::Cid;

/// Most parts of a path below a CID.
const MAX_PARTS: usize = 64;

/// Content, by where its search begins and the way down from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Where the search begins.
    pub(crate) root: Root,
    /// Names of entries, each in the folder before it. Taken as they are: `%20` is no space.
    pub(crate) path: Vec<String>,
}

/// Where a search begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Root {
    /// A block.
    Cid(Cid),
    /// A key's or a domain's name, which points to something else tomorrow.
    Name(String),
}

impl Address {
    /// Reads an address. The error is a reason, for a person.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (is_name, rest) = split_scheme(text.trim());
        let mut parts = rest.split('/');
        let root = parts.next().unwrap_or_default();
        let path: Vec<String> = parts.filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if path.len() > MAX_PARTS {
            return Err(format!("has a path of more than {MAX_PARTS} parts"));
        }
        if let Some(part) = path.iter().find(|part| matches!(part.as_str(), "." | "..")) {
            return Err(format!("has {part:?} in its path"));
        }
        let root = match (is_name, root) {
            (_, "") => return Err("is empty".into()),
            (true, name) => Root::Name(name.to_owned()),
            (false, cid) => Root::Cid(cid.parse().map_err(|error| format!("is no CID ({error})"))?),
        };
        Ok(Self { root, path })
    }
}

/// Whether what follows is a name, and what follows.
fn split_scheme(text: &str) -> (bool, &str) {
    let text = text.trim_start_matches('/');
    for (scheme, is_name) in [("ipfs:/", false), ("ipns:/", true), ("ipfs/", false), ("ipns/", true)] {
        if let Some(start) = text.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme)) {
            return (is_name, text[start.len()..].trim_start_matches('/'));
        }
    }
    (false, text)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.root {
            Root::Cid(cid) => write!(f, "ipfs://{cid}")?,
            Root::Name(name) => write!(f, "ipns://{name}")?,
        }
        self.path.iter().try_for_each(|part| write!(f, "/{part}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
    const OLD: &str = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn";

    #[test]
    fn every_spelling_of_an_address_is_the_same_address() {
        let spellings = ["", "/ipfs/", "ipfs/", "ipfs://", "IPFS://", "ipfs:///"];
        for (rest, shown) in [(CID.to_owned(), CID.to_owned()), (format!("{OLD}/a//b c/"), format!("{OLD}/a/b c"))] {
            for start in spellings {
                let address = Address::parse(&format!("{start}{rest}")).unwrap();
                assert_eq!(address.to_string(), format!("ipfs://{shown}"), "{start}{rest}");
            }
        }
    }

    #[test]
    fn names_are_told_from_cids() {
        for text in ["ipns://docs.example/intro", "/ipns/docs.example/intro"] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.root, Root::Name("docs.example".into()));
            assert_eq!(address.to_string(), "ipns://docs.example/intro");
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        let deep = format!("{CID}{}", "/x".repeat(65));
        for (text, reason) in [
            ("", "is empty"),
            ("ipfs://", "is empty"),
            ("bafynonsense", "is no CID"),
            ("../etc/passwd", "is no CID"),
            (&format!("{CID}/../x"), "has \"..\""),
            (&deep, "more than 64 parts"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
