use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use shoal_protocol::id::{ExecutionId, JobId, PeerId};
use shoal_protocol::job::spec::Publisher;
use shoal_protocol::time::Time;

use super::*;
use crate::blobs::{BlobsConfig, Imported, ResultFiles, ResultPart};
use crate::s3::fake::{Answer, Asked, Fake};

/// 2024-02-05 06:07:08 in UTC.
const MOMENT: Time = Time(1_707_113_228_000);
/// More than one part, and no whole number of them.
const LARGE: usize = 20_000_000;

struct World {
    _dir: tempfile::TempDir,
    blobs: Blobs,
    result: Imported,
}

impl World {
    async fn new(stdout: impl Into<Bytes>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = BlobsConfig { gc_interval: Duration::from_secs(3_600), ..BlobsConfig::default() };
        let blobs = Blobs::open(&dir.path().join("blobs"), config).await.unwrap();
        let part = |text: Bytes| ResultPart::Bytes(text);
        let result = blobs.collect(ResultFiles::new(0, part(stdout.into()), part(Bytes::new()))).await.unwrap();
        Self { _dir: dir, blobs, result }
    }

    async fn publish(&self, to: &S3Publisher) -> Result<Published, DataError> {
        let publisher = Publisher::Noop;
        let publication = publication(&publisher, self.result.content, (0, 1));
        Writer { connector: Connector::for_tests() }.publish(&self.blobs, to, &publication).await
    }
}

fn publication(publisher: &Publisher, result: shoal_protocol::task::Content, partition: (u32, u32)) -> Publication<'_> {
    let (job, execution, worker) = (JobId([1; 16]), ExecutionId([2; 16]), PeerId([3; 32]));
    Publication { publisher, result, job, partition, execution, worker, at: MOMENT }
}

fn to(fake: &Fake, key: &str, encoding: &str) -> S3Publisher {
    let endpoint = fake.endpoint.clone();
    S3Publisher { bucket: "b".into(), key: key.into(), encoding: encoding.into(), endpoint, ..S3Publisher::default() }
}

/// A bucket that takes everything and gives versions; what comes after `broken` parts fails.
fn bucket(asked: &Asked, broken: usize) -> Answer {
    let number = asked.path.split(['?', '&']).find_map(|word| word.strip_prefix("partNumber="));
    let number: usize = number.and_then(|number| number.parse().ok()).unwrap_or_default();
    let body = match asked.method.as_str() {
        "POST" if asked.path.contains("uploads") => {
            "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"
        }
        "POST" => "<CompleteMultipartUploadResult/>",
        "PUT" if number > broken => return Answer::refusal(403, "AccessDenied", ""),
        "DELETE" => return Answer { status: 204, ..Answer::default() },
        _ => "",
    };
    let headers = vec![("etag", "\"e\"".to_owned()), ("x-amz-version-id", "v7".to_owned())];
    Answer { status: 200, headers, body: body.into(), ..Answer::default() }
}

fn uploaded(fake: &Fake) -> Vec<Asked> {
    fake.all().into_iter().filter(|asked| asked.method == "PUT").collect()
}

#[tokio::test]
async fn an_archive_is_one_object_with_checksum_and_version() {
    let world = World::new("said").await;
    let fake = Fake::start(|asked| bucket(asked, usize::MAX)).await;
    let published = world.publish(&to(&fake, "results/{jobID}", "")).await.unwrap();
    let [put] = &uploaded(&fake)[..] else { panic!("one object") };
    let key = format!("results/{}.tar.gz", JobId([1; 16]));
    assert!(put.path.starts_with(&format!("/b/{key}")), "{}", put.path);
    let checksum = BASE64.encode(&Sha256::digest(&put.body));
    assert_eq!(put.headers["x-amz-checksum-sha256"], checksum);
    let details = [("Bytes", put.body.len().to_string()), ("ChecksumSHA256", checksum), ("VersionID", "v7".into())];
    assert_eq!(published.details, details.map(|(name, value)| (name.to_owned(), value)).into());
    assert_eq!(published.uri, format!("src=s3://b/{key},opt=endpoint={},opt=versionID=v7", fake.endpoint));
    assert_eq!(world.publish(&to(&fake, "results/{jobID}", "")).await.unwrap(), published, "once more is the same");
}

#[tokio::test]
async fn plain_files_are_objects_and_a_large_one_goes_in_equal_parts() {
    let world = World::new(vec![7; LARGE]).await;
    let fake = Fake::start(|asked| bucket(asked, usize::MAX)).await;
    let published = world.publish(&to(&fake, "r", "plain")).await.unwrap();
    assert_eq!(published.uri, format!("src=s3://b/r/,opt=endpoint={}", fake.endpoint));
    assert_eq!(published.details["Objects"], "3");
    let uploaded = uploaded(&fake);
    let sizes = |file: &str| -> Vec<usize> {
        let path = format!("/b/r/{file}?");
        uploaded.iter().filter(|asked| asked.path.starts_with(&path)).map(|asked| asked.body.len()).collect()
    };
    assert_eq!(sizes("stdout"), [8 << 20, 8 << 20, LARGE - (16 << 20)]);
    assert_eq!((sizes("exitCode"), sizes("stderr")), (vec![1], vec![0]));
    let completed = fake.all().into_iter().find(|asked| asked.method == "POST" && asked.path.contains("uploadId=u1"));
    let completed = String::from_utf8(completed.unwrap().body).unwrap();
    assert!(completed.contains("<PartNumber>3</PartNumber>") && completed.contains("ChecksumSHA256"), "{completed}");
}

#[tokio::test]
async fn an_upload_that_fails_is_aborted() {
    let world = World::new(vec![7; LARGE]).await;
    let fake = Fake::start(|asked| bucket(asked, 1)).await;
    let error = world.publish(&to(&fake, "r", "plain")).await.unwrap_err().to_string();
    assert!(error.contains("s3://b/r/stdout: access is denied"), "{error}");
    let asked = fake.asked();
    assert!(asked.iter().any(|asked| asked.starts_with("DELETE /b/r/stdout?") && asked.contains("uploadId=u1")));
    assert!(!asked.iter().any(|asked| asked.starts_with("POST /b/r/stdout?uploadId")), "{asked:?}");
}

#[tokio::test]
async fn keys_are_filled_in_as_bacalhau_does() {
    let world = World::new("said").await;
    let (job, execution, worker) = (JobId([1; 16]), ExecutionId([2; 16]), PeerId([3; 32]));
    let publisher = Publisher::Noop;
    let filled = |template: &str, plain: bool| {
        let to = S3Publisher { key: template.into(), ..S3Publisher::default() };
        key(&to, &publication(&publisher, world.result.content, (0, 1)), plain)
    };
    let table = [
        ("{date}/{time}", false, "20240205/060708.tar.gz".to_owned()),
        ("x.tar.gz", false, "x.tar.gz".to_owned()),
        ("{jobID}/{executionID}", true, format!("{job}/{execution}/")),
        ("{nodeID}/", true, format!("{worker}/")),
    ];
    for (template, plain, expected) in table {
        assert_eq!(filled(template, plain), expected);
    }
    for (place, bytes) in S3Publisher::PLACEHOLDERS {
        assert_eq!(filled(place, true).len(), bytes + 1, "{place}");
    }
}
