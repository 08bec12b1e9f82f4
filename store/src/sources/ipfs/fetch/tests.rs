use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio_util::io::StreamReader;

use super::*;
use crate::ipfs::{CarReader, DAG_PB, cid_of, header, section};

/// A short patience, for providers that never answer.
const SHORT: Patience = Patience { answer: Duration::from_millis(200), block: Duration::from_millis(200) };

/// What a fake provider does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    NoArchives,
    Lies,
    LiesAlone,
    Stalls,
    Breaks,
    Endless,
    Empty,
}

/// A provider of some blocks, which notes what it was asked.
#[derive(Debug)]
struct Fake {
    blocks: BTreeMap<Hash, Bytes>,
    order: Vec<Cid>,
    fault: Fault,
    asked: Mutex<Vec<&'static str>>,
}

impl fmt::Display for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fake {:?}", self.fault)
    }
}

impl Fake {
    fn new(blocks: &[(Cid, Bytes)], fault: Fault) -> Arc<Self> {
        let order = blocks.iter().map(|(cid, _)| *cid).collect();
        let blocks = blocks.iter().map(|(cid, bytes)| (*cid.hash(), bytes.clone())).collect();
        Arc::new(Self { blocks, order, fault, asked: Mutex::default() })
    }

    fn asked(&self) -> Vec<&'static str> {
        self.asked.lock().unwrap().clone()
    }

    fn sections(&self) -> Vec<std::io::Result<Bytes>> {
        let all = self.order.iter().map(|cid| {
            let mut block = self.blocks[cid.hash()].to_vec();
            if self.fault == Fault::Lies {
                block.push(0);
            }
            Ok(section(cid, &block))
        });
        all.collect()
    }
}

#[async_trait]
impl Provider for Fake {
    async fn block(&self, cid: &Cid) -> Result<Bytes, String> {
        self.asked.lock().unwrap().push("block");
        match self.fault {
            Fault::Stalls => std::future::pending().await,
            Fault::Lies | Fault::LiesAlone => Ok(Bytes::from_static(b"lies")),
            _ => self.blocks.get(cid.hash()).cloned().ok_or_else(|| format!("it does not have block {cid}")),
        }
    }

    async fn archive(&self, cid: &Cid, _: &[String]) -> Result<Option<Archive>, String> {
        self.asked.lock().unwrap().push("archive");
        let start = [Ok(header(cid))];
        let mut sections = self.sections();
        let stream = match self.fault {
            Fault::NoArchives | Fault::LiesAlone => return Ok(None),
            Fault::Empty => stream::iter(start).boxed(),
            Fault::Stalls => stream::iter(start).chain(stream::pending()).boxed(),
            Fault::Breaks => {
                let cut = sections.swap_remove(1).unwrap();
                stream::iter(start.into_iter().chain([sections.swap_remove(0), Ok(cut.slice(..cut.len() / 2))])).boxed()
            }
            Fault::Endless => {
                let junk = (0_u64..).map(|number| {
                    let block = [vec![0; 1 << 20], number.to_le_bytes().to_vec()].concat();
                    Ok(section(&cid_of(RAW, &block), &block))
                });
                stream::iter(start.into_iter().chain(junk)).boxed()
            }
            _ => stream::iter(start.into_iter().chain(sections)).boxed(),
        };
        Ok(Some(CarReader::new(Box::pin(StreamReader::new(stream)))))
    }
}

/// A node and its leaves; only names and bytes matter here.
fn tree() -> Vec<(Cid, Bytes)> {
    let mut blocks = vec![(cid_of(DAG_PB, b"root"), Bytes::from_static(b"root"))];
    blocks.extend((0_u8..5).map(|leaf| (cid_of(RAW, &[leaf]), Bytes::copy_from_slice(&[leaf]))));
    blocks
}

fn fetcher(providers: &[&Arc<Fake>]) -> Fetcher {
    Fetcher::new(providers.iter().map(|provider| Arc::clone(provider) as Arc<dyn Provider>), SHORT)
}

async fn all(fetcher: &mut Fetcher, blocks: &[(Cid, Bytes)]) -> Result<(), FetchError> {
    for (cid, bytes) in blocks {
        assert_eq!(fetcher.block(cid, &[]).await?, bytes);
    }
    Ok(())
}

#[tokio::test]
async fn one_archive_serves_a_whole_tree_in_any_order() {
    let mut blocks = tree();
    for _ in 0..2 {
        let fake = Fake::new(&blocks, Fault::None);
        all(&mut fetcher(&[&fake]), &tree()).await.unwrap();
        assert_eq!(fake.asked(), ["archive"]);
        blocks.reverse();
    }
}

#[tokio::test]
async fn without_archives_each_block_is_asked_for_alone() {
    let fake = Fake::new(&tree(), Fault::NoArchives);
    all(&mut fetcher(&[&fake]), &tree()).await.unwrap();
    assert_eq!(fake.asked()[..3], ["archive", "block", "block"]);
}

#[tokio::test]
async fn an_archive_that_breaks_off_is_continued_block_by_block() {
    let fake = Fake::new(&tree(), Fault::Breaks);
    all(&mut fetcher(&[&fake]), &tree()).await.unwrap();
    assert_eq!(fake.asked(), ["archive", "block", "block", "block", "block", "block"]);
}

#[tokio::test]
async fn who_lies_stalls_or_lacks_a_block_is_left_for_the_next() {
    for fault in [Fault::Lies, Fault::LiesAlone, Fault::Stalls, Fault::Empty] {
        // The archive of the one with `Empty` holds nothing, and its blocks are not the ones asked for.
        let known = if fault == Fault::Empty { vec![(cid_of(RAW, b"x"), Bytes::from_static(b"x"))] } else { tree() };
        let (bad, good) = (Fake::new(&known, fault), Fake::new(&tree(), Fault::None));
        let mut fetcher = fetcher(&[&bad, &good]);
        all(&mut fetcher, &tree()).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(fetcher.failures.len(), 1, "{fault:?}");
        assert_eq!(good.asked(), ["archive"], "{fault:?}");
    }
}

#[tokio::test]
async fn an_endless_archive_is_given_up_and_its_blocks_are_forgotten() {
    let fake = Fake::new(&tree(), Fault::Endless);
    let mut fetcher = fetcher(&[&fake]);
    all(&mut fetcher, &tree()).await.unwrap();
    assert_eq!(fake.asked()[..2], ["archive", "block"]);
    assert!(fetcher.kept.bytes <= MAX_KEPT_BYTES);
    let held: usize = fetcher.kept.blocks.values().map(|bytes| bytes.len() + KEPT_COST).sum();
    assert_eq!((held, fetcher.kept.order.len()), (fetcher.kept.bytes, fetcher.kept.blocks.len()));
}

#[tokio::test]
async fn everybody_who_failed_is_named_with_the_reason() {
    let (lies, stalls) = (Fake::new(&tree(), Fault::LiesAlone), Fake::new(&tree(), Fault::Stalls));
    let error = fetcher(&[&lies, &stalls]).block(&tree()[0].0, &[]).await.unwrap_err().to_string();
    assert!(error.starts_with("fake LiesAlone: block "), "{error}");
    assert!(error.contains(": other bytes came than its hash names"), "{error}");
    assert!(error.contains("fake Stalls: it does not answer within 200ms"), "{error}");
    let nobody = fetcher(&[]).block(&tree()[0].0, &[]).await.unwrap_err();
    assert_eq!(nobody, FetchError::Nobody);
}

#[tokio::test]
async fn a_block_in_its_name_needs_nobody() {
    let cid = "bafkqablimvwgy3y".parse().unwrap();
    assert_eq!(fetcher(&[]).block(&cid, &[]).await.unwrap(), "hello");
}
