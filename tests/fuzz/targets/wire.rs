//! Whatever a peer sends is opened or refused, and what opens is canonical.
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
    let _ = wire::parse::<Work>(bytes);
});
