//! What a node says of itself when a connection begins: `shoal/0.1.0 protocol/7 start/…`.

const PROGRAM: &str = "shoal/";
const PROTOCOL: &str = "protocol/";
const START: &str = "start/";

/// The description of a node that speaks this version of the protocol. `start` differs each time it is started, so that
/// peers notice a new one even if it comes within a second of the last.
pub(super) fn describe(protocol: u8, start: u64) -> String {
    format!("{PROGRAM}{} {} {}", env!("CARGO_PKG_VERSION"), protocol_word(protocol), start_word(start))
}

/// The word that names the protocol's version.
pub(super) fn protocol_word(version: u8) -> String {
    format!("{PROTOCOL}{version}")
}

/// The word that names a start.
pub(super) fn start_word(start: u64) -> String {
    format!("{START}{start:016x}")
}

/// The version of the build.
pub(super) fn build(agent: &str) -> Option<String> {
    let version = agent.strip_prefix(PROGRAM)?.split(' ').next()?;
    (!version.is_empty()).then(|| version.to_owned())
}

/// The version of the protocol.
pub(super) fn protocol(agent: &str) -> Option<u8> {
    agent.split(' ').find_map(|word| word.strip_prefix(PROTOCOL))?.parse().ok()
}

/// The start.
pub(super) fn start(agent: &str) -> Option<u64> {
    u64::from_str_radix(agent.split(' ').find_map(|word| word.strip_prefix(START))?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_of_itself_is_understood() {
        let agent = describe(6, 77);
        assert_eq!((build(&agent).as_deref(), protocol(&agent)), (Some(env!("CARGO_PKG_VERSION")), Some(6)));
        assert_eq!((start(&agent), start(&start_word(u64::MAX))), (Some(77), Some(u64::MAX)));
        assert!(agent.starts_with(&agent.chars().take(super::super::task::MAX_AGENT_CHARS).collect::<String>()));
        assert!(agent.len() <= super::super::task::MAX_AGENT_CHARS, "the start is at its end");
    }

    #[test]
    fn who_names_no_version_has_none() {
        for agent in ["", "kubo/0.30", "shoal/", "shoal/ start/x"] {
            assert_eq!((build(agent), protocol(agent), start(agent)), (None, None, None), "{agent}");
        }
        for agent in ["shoal/0.1.0 start/00ff", "shoal/0.1.0 protocol/", "shoal/0.1.0 protocol/256"] {
            assert_eq!((build(agent).as_deref(), protocol(agent)), (Some("0.1.0"), None), "{agent}");
        }
    }
}
