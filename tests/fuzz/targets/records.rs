//! What members, newcomers and relays say outside of gossip is read or refused, and what is read has one form only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shoal_protocol::id::{MeshId, MeshKey, PeerId};
use shoal_protocol::invitation::{Answer, Request};
use shoal_protocol::membership::{Authority, Hello, News, Revocations};
use shoal_protocol::relay::{Announcement, RelayAddress};
use shoal_protocol::time::Time;
use shoal_protocol::wire;

const NOW: Time = Time(1_800_000_000_000);

fuzz_target!(|bytes: &[u8]| {
    let mesh = Authority::new("home", MeshKey([1; 32]));
    if let Some(hello) = read::<Hello>(bytes) {
        // Nobody signed it.
        assert!(mesh.check(&hello.certificate, PeerId([2; 32]), NOW).is_err());
    }
    if let Some(news) = read::<News>(bytes) {
        assert_eq!(Revocations::default().learn(&mesh, news.revoked, NOW), []);
    }
    read::<Request>(bytes);
    read::<Answer>(bytes);
    if let Some(announcement) = read::<Announcement>(bytes) {
        assert!(announcement.check(MeshId([0; 32]), NOW).is_err());
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(address) = text.parse::<RelayAddress>()
    {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
});

fn read<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value = wire::parse(bytes).ok()?;
    assert_eq!(wire::canonical(&value), bytes);
    Some(value)
}
