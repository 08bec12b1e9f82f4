//! What a node does wrong on purpose, in tests. Release builds have no such thing.

/// What a node does wrong on purpose, in tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Its results differ from everybody's.
    LieAlone,
    /// Its results are wrong, and the same as those of all who do this.
    LieTogether,
    /// It is killed once it has saved this step of one of its own jobs, before it says anything of it.
    DieAfter(shoal_protocol::record::Step),
    /// It is killed once a result is on its disk, before it takes note of that.
    DieCollecting,
    /// Its programs see something else than everybody's, as on a machine with a fault.
    Diverge,
    /// It sends something else than the blobs that it is asked for.
    ServeCorrupt,
    /// Its clock is ten minutes ahead.
    ClockAhead,
    /// It speaks another version of the protocol, in which awards may be something that this build cannot read.
    Speak {
        /// The version.
        version: u8,
        /// Whether they are.
        new_awards: bool,
    },
}

/// What `SHOAL_TEST_MISBEHAVE` asks for.
pub(super) fn misbehaviour() -> Option<Misbehaviour> {
    let word = std::env::var("SHOAL_TEST_MISBEHAVE").ok()?;
    let step = |name: &str| serde_json::from_value(name.into()).expect("the step of a job's path");
    match word.as_str() {
        "lie-alone" => Some(Misbehaviour::LieAlone),
        "lie-together" => Some(Misbehaviour::LieTogether),
        "die-collecting" => Some(Misbehaviour::DieCollecting),
        "serve-corrupt" => Some(Misbehaviour::ServeCorrupt),
        "clock-ahead" => Some(Misbehaviour::ClockAhead),
        "diverge" => Some(Misbehaviour::Diverge),
        other => {
            let ends = |beginning| other.strip_prefix(beginning);
            let number = |text: &str| text.parse().expect("the number of a version");
            match (ends("die-after-"), ends("speak-"), ends("speak-with-new-awards-")) {
                (Some(name), _, _) => Some(Misbehaviour::DieAfter(step(name))),
                (_, _, Some(text)) => Some(Misbehaviour::Speak { version: number(text), new_awards: true }),
                (_, Some(text), _) => Some(Misbehaviour::Speak { version: number(text), new_awards: false }),
                _ => panic!("SHOAL_TEST_MISBEHAVE={other} is not a misbehaviour"),
            }
        }
    }
}

/// The end that `kill -9` makes.
pub(crate) fn die() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}
