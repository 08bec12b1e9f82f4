//! Files and folders made of blocks: the DAG-PB codec and UnixFS inside it.
//!
//! Both are small protocol-buffer messages; their fields are in the specifications of IPLD (`dag-pb`) and IPFS
//! (`UnixFS`). Times and modes are ignored: they are no content.

use bytes::Bytes;
use quick_protobuf::{BytesReader, Writer};

use super::block::{Cid, DAG_PB, RAW};

/// The widest table of a sharded folder; everybody uses 256.
const MAX_FANOUT: u64 = 1_024;
/// The hash function of sharded folders, murmur3-x64-64.
const MURMUR3: u64 = 0x22;

/// A pointer to a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// The name of an entry; empty in files.
    pub(crate) name: String,
    /// The block.
    pub(crate) cid: Cid,
    /// Bytes of the block and all below it, as its author says.
    pub(crate) size: u64,
}

/// What a block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// A file or part of one: these bytes, then those below the links, in order.
    File {
        /// The bytes here.
        data: Bytes,
        /// The parts below.
        links: Vec<Link>,
    },
    /// A folder.
    Folder(Vec<Link>),
    /// A folder, or part of one, as a hash table: the names begin with the place in the table, in hexadecimal. A name
    /// that is nothing else leads to a table below.
    Shard {
        /// Bits of a place.
        bits: u32,
        /// Entries and tables below.
        links: Vec<Link>,
    },
}

/// Why a block is not a part of a file or folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("is {0}, not part of a file or folder")]
    Other(&'static str),
    #[error("is malformed: {0}")]
    Malformed(&'static str),
}

/// Kinds of UnixFS nodes, as they are numbered.
mod kind {
    pub(super) const RAW: u64 = 0;
    pub(super) const FOLDER: u64 = 1;
    pub(super) const FILE: u64 = 2;
    pub(super) const METADATA: u64 = 3;
    pub(super) const SYMLINK: u64 = 4;
    pub(super) const SHARD: u64 = 5;
}

/// The fields of a UnixFS message that are content.
#[derive(Default)]
struct UnixFs {
    kind: u64,
    data: Option<Bytes>,
    hash: u64,
    fanout: u64,
}

impl Node {
    /// Reads a block, whose bytes were verified.
    pub(crate) fn decode(cid: &Cid, block: Bytes) -> Result<Self, NodeError> {
        let other = NodeError::Other;
        match cid.codec() {
            RAW => return Ok(Self::File { data: block, links: Vec::new() }),
            DAG_PB => {}
            0x71 => return Err(other("DAG-CBOR data")),
            0x0129 => return Err(other("DAG-JSON data")),
            0x72 => return Err(other("the key of a name (write ipns://)")),
            _ => return Err(other("data of an unknown codec")),
        }
        let malformed = NodeError::Malformed;
        let (data, links) = read_node(&block).ok_or(malformed("it is no DAG-PB node"))?;
        let fs = read_unixfs(&data).ok_or(malformed("it has no UnixFS data"))?;
        match fs.kind {
            kind::RAW | kind::FILE => Ok(Self::File { data: fs.data.unwrap_or_default(), links }),
            kind::FOLDER => Ok(Self::Folder(links)),
            kind::SHARD if fs.hash != MURMUR3 => Err(malformed("its hash table uses an unknown hash function")),
            kind::SHARD if !fs.fanout.is_power_of_two() || !(2..=MAX_FANOUT).contains(&fs.fanout) => {
                Err(malformed("its hash table has an impossible width"))
            }
            kind::SHARD => Ok(Self::Shard { bits: fs.fanout.trailing_zeros(), links }),
            kind::SYMLINK => Err(other("a symbolic link, which could lead anywhere")),
            kind::METADATA => Err(other("metadata")),
            _ => Err(malformed("it is an unknown kind of UnixFS node")),
        }
    }
}

/// The data and links of a DAG-PB node. Each message is read from a slice of its own, so that none reaches beyond its end.
fn read_node(block: &Bytes) -> Option<(Bytes, Vec<Link>)> {
    let (mut data, mut links) = (Bytes::new(), Vec::new());
    let mut reader = BytesReader::from_bytes(block);
    while !reader.is_eof() {
        match reader.next_tag(block).ok()? {
            10 => data = block.slice_ref(reader.read_bytes(block).ok()?),
            18 => links.push(read_link(reader.read_bytes(block).ok()?)?),
            _ => return None,
        }
    }
    Some((data, links))
}

fn read_link(bytes: &[u8]) -> Option<Link> {
    let (mut cid, mut name, mut size) = (None, "", 0);
    let mut reader = BytesReader::from_bytes(bytes);
    while !reader.is_eof() {
        match reader.next_tag(bytes).ok()? {
            10 => cid = Some(Cid::try_from(reader.read_bytes(bytes).ok()?).ok()?),
            18 => name = reader.read_string(bytes).ok()?,
            24 => size = reader.read_uint64(bytes).ok()?,
            _ => return None,
        }
    }
    Some(Link { name: name.to_owned(), cid: cid?, size })
}

fn read_unixfs(bytes: &Bytes) -> Option<UnixFs> {
    let mut fs = UnixFs::default();
    let mut kind = None;
    let mut reader = BytesReader::from_bytes(bytes);
    while !reader.is_eof() {
        match reader.next_tag(bytes).ok()? {
            8 => kind = Some(reader.read_uint64(bytes).ok()?),
            18 => fs.data = Some(bytes.slice_ref(reader.read_bytes(bytes).ok()?)),
            40 => fs.hash = reader.read_uint64(bytes).ok()?,
            48 => fs.fanout = reader.read_uint64(bytes).ok()?,
            tag => reader.read_unknown(bytes, tag).ok()?,
        }
    }
    Some(UnixFs { kind: kind?, ..fs })
}

/// A node of a file whose content lies below; `links` with the bytes of content below each.
pub(crate) fn encode_file(links: &[(Link, u64)]) -> Vec<u8> {
    let total = links.iter().map(|(_, bytes)| bytes).sum();
    let data = message(|writer| {
        writer.write_with_tag(8, |w| w.write_uint64(kind::FILE))?;
        writer.write_with_tag(24, |w| w.write_uint64(total))?;
        links.iter().try_for_each(|(_, bytes)| writer.write_with_tag(32, |w| w.write_uint64(*bytes)))
    });
    encode(links.iter().map(|(link, _)| link), &data)
}

/// A folder; `links` are sorted by name.
pub(crate) fn encode_folder(links: &[Link]) -> Vec<u8> {
    encode(links.iter(), &message(|writer| writer.write_with_tag(8, |w| w.write_uint64(kind::FOLDER))))
}

/// A table of a sharded folder with 256 places; `places` has a bit for each that is taken, `links` are sorted by name.
pub(crate) fn encode_shard(places: &[u8], links: &[Link]) -> Vec<u8> {
    let data = message(|writer| {
        writer.write_with_tag(8, |w| w.write_uint64(kind::SHARD))?;
        writer.write_with_tag(18, |w| w.write_bytes(places))?;
        writer.write_with_tag(40, |w| w.write_uint64(MURMUR3))?;
        writer.write_with_tag(48, |w| w.write_uint64(256))
    });
    encode(links.iter(), &data)
}

fn encode<'a>(links: impl Iterator<Item = &'a Link>, data: &[u8]) -> Vec<u8> {
    message(|writer| {
        for link in links {
            let link = message(|writer| {
                writer.write_with_tag(10, |w| w.write_bytes(&link.cid.to_bytes()))?;
                writer.write_with_tag(18, |w| w.write_string(&link.name))?;
                writer.write_with_tag(24, |w| w.write_uint64(link.size))
            });
            writer.write_with_tag(18, |w| w.write_bytes(&link))?;
        }
        writer.write_with_tag(10, |w| w.write_bytes(data))
    })
}

fn message(write: impl FnOnce(&mut Writer<&mut Vec<u8>>) -> quick_protobuf::Result<()>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut Writer::new(&mut bytes)).expect("a vector takes all that is written");
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipfs::cid_of;

    fn link(name: &str, content: &[u8]) -> Link {
        Link { name: name.into(), cid: cid_of(RAW, content), size: content.len() as u64 }
    }

    fn decode(block: Vec<u8>) -> Result<Node, NodeError> {
        Node::decode(&cid_of(DAG_PB, &block), block.into())
    }

    /// A block with UnixFS data alone.
    fn with_data(data: &[u8]) -> Vec<u8> {
        encode([].iter(), data)
    }

    #[test]
    fn what_is_written_is_read() {
        let (a, b) = (link("", b"one"), link("", b"three"));
        let file = decode(encode_file(&[(a.clone(), 3), (b.clone(), 5)])).unwrap();
        assert_eq!(file, Node::File { data: Bytes::new(), links: vec![a, b] });
        let links = vec![link("a", b"x"), link("b", b"y")];
        assert_eq!(decode(encode_folder(&links)).unwrap(), Node::Folder(links.clone()));
        assert_eq!(decode(encode_shard(&[3], &links)).unwrap(), Node::Shard { bits: 8, links });
    }

    #[test]
    fn well_known_blocks_have_their_well_known_names() {
        let empty = encode_folder(&[]);
        let cid = cid_of(DAG_PB, &empty).to_string();
        assert_eq!(cid, "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354");
    }

    #[test]
    fn only_files_and_folders_are_read() {
        let malformed = |block: Vec<u8>, words: &str| {
            let error = decode(block).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        malformed(with_data(&[8, 4]), "a symbolic link");
        malformed(with_data(&[8, 3]), "metadata");
        malformed(with_data(&[8, 9]), "unknown kind");
        malformed(with_data(&[8, 5, 40, 0x22, 48, 3]), "impossible width");
        malformed(with_data(&[8, 5, 40, 0x12, 48, 8]), "unknown hash function");
        malformed(Vec::new(), "no UnixFS data");
        malformed(vec![10, 200], "no DAG-PB node");
        let cbor = Cid::new_v1(0x71, *cid_of(RAW, b"").hash());
        assert!(Node::decode(&cbor, Bytes::new()).unwrap_err().to_string().contains("DAG-CBOR"));
    }

    #[test]
    fn a_name_that_is_not_text_is_malformed() {
        let mut block = encode_folder(&[link("abc", b"x")]);
        let at = block.windows(3).position(|window| window == b"abc").unwrap();
        block[at] = 0xff;
        assert!(matches!(decode(block), Err(NodeError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(bytes.clone());
            let _ = decode(with_data(&bytes));
        }

        #[test]
        fn a_changed_block_is_read_or_refused(at in 0_usize..400, byte: u8, cut in 0_usize..400) {
            let links: Vec<Link> = (0..4).map(|i| link(&format!("name {i}"), &[i])).collect();
            let mut block = encode_folder(&links);
            let length = block.len();
            block[at % length] = byte;
            block.truncate(length - cut % length);
            let _ = decode(block);
        }
    }
}
