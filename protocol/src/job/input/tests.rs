use proptest::prelude::*;

use super::*;
use crate::job::units::Seconds;
use crate::task::Content;

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn file(path: &str) -> Source {
    Source::LocalDirectory(LocalSource { source_path: path.into(), ..LocalSource::default() })
}

fn web(url: &str) -> Source {
    Source::UrlDownload(UrlSource { url: url.into(), ..UrlSource::default() })
}

fn ipfs(cid: &str) -> Source {
    Source::Ipfs(IpfsSource { cid: cid.into() })
}

fn content(kind: ContentKind) -> Source {
    Source::Blob(Content { hash: HASH.parse().unwrap(), kind }.into())
}

#[test]
fn inputs_are_read_in_short_and_long_form() {
    let s3 = S3Source { bucket: "b".into(), key: "k/x".into(), ..S3Source::default() };
    let with_region = S3Source { region: "eu".into(), ..s3.clone() };
    let with_version = S3Source { version_id: "3".into(), ..s3.clone() };
    let by = S3Partition { by: S3PartitionBy::Substring, start_index: 2, end_index: 5, ..S3Partition::default() };
    let by_part = S3Source { partition: by, ..s3.clone() };
    let by = S3Partition { by: S3PartitionBy::Date, date_format: "2006-01".into(), ..S3Partition::default() };
    let by_date = S3Source { partition: by, ..s3.clone() };
    let bucket = |source| Source::S3(Box::new(source));
    let table = [
        ("data.txt", file("data.txt"), "/inputs"),
        ("./data:/in", file("./data"), "/in"),
        ("file:///etc/hosts:/hosts", file("/etc/hosts"), "/hosts"),
        ("file:///etc/hosts", file("/etc/hosts"), "/inputs"),
        ("ipfs://bafy", ipfs("bafy"), "/inputs"),
        ("ipfs://bafy:/data", ipfs("bafy"), "/data"),
        ("ipfs://bafy/a/b c:/data", ipfs("bafy/a/b c"), "/data"),
        ("ipns://docs.example/intro:/data", ipfs("ipns://docs.example/intro"), "/data"),
        ("https://x.org/a.txt", web("https://x.org/a.txt"), "/inputs"),
        ("https://x.org:8080/a", web("https://x.org:8080/a"), "/inputs"),
        ("http://x.org:8080/a:/in", web("http://x.org:8080/a"), "/in"),
        ("s3://b/k/x:/in", bucket(s3.clone()), "/in"),
        ("S3://b/k/x", bucket(s3), "/inputs"),
        (HASH, content(ContentKind::Raw), "/inputs"),
        (&format!("{HASH}/:/in"), content(ContentKind::Collection), "/in"),
        (&format!("blob://{HASH}:/in"), content(ContentKind::Raw), "/in"),
        (&format!("src=blob://{HASH},dst=/in,opt=kind=folder"), content(ContentKind::Collection), "/in"),
        ("src=ipfs://bafy,dst=/data", ipfs("bafy"), "/data"),
        ("source=https://x.org/?a=b,target=/t", web("https://x.org/?a=b"), "/t"),
        ("destination=/d,Source=a.txt", file("a.txt"), "/d"),
        ("src=s3://b/k/x,opt=region=eu", bucket(with_region), "/inputs"),
        ("src=s3://b/k/x,option=versionID=3", bucket(with_version), "/inputs"),
        ("src=s3://b/k/x,opt=partition=Substring,opt=start-index=2,opt=end-index=5", bucket(by_part), "/inputs"),
        ("src=s3://b/k/x,dst=/in,opt=partition=date,opt=date-format=2006-01", bucket(by_date), "/in"),
        ("data:text/plain,hello", Source::Inline(InlineSource { url: "data:text/plain,hello".into() }), "/inputs"),
    ];
    for (text, source, target) in table {
        let expected = InputSource { source, alias: String::new(), target: target.into(), resolve: Resolve::Requester };
        assert_eq!(input(text), Ok(expected), "{text}");
    }
}

#[test]
fn a_local_input_may_be_writable() {
    let read = input("src=/d,opt=rw=true").unwrap();
    assert!(read.source.is_written());
    assert_eq!(read.resolve, Resolve::Worker, "where the program runs");
}

#[test]
fn wrong_inputs_say_what_to_write() {
    let table = [
        ("", "is not an input"),
        ("ftp://x", "has an unknown scheme"),
        ("src=,dst=/a", "is not an input"),
        ("dst=/a", "is not an input"),
        ("src=a,what=b", "is not an input"),
        ("blob://12", "is not a blob"),
        ("blob://12/a", "is not a blob"),
        ("src=ipfs://a,opt=x=y", "'x' is no option of ipfs inputs; known are none"),
        ("src=s3://a/b,opt=partition=colour", "'colour' is not a partition: write opt=partition=object"),
        ("src=s3://a/b,opt=start-index=-1", "'-1' is not a partition: write opt=start-index=0"),
        ("src=s3://a/b,opt=colour=red", "'colour' is no option of s3 inputs; known are endpoint"),
        ("src=a,opt=rw=perhaps", "'rw' is no option of file inputs; known are rw=true"),
    ];
    for (text, part) in table {
        let error = input(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn an_import_module_needs_its_name() {
    assert_eq!(import_module("lib/math.wasm:math").unwrap().target, "math");
    assert!(import_module("math.wasm").unwrap_err().to_string().contains("math.wasm:math"));
}

#[test]
fn publishers_are_read_by_name_or_uri() {
    let s3 = S3Publisher { bucket: "b".into(), key: "k/{jobID}".into(), ..S3Publisher::default() };
    let with_region = S3Publisher { region: "eu".into(), endpoint: "http://e".into(), ..s3.clone() };
    let week = BlobPublisher { retention: Some(Seconds(7 * 86_400)) };
    let table = [
        ("blob", Publisher::Blob(BlobPublisher::default())),
        ("blob,opt=retention=7d", Publisher::Blob(week)),
        ("local", Publisher::Local),
        ("ipfs", Publisher::Ipfs),
        ("ipfs://", Publisher::Ipfs),
        ("s3managed", Publisher::S3Managed),
        ("s3://b/k/{jobID}", Publisher::S3(s3)),
        ("s3://b/k/{jobID},opt=region=eu,opt=endpoint=http://e", Publisher::S3(with_region)),
    ];
    for (text, expected) in table {
        assert_eq!(publisher(text), Ok(expected), "{text}");
    }
    for text in ["", "gopher", "local,opt=a=b", "s3://b/k,region=eu", "s3://b/k,opt=colour=red"] {
        assert!(publisher(text).is_err(), "{text}");
    }
    let wrong = publisher("blob,opt=retention=soon").unwrap_err().to_string();
    assert!(wrong.contains("'soon' is not a length of time"), "{wrong}");
    let unknown = publisher("blob,opt=keep=7d").unwrap_err().to_string();
    assert!(unknown.contains("'keep' is no option of blob"), "{unknown}");
}

#[test]
fn pairs_are_read_at_their_first_sign() {
    assert_eq!(result_path("out:/a:b"), Ok(ResultPath { name: "out".into(), path: "/a:b".into() }));
    assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
    assert_eq!(template_variable("a="), Ok(("a".into(), String::new())));
    assert_eq!(labels("a=1, b=2"), Ok(vec![("a".into(), "1".into()), ("b".into(), "2".into())]));
    assert!(result_path("out").is_err() && result_path(":/x").is_err() && result_path("x:").is_err());
    assert!(variable("A").is_err() && variable("=x").is_err() && labels("a=1,b").is_err());
}

proptest! {
    #[test]
    fn no_text_panics(text in "((src|dst|opt|=|,|:|//|s3|blob|file|data|/|[0-9a-f]{64})|\\PC){0,12}") {
        let _ = (input(&text), publisher(&text), import_module(&text), result_path(&text), labels(&text));
    }
}
