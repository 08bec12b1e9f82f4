//! What nodes are like: their machines are all honest; a wrapper around inputs and outputs makes some of them not.

use shoal_protocol::commitment::Salt;
use shoal_protocol::id::{BlobHash, ExecutionId};
use shoal_protocol::message::Message;
use shoal_protocol::task::{Claim, Invocation, Outcome};

/// How a node behaves towards others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behaviour {
    /// As it should.
    Honest,
    /// Honest, but twenty times slower than it claims.
    Slow,
    /// Answers with something wrong that nobody else answers.
    Liar,
    /// Answers with the same wrong result as every other colluder.
    Colluder,
    /// Computes nothing: repeats whatever commitments and reveals of others it can overhear.
    Copier,
    /// Sends forged bids, progress, commitments, reveals, calls and endings without end.
    Flooder,
    /// Goes away for good once it is awarded something.
    Vanisher,
    /// Commits and never reveals.
    Withholder,
    /// Bids, and says nothing after that.
    Mute,
    /// Has others work for it and never settles.
    Debtor,
    /// Announces jobs that would fill every worker, and awards nothing.
    Hoarder,
    /// The same, each job in a name of its own.
    Sybil,
}

impl Behaviour {
    /// How many times longer than an honest node it takes.
    pub(crate) fn slowness(self) -> u64 {
        if self == Behaviour::Slow { 20 } else { 1 }
    }

    /// What it says came of a run.
    pub(crate) fn claim(self, node: u32, execution: ExecutionId, invocation: &Invocation) -> Claim {
        let id = invocation.id();
        match self {
            Behaviour::Liar | Behaviour::Copier => {
                false_claim(&[b"alone", &node.to_le_bytes()[..], &execution.0].concat())
            }
            Behaviour::Colluder => false_claim(&[b"together", &id.0[..]].concat()),
            _ => truth(invocation),
        }
    }

    /// Whether it says this at all.
    pub(crate) fn speaks(self, message: &Message) -> bool {
        match self {
            Behaviour::Mute => message.is_gossip(),
            Behaviour::Withholder => !matches!(message, Message::Reveal(_)),
            Behaviour::Debtor => !matches!(message, Message::Settle(_)),
            _ => true,
        }
    }
}

/// The one right answer: the fake executor's result is a hash of the computation's name.
pub(crate) fn truth(invocation: &Invocation) -> Claim {
    let id = invocation.id();
    let code = i32::from(id.0[0] == 0);
    Claim { outcome: Outcome::Exited(code), result: BlobHash::of(&[b"result", &id.0[..]].concat()) }
}

fn false_claim(seed: &[u8]) -> Claim {
    Claim { outcome: Outcome::Exited(0), result: BlobHash::of(seed) }
}

/// What a copier can overhear of one partition: more than any real one could.
#[derive(Debug, Default, Clone)]
pub(crate) struct Overheard {
    /// Somebody's commitment.
    pub(crate) commitment: Option<shoal_protocol::commitment::Commitment>,
    /// Somebody's open answer.
    pub(crate) answer: Option<(Claim, Salt)>,
}

impl Overheard {
    /// Listens to what others say.
    pub(crate) fn hear(&mut self, message: &Message) {
        match message {
            Message::Commit(commit) => self.commitment = Some(commit.commitment),
            Message::Reveal(reveal) => self.answer = Some((reveal.claim, reveal.salt)),
            _ => {}
        }
    }

    /// Puts what was overheard in place of the copier's own.
    pub(crate) fn copy_into(&self, message: &mut Message) {
        match (message, self) {
            (Message::Commit(commit), Overheard { commitment: Some(copied), .. }) => commit.commitment = *copied,
            (Message::Reveal(reveal), Overheard { answer: Some((claim, salt)), .. }) => {
                (reveal.claim, reveal.salt) = (*claim, *salt);
            }
            _ => {}
        }
    }
}
