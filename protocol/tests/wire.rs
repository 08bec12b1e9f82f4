//! The wire format, byte for byte: a folder for each version, and one of what the next version might say. A change of
//! what is there is a change of the protocol.
//!
//! `SHOAL_BLESS=1 cargo test -p shoal-protocol --test wire` writes the folder of this version anew. A released version's
//! folder stays as it is: the next version gets its own, and reads this one's messages as well.

use std::path::PathBuf;

use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use shoal_protocol::commitment::{Commitment, Salt};
use shoal_protocol::id::{BlobHash, ExecutionId, ImageId, InvocationId, JobId, MeshId, MeshKey, PeerId};
use shoal_protocol::invitation::{Answer, Refusal, Secret};
use shoal_protocol::job::spec::NetworkKind;
use shoal_protocol::limits::{MAX_DIRECT_BYTES, MAX_GOSSIP_BYTES, VERSION};
use shoal_protocol::membership::{Authority, Hello, News, Revocations};
use shoal_protocol::message::*;
use shoal_protocol::task::{Account, Claim, Content, ContentKind, Failure, Outcome, Trap};
use shoal_protocol::time::Time;
use shoal_protocol::trace::{Checkpoint, Rerun, TraceRequest, Window};
use shoal_protocol::wire::{Dialect, OWN, OpenError, Unread, canonical, known_part, open, seal};

const JOB: JobId = JobId([1; 16]);
const EXECUTION: ExecutionId = ExecutionId([2; 16]);
const RECEIVER: PeerId = PeerId([3; 32]);

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn mesh() -> MeshId {
    MeshId::of("golden")
}

fn contact() -> Contact {
    Contact { addresses: vec!["192.0.2.7:4433".parse().unwrap()], relay: Some("https://relay.example".into()) }
}

fn resources() -> Resources {
    Resources { cpu_millis: 500, memory_bytes: 512_000_000, disk_bytes: 1 << 30, gpus: 0 }
}

fn account() -> Account {
    let (fuel, memory_bytes, calls) = (1_000_000, 65_536, 12);
    Account {
        fuel,
        memory_bytes,
        calls,
        calls_digest: [17; 32],
        inputs: vec![BlobHash([21; 32])],
        backtrace: "main\n_start".into(),
    }
}

/// One of each, with every field set.
fn messages() -> Vec<Message> {
    let (job, execution) = (JOB, EXECUTION);
    let constraint = Constraint { key: "zone".into(), operator: Operator::In, values: vec!["eu".into(), "us".into()] };
    let content = Content { hash: BlobHash([4; 32]), kind: ContentKind::Collection };
    let needs = Needs {
        executor: ExecutorKind::Wasm,
        profile: "wasm-1".into(),
        resources: resources(),
        inputs: vec![(content, 1_000_000)],
        input_bytes: 1_100_000,
        constraints: vec![constraint],
        sources: vec![SourceKind::S3, SourceKind::Local],
        image: Some(NeededImage { id: ImageId([22; 32]), source: ImageSource::Registry, bytes: 50_000_000 }),
        network: NetworkKind::Http,
        image_name: "busybox:1.37".into(),
        data: 2,
        data_bits: 1,
    };
    let announce = Announce {
        job,
        at: Time(1_800_000_000_000),
        round: 1,
        wanted: 3,
        partitions: 1,
        excluded: vec![[5; 6]],
        work: BlobHash([6; 32]),
        needs,
        window_ms: 12,
        level: 0,
        mesh_size: 5,
        refusals: 16,
        contact: contact(),
    };
    let claim = Claim { outcome: Outcome::Trapped(Trap::OutOfFuel), result: BlobHash([8; 32]) };
    let invocation = InvocationId([9; 32]);
    let (partition, attempt, nonce, work) = (2, 4, 11, vec![12, 13, 14]);
    let award = Award { job, execution, partition, attempt, nonce, work, resources: resources(), contact: contact() };
    let calls = Window { from: 100, to: 130, points: 3 };
    let request = TraceRequest { calls, checkpoints: calls, call: Some(101), checkpoint: Some(102) };
    let backtrace = "main\n_start".to_owned();
    let trace = shoal_protocol::trace::Trace {
        calls: vec![[18; 8]; 3],
        checkpoints: vec![[19; 8]; 2],
        checkpoints_passed: 121,
        call: Some("fd_write(fd: 1) = 0".into()),
        checkpoint: Some(Checkpoint { fuel: 10_000_000, calls: 55, memory_bytes: 65_536, backtrace }),
    };
    let amount = Amount { done_bytes: 1_000, total_bytes: 50_000_000 };
    let rerun = Box::new(Rerun { claim, account: account(), trace });
    vec![
        Message::Announce(announce),
        Message::Bid(Bid {
            job,
            round: 1,
            slots: 2,
            cost: 77,
            operator: Some("ann".into()),
            contact: contact(),
            waited_ms: 9,
        }),
        Message::Refuse(Refuse { job, round: 1, reason: Reason::TooLarge(Resource::Memory, 8 << 30, 4 << 30) }),
        Message::Award(award.clone()),
        Message::Progress(Progress { job, execution, stage: Stage::Preparing, amount: Some(amount) }),
        Message::Fail(Fail { job, execution, failure: Failure::HostFailed("disk full".into()) }),
        Message::Commit(Commit { job, execution, commitment: Commitment([15; 32]), run_ms: 1_234 }),
        Message::RevealPlease(RevealPlease { job, execution }),
        Message::Reveal(Reveal {
            job,
            execution,
            invocation,
            claim,
            salt: Salt([16; 32]),
            result_bytes: 4_096,
            account: account(),
        }),
        Message::Settle(Settle { job, execution, ending: Ending::Agreed { keep_ms: 604_800_000 } }),
        Message::TracePlease(TracePlease { award, number: 20, request }),
        Message::Trace(Trace { job, execution, number: 20, answer: TraceAnswer::Done(rerun) }),
    ]
}

fn sealed(message: &Message) -> Vec<u8> {
    let to = (!message.is_gossip()).then_some(RECEIVER);
    seal(&key(), mesh(), to, message.clone()).bytes().to_vec()
}

#[test]
fn every_message_keeps_its_bytes() {
    for message in messages() {
        keeps_its_bytes(message.name(), &sealed(&message));
    }
}

fn keeps_its_bytes(name: &str, bytes: &[u8]) {
    keeps_its_bytes_in(&VERSION.to_string(), name, bytes);
}

fn keeps_its_bytes_in(folder: &str, name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{folder}/{name}.hex"));
    let hex = data_encoding::HEXLOWER.encode(bytes);
    if std::env::var_os("SHOAL_BLESS").is_some() {
        std::fs::write(&path, format!("{hex}\n")).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(hex, golden.trim(), "{name} has changed on the wire");
}

#[test]
fn what_members_of_a_private_mesh_say_keeps_its_bytes() {
    let authority = Authority::new("golden", MeshKey(key().verifying_key().to_bytes()));
    let at = Time(1_800_000_000_000);
    let (certificate, revocation) = (authority.certify(&key(), RECEIVER, at), authority.revoke(&key(), RECEIVER, at));
    let hello = Hello { certificate, renews: true, revoked: Revocations::default().digest() };
    let news = News { certificate: Some(certificate), revoked: vec![revocation] };
    let request = Secret([18; 16]).request(&[19; 32]);
    let answers = [Answer::Welcome { certificate, revoked: vec![revocation] }, Answer::Refused(Refusal::UsedUp(3))];
    keeps_its_bytes("hello", &canonical(&hello));
    keeps_its_bytes("news", &canonical(&news));
    keeps_its_bytes("revocation", &canonical(&revocation));
    keeps_its_bytes("join-request", &canonical(&request));
    keeps_its_bytes("join-answers", &canonical(&answers));
}

#[test]
fn what_was_sealed_opens_again() {
    for message in messages() {
        let bytes = sealed(&message);
        let opened = open(mesh(), &bytes).unwrap_or_else(|error| panic!("{}: {error}", message.name()));
        assert_eq!(opened.message(), &message);
        assert_eq!(opened.from().0, key().verifying_key().to_bytes());
        assert_eq!(opened.to().is_none(), message.is_gossip());
    }
}

#[test]
fn an_announcement_fits_into_a_kilobyte() {
    let bytes = sealed(&messages()[0]);
    assert!(bytes.len() <= MAX_GOSSIP_BYTES, "{} bytes", bytes.len());
}

#[test]
fn no_bit_can_be_changed() {
    for message in messages() {
        let bytes = sealed(&message);
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert!(open(mesh(), &changed).is_err(), "{} with another byte {index}", message.name());
        }
    }
}

/// What the next version might say: every message with something after it, and one that this version does not know.
const NEXT: Dialect =
    Dialect { version: VERSION + 1, write: with_more, read: known_part, read_before: Some(known_part) };

fn with_more(message: &Message) -> Vec<u8> {
    [canonical(message), vec![5, 1, 2, 3, 4, 5]].concat()
}

#[test]
fn what_the_next_version_adds_to_a_message_is_passed_over() {
    for message in messages() {
        if let Message::Award(_) = message {
            continue;
        }
        let to = (!message.is_gossip()).then_some(RECEIVER);
        let longer = NEXT.seal(&key(), mesh(), to, message.clone());
        keeps_its_bytes_in("next", message.name(), longer.bytes());
        let opened = open(mesh(), longer.bytes()).unwrap_or_else(|error| panic!("{}: {error}", message.name()));
        assert_eq!(opened.message(), &message);
        assert_eq!(opened.bytes(), longer.bytes(), "it is passed on as it came");
    }
}

#[test]
fn a_kind_of_message_that_only_the_next_version_knows_is_told_from_a_forged_one() {
    let unknown = Dialect { write: |_| vec![100, 1, 2, 3], ..NEXT };
    let said = unknown.seal(&key(), mesh(), Some(RECEIVER), messages().remove(4));
    keeps_its_bytes_in("next", "unknown", said.bytes());
    let Err(OpenError::Unread { envelope, why }) = open(mesh(), said.bytes()) else { panic!("it cannot be read") };
    assert_eq!((envelope.version, envelope.to, why), (VERSION + 1, Some(RECEIVER), Unread::Strange));
    assert_eq!(open(MeshId::of("other"), said.bytes()).unwrap_err(), OpenError::Signature);
}

#[test]
fn a_message_of_another_mesh_version_or_size_is_refused() {
    let bytes = sealed(&messages()[4]);
    assert_eq!(open(MeshId::of("other"), &bytes).unwrap_err(), OpenError::Signature);
    assert_eq!(open(mesh(), &[&[9], &bytes[1..]].concat()).unwrap_err(), OpenError::Signature);
    let far = Dialect { version: 9, ..OWN }.seal(&key(), mesh(), Some(RECEIVER), messages().remove(4));
    assert_eq!(unread(far.bytes()), Unread::Strange);
    assert_eq!(open(mesh(), &bytes[..50]).unwrap_err(), OpenError::Short);
    let long = vec![1; MAX_DIRECT_BYTES + 1];
    assert_eq!(open(mesh(), &long).unwrap_err(), OpenError::Large(long.len()));
}

#[test]
fn gossip_has_no_receiver_and_direct_messages_have_one() {
    let wrong = seal(&key(), mesh(), Some(RECEIVER), messages().remove(0));
    assert_eq!(unread(wrong.bytes()), Unread::WrongWay);
    let wrong = seal(&key(), mesh(), None, messages().remove(4));
    assert_eq!(unread(wrong.bytes()), Unread::WrongWay);
}

#[test]
fn a_bound_that_the_encoding_does_not_set_is_checked() {
    let Message::Announce(announce) = messages().remove(0) else { panic!("the first is an announcement") };
    let broken = [
        Announce { window_ms: u32::MAX, ..announce.clone() },
        Announce { excluded: vec![[0; 6]; 33], ..announce.clone() },
        Announce { needs: Needs { profile: "x".repeat(201), ..announce.needs.clone() }, ..announce.clone() },
        Announce { needs: Needs { image_name: "x".repeat(201), ..announce.needs.clone() }, ..announce.clone() },
        Announce { contact: Contact { addresses: vec!["1.1.1.1:1".parse().unwrap(); 5], relay: None }, ..announce },
    ];
    for announce in broken {
        let sealed = seal(&key(), mesh(), None, Message::Announce(announce));
        assert!(matches!(unread(sealed.bytes()), Unread::OutOfBounds(_)));
    }
}

/// Why a message cannot be read whose signature is right.
fn unread(bytes: &[u8]) -> Unread {
    match open(mesh(), bytes) {
        Err(OpenError::Unread { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

/// A payload that a peer has signed, whatever it is.
fn signed(version: u8, gossip: bool, payload: &[u8]) -> Vec<u8> {
    use ed25519_dalek::Signer;
    let (key, to) = (key(), if gossip { [0; 32] } else { RECEIVER.0 });
    let signature = key.sign(&[&b"shoal 1 message"[..], &[version], &mesh().0, &to, payload].concat());
    [&[version][..], &key.verifying_key().to_bytes(), &to, &signature.to_bytes(), payload].concat()
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(open(mesh(), &bytes).is_err());
    }

    /// Signed by a peer that means harm: the signature is right, the message is anything.
    #[test]
    fn signed_nonsense_never_panics(
        payload in prop::collection::vec(any::<u8>(), 0..400),
        gossip in any::<bool>(),
        version in VERSION - 1..=VERSION + 2,
    ) {
        // Either it is refused, or it begins with the canonical form of what it says.
        if let Ok(opened) = open(mesh(), &signed(version, gossip, &payload)) {
            let said = canonical(opened.message());
            prop_assert!(payload.starts_with(&said));
            prop_assert!(payload == said || version == VERSION + 1);
        }
    }

    /// Only the next version may say more than this one knows.
    #[test]
    fn what_follows_a_message_is_malformed_in_this_version_and_passed_over_in_the_next(
        which in 0..messages().len(),
        more in prop::collection::vec(any::<u8>(), 1..100),
    ) {
        let message = messages().swap_remove(which);
        let payload = [canonical(&message), more].concat();
        let own = signed(VERSION, message.is_gossip(), &payload);
        prop_assert_eq!(unread(&own), Unread::Malformed);
        let next = open(mesh(), &signed(VERSION + 1, message.is_gossip(), &payload));
        match message {
            // The work of the example is none that could be read.
            Message::Award(_) => prop_assert!(next.is_err()),
            _ => prop_assert_eq!(next.map(|sealed| sealed.into_message()), Ok(message)),
        }
    }
}
