//! What a node says of itself when a connection begins: `shoal/0.1.0 protocol/6 start/…`.

const PROGRAM: &str = "shoal/";
const PROTOCOL: &str = "protocol/";

/// The description of a node that speaks this version of the protocol and was started just now.
pub(super) fn describe(protocol: u8) -> String {
    // The start differs each time, so that peers notice a new one even if it comes within a second of the last.
    let start = getrandom::u64().unwrap_or_default();
    format!("{PROGRAM}{} {} start/{start:016x}", env!("CARGO_PKG_VERSION"), protocol_word(protocol))
}

/// The word that names the protocol's version.
pub(super) fn protocol_word(version: u8) -> String {
    format!("{PROTOCOL}{version}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_of_itself_is_understood() {
        let agent = describe(6);
        assert_eq!((build(&agent).as_deref(), protocol(&agent)), (Some(env!("CARGO_PKG_VERSION")), Some(6)));
        assert!(agent.starts_with(&agent.chars().take(super::super::task::MAX_AGENT_CHARS).collect::<String>()));
        assert!(agent.len() <= super::super::task::MAX_AGENT_CHARS, "the start is at its end");
    }

    #[test]
    fn who_names_no_version_has_none() {
        for agent in ["", "kubo/0.30", "shoal/", "shoal/ start/1"] {
            assert_eq!((build(agent), protocol(agent)), (None, None), "{agent}");
        }
        for agent in ["shoal/0.1.0 start/00ff", "shoal/0.1.0 protocol/", "shoal/0.1.0 protocol/256"] {
            assert_eq!((build(agent).as_deref(), protocol(agent)), (Some("0.1.0"), None), "{agent}");
        }
    }
}
