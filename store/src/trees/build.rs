//! Makes the blocks of a tree: each file's from its leaves up, then the folders' from the deepest up.

use std::collections::BTreeMap;

use shoal_protocol::id::BlobHash;
use shoal_protocol::task::Content;

use super::{MAX_BLOCKS, Place, ROWS_AT_ONCE, Tree, TreeError, Trees, block_key};
use crate::blobs::blocking;
use crate::ipfs::{Cid, DAG_PB, Link, RAW, cid_of, encode_file, encode_folder, encode_shard, place};
use crate::state::{Change, Table};

/// The shape of files in `unixfs-v1-2025`.
const SHAPE: Shape = Shape { leaf_bytes: 1 << 20, links: 1_024 };
/// Largest folder that is one block, in bytes; a larger one becomes a hash table.
const MAX_FOLDER_BYTES: usize = 256 << 10;
/// Bits of a name's hash that choose its place in a table: 256 places.
const TABLE_BITS: u32 = 8;

/// The shape of files.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Bytes of a leaf.
    leaf_bytes: u64,
    /// Links of a full node.
    links: usize,
}

/// Blocks on their way to the table.
struct Builder<'a> {
    trees: &'a Trees,
    shape: Shape,
    number: u64,
    rows: Vec<Change>,
    blocks: u64,
}

/// A name in a folder.
enum Entry {
    File(Link),
    Folder(Folder),
}

type Folder = BTreeMap<String, Entry>;

/// A link, and the bytes of content below it.
type Part = (Link, u64);

/// Makes the blocks of `result`, as the tree of that number.
pub(super) async fn build(trees: &Trees, number: u64, result: Content) -> Result<Tree, TreeError> {
    let mut builder = Builder::new(trees, number, SHAPE);
    let (mut root, mut bytes) = (Folder::new(), 0);
    for file in trees.blobs.files(result.hash).await? {
        let size = file.status.bytes();
        let link = builder.file(file.hash, size).await?;
        insert(&mut root, &file.name, link);
        bytes += size;
    }
    let link = builder.folder(root)?;
    builder.flush().await?;
    Ok(Tree { root: link.cid.to_bytes(), result, blocks: builder.blocks, bytes })
}

/// Names are those of a folder in the store: checked, and no file is a folder as well.
fn insert(mut folder: &mut Folder, name: &str, file: Link) {
    let mut parts = name.split('/').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            folder.insert(part.to_owned(), Entry::File(file));
            return;
        }
        match folder.entry(part.to_owned()).or_insert_with(|| Entry::Folder(Folder::new())) {
            Entry::Folder(below) => folder = below,
            Entry::File(_) => unreachable!("a name of a folder is a file and a folder at once"),
        }
    }
}

impl<'a> Builder<'a> {
    fn new(trees: &'a Trees, number: u64, shape: Shape) -> Self {
        Self { trees, shape, number, rows: Vec::new(), blocks: 0 }
    }

    /// A balanced tree: full nodes are made as soon as they are full, the rest at the end.
    async fn file(&mut self, blob: BlobHash, bytes: u64) -> Result<Link, TreeError> {
        let mut levels: Vec<Vec<Part>> = vec![Vec::new()];
        let mut offset = 0;
        loop {
            let length = self.shape.leaf_bytes.min(bytes - offset);
            let leaf = self.leaf(blob, offset, length).await?;
            offset += length;
            if offset == bytes && levels.len() == 1 && levels[0].is_empty() {
                // A file of one leaf is the leaf.
                return Ok(leaf.0);
            }
            levels[0].push(leaf);
            self.reduce_full(&mut levels);
            if offset == bytes {
                break;
            }
            self.flush_full().await?;
        }
        Ok(self.reduce_all(levels))
    }

    async fn leaf(&mut self, blob: BlobHash, offset: u64, length: u64) -> Result<Part, TreeError> {
        let block = self.trees.read(blob, offset, length).await?;
        let cid = blocking(move || cid_of(RAW, &block)).await;
        self.put(&cid, &Place::Leaf { blob, offset, length })?;
        Ok((Link { name: String::new(), cid, size: length }, length))
    }

    fn reduce_full(&mut self, levels: &mut Vec<Vec<Part>>) {
        let mut level = 0;
        while levels[level].len() == self.shape.links {
            let node = self.node(&std::mem::take(&mut levels[level]));
            level += 1;
            if level == levels.len() {
                levels.push(Vec::new());
            }
            levels[level].push(node);
        }
    }

    fn reduce_all(&mut self, levels: Vec<Vec<Part>>) -> Link {
        let last = levels.len() - 1;
        let mut carried: Option<Part> = None;
        for (level, mut parts) in levels.into_iter().enumerate() {
            parts.extend(carried.take());
            carried = match parts.len() {
                0 => None,
                // Above the leaves, what stands alone at the top is the root.
                1 if level == last && level > 0 => parts.pop(),
                _ => Some(self.node(&parts)),
            };
        }
        carried.expect("a file has a leaf").0
    }

    fn node(&mut self, parts: &[Part]) -> Part {
        let block = encode_file(parts);
        let below: u64 = parts.iter().map(|(link, _)| link.size).sum();
        let bytes = parts.iter().map(|(_, bytes)| bytes).sum();
        (self.block(block, below), bytes)
    }

    fn folder(&mut self, folder: Folder) -> Result<Link, TreeError> {
        let mut links = Vec::with_capacity(folder.len());
        for (name, entry) in folder {
            let link = match entry {
                Entry::File(link) => link,
                Entry::Folder(below) => self.folder(below)?,
            };
            links.push(Link { name, ..link });
        }
        let block = encode_folder(&links);
        if block.len() > MAX_FOLDER_BYTES {
            return self.table(links, 0);
        }
        let below = links.iter().map(|link| link.size).sum();
        Ok(self.block(block, below))
    }

    /// A hash table, with tables below it where several names have the same place.
    fn table(&mut self, links: Vec<Link>, depth: u32) -> Result<Link, TreeError> {
        let mut places: BTreeMap<u32, Vec<Link>> = BTreeMap::new();
        for link in links {
            let at = place(&link.name, depth, TABLE_BITS).ok_or_else(|| TreeError::SameHash(link.name.clone()))?;
            places.entry(at).or_default().push(link);
        }
        let taken = bits(places.keys().copied());
        let mut links = Vec::with_capacity(places.len());
        for (at, mut here) in places {
            let link = match (here.pop(), here.is_empty()) {
                (Some(only), true) => Link { name: format!("{at:02X}{}", only.name), ..only },
                (last, _) => {
                    here.extend(last);
                    Link { name: format!("{at:02X}"), ..self.table(here, depth + 1)? }
                }
            };
            links.push(link);
        }
        let below = links.iter().map(|link| link.size).sum();
        Ok(self.block(encode_shard(&taken, &links), below))
    }

    /// Keeps a node and returns a link to it; `below` is the size of all that it links to.
    fn block(&mut self, block: Vec<u8>, below: u64) -> Link {
        let link = Link { name: String::new(), cid: cid_of(DAG_PB, &block), size: block.len() as u64 + below };
        self.keep(&link.cid, &Place::Node(block));
        link
    }

    fn put(&mut self, cid: &Cid, place: &Place) -> Result<(), TreeError> {
        // Nodes are far fewer than leaves, so that counting here bounds both.
        if self.blocks >= MAX_BLOCKS {
            return Err(TreeError::TooLarge);
        }
        self.keep(cid, place);
        Ok(())
    }

    fn keep(&mut self, cid: &Cid, place: &Place) {
        let (key, value) = (block_key(self.number, cid.hash().digest()), shoal_protocol::wire::canonical(place));
        self.rows.push(Change::Put { table: Table::Trees, key, value });
        self.blocks += 1;
    }

    async fn flush_full(&mut self) -> Result<(), TreeError> {
        if self.rows.len() >= ROWS_AT_ONCE { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), TreeError> {
        self.trees.apply(std::mem::take(&mut self.rows)).await
    }
}

/// A bit for each place, the last place first, without leading zeros.
fn bits(places: impl Iterator<Item = u32>) -> Vec<u8> {
    let mut bits = vec![0_u8; 1 << (TABLE_BITS - 3)];
    for place in places {
        let at = bits.len() - 1 - (place / 8) as usize;
        bits[at] |= 1 << (place % 8);
    }
    let leading = bits.iter().take_while(|byte| **byte == 0).count();
    bits.split_off(leading)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trees::tests::World;

    /// Bytes of a file, leaves of 16 bytes and four links a node, and what Helia's importer names it then.
    const FILES: [(usize, &str); 11] = [
        (0, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        (1, "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu"),
        (16, "bafkreihxxrwbh2at2n3zsscnttje2flq2puuh7qp43upmsjf7kv44cxubu"),
        (17, "bafybeifahtdbln2kzsnt75d3urjv5k6x6qjrtn4icruxi5spkilgmc3dem"),
        (64, "bafybeigo3ntcicx7wbxlbnjl3wk6dncqey3ogqomlgt24anzy4coyu4cn4"),
        (65, "bafybeidimmcpzlkox2nwgf5f2t7lgprtepjxnvm7o24zkrtu72z6o2zquu"),
        (256, "bafybeieyidu6mu6ofrcxl7oi3rsffhdq7h7fozddss5tux3gszzq2ikpvy"),
        (257, "bafybeifcnort32teok4shgj26q73irusbgvwwdq5m2yiv2ro4aq4qn775e"),
        (1_024, "bafybeiedg7j4ojmmckbfqhqeyhxhl5nzis7snxycdej62p3mgikfw7i4mu"),
        (1_040, "bafybeifstjamzi2by7rtec55pvxwpscoahdijugkji5s7xfria6im7banu"),
        (5_000, "bafybeia7fefdzzbxbhzctn2x3otb4zmgndlwmdtarkiheb24u77jaxfuei"),
    ];

    /// Empty files of a folder, and what Helia's importer names it with `unixfs-v1-2025`. The last is a hash table.
    const FOLDERS: [(usize, &str); 4] = [
        (10, "bafybeihv3vqrsbkol3lea4zgn4wnb2y2sbisl77lvv4nuq525crawavupq"),
        (3_000, "bafybeihxznlcwncihaoygm6gmzpsnyct44ftlmmvfkssqnvudtfa2drcx4"),
        (4_000, "bafybeiel5cicigxjnwtqwclwwlcko7ahft22lelsfvcvjr4er6ac25puvq"),
        (20_000, "bafybeih74pqh2i2ponkrsdqtayt6xtgyg7kkmm3h2lnqqp4jbaxng27hma"),
    ];

    #[tokio::test]
    async fn files_have_the_names_that_others_give_them() {
        let world = World::new().await;
        for (bytes, cid) in FILES {
            let content: Vec<u8> = (0..bytes).map(|at| (at * 7 + (at >> 8)).to_le_bytes()[0]).collect();
            let blob = world.blobs.add_bytes(content).await.unwrap();
            let mut builder = Builder::new(&world.trees, 0, Shape { leaf_bytes: 16, links: 4 });
            let link = builder.file(blob.content.hash, bytes as u64).await.unwrap();
            assert_eq!(link.cid.to_string(), cid, "{bytes} bytes");
        }
    }

    #[tokio::test]
    async fn folders_have_the_names_that_others_give_them() {
        let world = World::new().await;
        let empty = Link { name: String::new(), cid: cid_of(RAW, b""), size: 0 };
        for (files, cid) in FOLDERS {
            let mut folder = Folder::new();
            (0..files).for_each(|number| insert(&mut folder, &format!("file number {number:05}"), empty.clone()));
            let link = Builder::new(&world.trees, 0, SHAPE).folder(folder).unwrap();
            assert_eq!(link.cid.to_string(), cid, "{files} files");
        }
    }
}
