//! Objects of a bucket: one, or all below a prefix, for every partition or divided among them.
//!
//! What is wanted is listed first, and each object is then read as it was listed, by its entity tag. So an object that
//! changes meanwhile is an error, never a mixture. What is still the same as last time is not read again.

mod date;
mod listing;
mod memory;
mod partition;
mod transfer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use shoal_protocol::id::BlobHash;
use shoal_protocol::job::spec::S3Source;

use super::{Asker, Cache, DataError, Obtained, Request};
use crate::blobs::{Blobs, Imported};
use crate::s3::{Connection, Connector, Place};
use listing::{Object, Wanted};
use memory::Memory;
use partition::Division;
use transfer::Transfer;

/// Objects that are read at once.
const AT_ONCE: usize = 4;

#[derive(Debug)]
pub(super) struct Reader {
    connector: Connector,
    /// Whether jobs of other peers may read from addresses that are not public.
    private_addresses: bool,
}

impl Reader {
    pub(super) fn new(private_addresses: bool) -> Self {
        Self { connector: Connector::default(), private_addresses }
    }

    pub(super) async fn obtain(
        &self,
        blobs: &Blobs,
        cache: &Cache,
        source: &S3Source,
        request: &Request<'_>,
    ) -> Result<Obtained, DataError> {
        let wanted = Wanted::new(source)?;
        let division = Division::new(&source.partition, wanted.key(), request.partitions)?;
        let connection = self.connect(source, request.asker).await?;
        let slot = cache.slot(name(&connection, source, &division, request.asker)).await;
        let objects = listing::list(&connection, &wanted, request.max_bytes).await?;
        let (origin, validator) = (origin(&connection, &wanted, &objects), memory::validator(&objects));
        let before = Memory::of(&slot).await;
        let copies = match before {
            Some(before) if Some(&before.validator) == validator.as_ref() => {
                return Ok(Obtained { parts: before.parts, origin });
            }
            Some(ref before) => before.copies(blobs).await,
            None => BTreeMap::new(),
        };
        let transfer = Transfer::new(&connection, blobs, source, request, &objects)?;
        let files = read(&transfer, &objects, &copies).await?;
        let mut parts = compose(blobs, &connection.uri(wanted.key()), &division, &objects, &files).await?;
        if let Some(validator) = validator {
            memory::remember(blobs, &slot, &mut parts, &objects, &files, validator).await;
        }
        Ok(Obtained { parts, origin })
    }

    async fn connect(&self, source: &S3Source, asker: Asker) -> Result<Connection, DataError> {
        let place = Place { bucket: &source.bucket, region: &source.region, endpoint: &source.endpoint };
        match asker {
            Asker::Owner => self.connector.connect(&place).await,
            Asker::Peer => self.connector.connect_anonymously(&place, self.private_addresses),
        }
    }
}

/// All that determines what a source holds. Who asks belongs to it: what the owner may read is nobody else's.
fn name(connection: &Connection, source: &S3Source, division: &Division, asker: Asker) -> String {
    let place = (connection.service(), &connection.region, &source.bucket, &source.key);
    let choice = (&source.filter, &source.version_id, &source.checksum_sha256);
    format!("s3 {:?}", (asker, place, choice, &source.partition, division.parts()))
}

/// What exactly is read, for a person.
fn origin(connection: &Connection, wanted: &Wanted<'_>, objects: &[Object]) -> String {
    let uri = connection.uri(wanted.key());
    match (wanted, objects) {
        (Wanted::Object { .. }, [Object { version: Some(version), .. }]) => format!("{uri}, version {version}"),
        (Wanted::Object { .. }, [Object { etag: Some(etag), .. }]) => format!("{uri}, entity tag {etag}"),
        (Wanted::Object { .. }, _) => uri,
        (Wanted::Prefix { .. }, objects) => format!("{uri}, {} objects", objects.len()),
    }
}

/// Reads every object that is not here already, in the order of `objects`.
async fn read(
    transfer: &Transfer<'_>,
    objects: &[Object],
    copies: &BTreeMap<String, memory::Copy>,
) -> Result<Vec<Imported>, DataError> {
    let (mut files, mut reading) = (Vec::with_capacity(objects.len()), FuturesOrdered::new());
    let mut waiting = objects.iter();
    loop {
        for object in waiting.by_ref().take(AT_ONCE - reading.len()) {
            reading.push_back(read_one(transfer, object, copies.get(&object.key)));
        }
        match reading.next().await {
            Some(file) => files.push(file?),
            None => return Ok(files),
        }
    }
}

async fn read_one(
    transfer: &Transfer<'_>,
    object: &Object,
    copy: Option<&memory::Copy>,
) -> Result<Imported, DataError> {
    if let Some(copy) = copy
        && let Some(file) = transfer.reuse(object, copy).await
    {
        return Ok(file);
    }
    transfer.read(object).await
}

/// Makes a folder for each part.
async fn compose(
    blobs: &Blobs,
    thing: &str,
    division: &Division,
    objects: &[Object],
    files: &[Imported],
) -> Result<Vec<Imported>, DataError> {
    let mut folders: Vec<Vec<(String, BlobHash)>> = vec![Vec::new(); division.parts()];
    for (object, file) in objects.iter().zip(files) {
        folders[division.part(&object.key)].push((object.name.clone(), file.content.hash));
    }
    let mut parts = Vec::with_capacity(folders.len());
    for folder in folders {
        parts.push(blobs.compose(folder).await.map_err(|error| transfer::not_kept(thing, &error))?);
    }
    Ok(parts)
}
