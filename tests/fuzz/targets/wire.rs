//! Whatever a peer sends is opened or refused, and what opens is canonical, or begins so if it is of the next version.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shoal_protocol::id::MeshId;
use shoal_protocol::message::Message;
use shoal_protocol::task::Work;
use shoal_protocol::wire;

fuzz_target!(|bytes: &[u8]| {
    let _ = wire::open(MeshId([0; 32]), bytes);
    // Behind the signature, which no fuzzer gets past.
    if let Ok(message) = wire::parse::<Message>(bytes) {
        let _ = message.check();
        assert_eq!(wire::canonical(&message), bytes);
    }
    if let Ok(message) = wire::known_part(bytes) {
        let _ = message.check();
        assert!(bytes.starts_with(&wire::canonical(&message)));
    }
    let _ = wire::parse::<Work>(bytes);
});
