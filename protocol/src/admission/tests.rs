//! Announcements and work against what an operator allows.

use std::collections::BTreeMap;

use super::*;
use crate::job::spec::NetworkKind;
use crate::message::{ExecutorKind, ImageSource, NeededImage, Resources};
use crate::task::{ContentKind, Docker, Image, ImageOrigin, Limits, Mount, Unread};

const FRIEND: PeerId = PeerId([1; 32]);
const STRANGER: PeerId = PeerId([2; 32]);
const ID: ImageId = ImageId([3; 32]);
const BLOB: BlobHash = BlobHash([4; 32]);

fn content(byte: u8) -> Content {
    Content { hash: BlobHash([byte; 32]), kind: ContentKind::Raw }
}

fn needs(image: &str) -> Needs {
    Needs {
        executor: ExecutorKind::Docker,
        profile: "linux/amd64".into(),
        resources: Resources::default(),
        inputs: vec![(content(1), 10), (content(2), 5)],
        input_bytes: 15,
        constraints: Vec::new(),
        sources: Vec::new(),
        image: Some(NeededImage { id: ID, source: ImageSource::Nowhere, bytes: 0 }),
        network: NetworkKind::None,
        image_name: image.into(),
        data: 1,
        data_bits: 0b10,
    }
}

fn invocation(origin: ImageOrigin, inputs: &[u8]) -> Invocation {
    let docker = Docker::of(Image { id: ID, origin });
    let mount = |byte: &u8| Mount { target: format!("/in/{byte}"), content: content(*byte) };
    Invocation {
        engine: Engine::Docker(docker),
        environment: BTreeMap::new(),
        inputs: inputs.iter().map(mount).collect(),
        unread: Vec::new(),
        result_paths: Vec::new(),
        limits: Limits { memory_bytes: 1, fuel: 0, output_bytes: 1 },
    }
}

fn images(allow: &[&str], deny: &[&str]) -> Admission {
    let list = |patterns: &[&str]| patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
    Admission { allow_images: list(allow), deny_images: list(deny), ..Admission::default() }
}

#[test]
fn an_image_runs_if_it_is_allowed_and_not_denied() {
    let (id, blob) = (ID.to_string(), format!("blob://{BLOB}"));
    let table: [(&[&str], &[&str], &str, bool); 12] = [
        (&[], &[], "anything", true),
        (&["busybox:*"], &[], "busybox:1.37", true),
        (&["busybox:*"], &[], "alpine", false),
        (&["busybox:*"], &[], "", false),
        (&["busybox:*"], &["busybox:1.36"], "busybox:1.36", false),
        (&["*"], &["ghcr.io/*"], "ghcr.io/ann/tool", false),
        (&["*"], &["ghcr.io/*"], "busybox", true),
        (&[&id], &[], "whatever it is called", true),
        (&[], &[&id], "busybox", false),
        (&[&blob], &[], &blob, true),
        (&["busybox"], &[], &blob, false),
        (&[], &["*"], "busybox", false),
    ];
    for (allow, deny, name, expected) in table {
        let answer = images(allow, deny).announced(STRANGER, &needs(name), true);
        let reason = Reason::Image(name.into());
        assert_eq!(answer, if expected { Ok(()) } else { Err(reason) }, "{allow:?} {deny:?} {name}");
    }
}

#[test]
fn requesters_are_allowed_unless_they_are_blocked() {
    let listed = |allow: &[PeerId], block: &[PeerId]| Admission {
        allow_requesters: allow.iter().copied().collect(),
        block_requesters: block.iter().copied().collect(),
        ..Admission::default()
    };
    let answer = |admission: Admission| [FRIEND, STRANGER].map(|peer| admission.requester(peer).is_ok());
    assert_eq!(answer(listed(&[], &[])), [true, true]);
    assert_eq!(answer(listed(&[FRIEND], &[])), [true, false]);
    assert_eq!(answer(listed(&[], &[STRANGER])), [true, false]);
    assert_eq!(answer(listed(&[FRIEND], &[FRIEND])), [false, false]);
    assert_eq!(listed(&[FRIEND], &[]).announced(STRANGER, &needs(""), true), Err(Reason::Requester));
}

#[test]
fn a_job_is_stateless_if_it_reads_nothing_but_its_program() {
    let strict = Admission { reject_stateless: true, ..Admission::default() };
    let program_only = Needs { data: 0, data_bits: 0, ..needs("busybox") };
    assert_eq!(strict.announced(STRANGER, &program_only, true), Err(Reason::Stateless));
    assert_eq!(strict.announced(STRANGER, &needs("busybox"), false), Ok(()));
    let reads = Needs { sources: vec![SourceKind::S3], ..program_only };
    assert_eq!(strict.announced(STRANGER, &reads, true), Ok(()));
}

#[test]
fn local_data_is_all_named_and_all_here() {
    let strict = Admission { locality: Locality::Local, ..Admission::default() };
    let with = |sources: &[SourceKind], data| Needs { sources: sources.to_vec(), data, ..needs("busybox") };
    let table = [
        (with(&[], 1), true, true),
        (with(&[], 1), false, false),
        (with(&[], 2), true, false),
        (with(&[SourceKind::Local], 1), true, true),
        (with(&[SourceKind::Local, SourceKind::Url], 1), true, false),
    ];
    for (needs, data_here, expected) in table {
        assert_eq!(strict.announced(STRANGER, &needs, data_here).is_ok(), expected, "{needs:?} {data_here}");
    }
}

#[test]
fn work_that_is_not_what_was_announced_is_seen() {
    let blob = format!("blob://{BLOB}");
    let plain = invocation(ImageOrigin::Engine, &[2]);
    let no_rules = Admission::default();
    let awarded = |admission: &Admission, name: &str, invocation: &Invocation| {
        admission.awarded(&Announced::of(&needs(name)), invocation).is_ok()
    };
    assert!(awarded(&no_rules, "busybox", &plain));
    assert!(awarded(&no_rules, &blob, &invocation(ImageOrigin::Blob(BLOB), &[])));
    assert!(!awarded(&no_rules, &blob, &plain), "another origin");
    let other = Announced { image: Some(ImageId([9; 32])), ..Announced::default() };
    assert!(no_rules.awarded(&other, &plain).is_err(), "another image");
    assert!(no_rules.awarded(&Announced::default(), &plain).is_err(), "an image where none was announced");

    let stateful = Admission { reject_stateless: true, ..Admission::default() };
    assert!(awarded(&stateful, "busybox", &plain));
    assert!(!awarded(&stateful, "busybox", &invocation(ImageOrigin::Engine, &[])));
    let unread = vec![Unread { target: "/in".into(), source: "{}".into() }];
    assert!(awarded(&stateful, "busybox", &Invocation { unread, ..invocation(ImageOrigin::Engine, &[]) }));

    let local = Admission { locality: Locality::Local, ..Admission::default() };
    assert!(awarded(&local, "busybox", &plain));
    assert!(!awarded(&local, "busybox", &invocation(ImageOrigin::Engine, &[2, 3])));
}

#[test]
fn names_matter_only_where_a_list_has_some() {
    assert!(!images(&["*", &ID.to_string()], &[&format!("blob://{BLOB}")]).names_matter());
    assert!(images(&[], &["busybox"]).names_matter());
}
