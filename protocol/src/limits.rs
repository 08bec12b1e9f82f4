//! What all nodes of a mesh must share: sizes, times and counts, each with its unit and reason.
//!
//! What an operator may choose is in the node's configuration instead.

use crate::budget::Allowance;
use crate::time::Millis;

/// Protocol version. This is the first that promises anything: nodes of the next one will work with it
/// ([`dialect`](crate::wire::Dialect)).
pub const VERSION: u8 = 7;

/// The backtrace that a worker tells of, in bytes.
pub const MAX_BACKTRACE_BYTES: usize = 2_048;
/// The description of one call of a host function in a trace, in bytes.
pub const MAX_DESCRIPTION_BYTES: usize = 4_096;
/// Points of a run at which one trace notes its state.
pub const MAX_TRACE_POINTS: u16 = 2_048;
/// Traces that a worker makes of one execution.
pub const MAX_TRACES: u8 = 24;
/// Sealed announcement, in bytes: it crosses the whole mesh, so it stays under one kilobyte.
pub const MAX_ANNOUNCE_BYTES: usize = 1_024;
/// Executions that one announcement seeks; job arrays ask again as they go.
pub const MAX_WANTED: u16 = 64;
/// Any sealed message that is gossiped, in bytes.
pub const MAX_GOSSIP_BYTES: usize = 1_024;
/// Any sealed message between two peers, in bytes. The largest is an award with its work.
pub const MAX_DIRECT_BYTES: usize = 72 * 1_024;
/// Encoded [`Work`](crate::task::Work), in bytes. Larger inputs are blobs.
pub const MAX_WORK_BYTES: usize = 64 * 1_024;
/// Free text from a peer (a reason, an operator's name), in bytes.
pub const MAX_TEXT_BYTES: usize = 200;
/// Why an execution is no vote, in bytes: the error of a source names an address, and what to do about it.
pub const MAX_FAILURE_BYTES: usize = 1_024;
/// Different reasons of failed executions that a job's own reason gives; the rest is counted.
pub const MAX_TOLD_FAILURES: usize = 4;
/// Inputs that an announcement names, so that workers can price what they lack; more are summed up.
pub const MAX_ANNOUNCED_INPUTS: usize = 6;
/// Constraints of one job.
pub const MAX_CONSTRAINTS: usize = 8;
/// Values of one constraint.
pub const MAX_CONSTRAINT_VALUES: usize = 8;
/// Peers that an announcement excludes; when there are more, the latest are named.
pub const MAX_EXCLUDED: usize = 32;
/// Addresses in a contact.
pub const MAX_ADDRESSES: usize = 4;

/// Inputs and import modules of one invocation.
pub const MAX_INPUTS: usize = 256;
/// Result paths of one job.
pub const MAX_RESULT_PATHS: usize = 64;
/// Words of a container's command line, its entry point's included.
pub const MAX_WORDS: usize = 4_096;
/// Domains that one job may name, each of at most 255 bytes.
pub const MAX_DOMAINS: usize = 64;
/// Partitions of one job.
pub const MAX_PARTITIONS: u32 = 1_000;
/// Executions of one partition, whatever the reasons for them.
pub const MAX_EXECUTIONS: u32 = 32;

/// Linear memory of a program that asks for none, in bytes (Bacalhau's default of 512 MB).
pub const DEFAULT_MEMORY_BYTES: u64 = 512_000_000;
/// Linear memory that a 32-bit program can have, in bytes.
pub const MAX_MEMORY_BYTES: u64 = 4 << 30;
/// CPU of a job that asks for none, in thousandths of a core (Bacalhau's default).
pub const DEFAULT_CPU_MILLIS: u32 = 500;
/// What a program may write when its job does not say, in bytes.
pub const DEFAULT_OUTPUT_BYTES: u64 = 1 << 30;
/// Fuel of a program: about an hour of native speed on one core of 2026.
pub const DEFAULT_FUEL: u64 = 10_000_000_000_000;
/// Wall-clock limit of a run when its job sets none, in milliseconds.
pub const DEFAULT_EXECUTION_MS: Millis = 2 * 3_600_000;
/// Longest wall-clock limit of a run, in milliseconds.
pub const MAX_EXECUTION_MS: Millis = 7 * 24 * 3_600_000;

/// How far two nodes' clocks may differ, in milliseconds. Only announcements carry a time.
pub const MAX_CLOCK_SKEW_MS: Millis = 5 * 60_000;
/// Shortest bid window, in milliseconds: below it the scheduler's noise decides.
pub const MIN_WINDOW_MS: Millis = 4;
/// Longest bid window, in milliseconds.
pub const MAX_WINDOW_MS: Millis = 20_000;
/// Neighbours that a node forwards gossip to as a rule.
pub const GOSSIP_DEGREE: usize = 4;
/// Connected peers that a node keeps for each topic: what it says itself goes to all of them, which saves a hop.
pub const GOSSIP_PEERS: usize = 6;
/// What one hop of gossip takes at most, as far as bids tell, in milliseconds: whoever can make most of those that were heard
/// last cannot stretch windows further. They have a bound of their own, which is met in most meshes by then.
pub const MAX_HOP_MS: u32 = 1_000;
/// Peers whose last bids tell how long gossip takes: those of two or three jobs, so that a change is noticed soon.
pub const MAX_DELAY_SAMPLES: usize = 16;
/// How long a bid tells how long gossip takes, in milliseconds.
pub const DELAY_MEMORY_MS: Millis = 10 * 60_000;
/// Announcements that are remembered to tell how long gossip takes by the bids for them.
pub const MAX_TIMED_ANNOUNCEMENTS: usize = 64;
/// How often the mesh is cut at most: into 65,536 shards.
pub const MAX_LEVEL: u8 = 8;
/// How long a bid holds its capacity beyond the window and the delays, in milliseconds: what an award may be late.
/// Short, because a bid that is not taken keeps others from the capacity; a later award is taken if there is room.
pub const BID_HOLD_MS: Millis = 100;
/// Shortest time that a worker believes a window to be if its requester says so, in milliseconds: one among near peers may
/// be asked from far away.
pub const MIN_BELIEVED_WINDOW_MS: Millis = 2_000;
/// Longest time that a worker believes a window to be, in milliseconds, so that a bid that leads to nothing is over soon.
/// Where a window is longer, enough have bid after half of this.
pub const MAX_BELIEVED_WINDOW_MS: Millis = 8_000;
/// How much of what its bids reserve a worker thinks is awarded before it knows, in millionths.
pub const FIRST_UPTAKE: u64 = 500_000;
/// How many times as much of it as was awarded lately a worker reckons with: an award that has to be declined costs more
/// than room that is left. Requesters take up two or three bids of seven, so among honest ones all of it counts.
pub const UPTAKE_MARGIN: u64 = 3;
/// How often its whole capacity a worker has to have reserved for what it knew before to count for a third.
pub const UPTAKE_MEMORY: u64 = 2;
/// The most that one bid changes what a worker thinks of them, in millionths: a large job is no more typical than others.
pub const UPTAKE_STEP: u64 = 250_000;
/// Refusals that a requester asks for once a round has found too few bids; a mesh of any size sends about as many.
pub const WANTED_REFUSALS: u16 = 16;
/// Refusals that a worker explains, all requesters together: each is a message to somebody who may be hard to find, or
/// not be there at all.
pub const REFUSALS: Allowance = Allowance { per_second: 20, burst: 100 };
/// Pause before a round that follows one with too few bids, in milliseconds; it doubles up to the longest.
pub const FIRST_ROUND_PAUSE_MS: Millis = 250;
/// Longest pause between two rounds, in milliseconds.
pub const LONGEST_ROUND_PAUSE_MS: Millis = 15_000;
/// Rounds without a bid that a job without queueing survives, about ten seconds of asking.
pub const MAX_EMPTY_ROUNDS: u32 = 7;
/// Rounds of which nothing came, after which a requester asks its own worker as well where nobody verifies the job: those
/// who were there have been asked thrice within about two seconds, and from the second time on could say why not.
pub const FAIR_ROUNDS: u32 = 3;
/// The same where no peer is known: time for one to be connected to, and no longer than a person alone likes to wait.
pub const FAIR_ROUNDS_ALONE: u32 = 2;
/// Announcements that a worker considers or has answered with a bid, at once; of those that it let pass it keeps nothing.
pub const MAX_OFFERS: usize = 4_096;
/// How long after its round a requester still awards to a worker that offered, in milliseconds: the worker holds
/// nothing for it any more, but may have room.
pub const OFFER_FRESH_MS: Millis = 3_000;
/// How long a worker remembers bids of others, in milliseconds: what an announcement may be later than a bid for it.
/// Nearly all gossip arrives within four seconds (measured on Ethereum).
pub const RECENT_BIDS_MS: Millis = 5_000;
/// Bids of others that a worker remembers at once; each takes at most a kilobyte.
pub const MAX_RECENT_BIDS: usize = 1_024;
/// Bids that a requester keeps for one round.
pub const MAX_BIDS: usize = 64;

/// Gossip of one speaker that others pass on, announcements and bids together: several times what a node says that
/// runs a hundred jobs a second, and less than a megabyte a second on the lines of everybody else.
pub const SPEAKERS_GOSSIP: Allowance = Allowance { per_second: 500, burst: 2_000 };
/// The same beyond which a neighbour that passes it on is to blame: more, since lines stall, and then bring at once what an
/// honest neighbour passed on in seconds.
pub const PASSED_ON_GOSSIP: Allowance = Allowance { per_second: 1_000, burst: 4_000 };
/// What a node says itself: somewhat less, since clocks and lines are not even.
pub const OWN_GOSSIP: Allowance = Allowance { per_second: 400, burst: 1_500 };
/// Gossip of all newcomers that one neighbour passes on, together: whoever comes again and again under new names has
/// everybody check and pass on no more than this. A node that has only just started knows nobody, and sets no such bound.
pub const NEWCOMERS_GOSSIP: Allowance = Allowance { per_second: 100, burst: 100 };
/// The same of all neighbours together.
pub const ALL_NEWCOMERS_GOSSIP: Allowance = Allowance { per_second: 200, burst: 200 };
/// Gossip of everybody that a node passes on. What a neighbour may pass on to it is more, so that no honest one exceeds it.
pub const ALL_GOSSIP: Allowance = Allowance { per_second: 2_000, burst: 4_000 };
/// What one neighbour is first to bring of that: as much as a speaker says. Of honest ones each brings a part.
pub const NEIGHBOURS_GOSSIP: Allowance = Allowance { per_second: 500, burst: 2_000 };
/// The same when less than half is left of what a node passes on: of honest neighbours together still more than a mesh says
/// that is not flooded.
pub const NEIGHBOURS_SHARE: Allowance = Allowance { per_second: 100, burst: 400 };
/// Bids for jobs that nobody has announced here, which one neighbour passes on: gossip keeps no order, but bids that
/// overtake their announcement are few.
pub const EARLY_BIDS: Allowance = Allowance { per_second: 50, burst: 1_000 };
/// How long a speaker is a newcomer, and a node takes nobody for one after its start, in milliseconds.
pub const NEWCOMER_MS: Millis = 60_000;
/// Lateness from which a message is not passed on, in milliseconds: half of gossip's own memory of what it has seen. From
/// twice that it must have been kept on purpose.
pub const REPLAY_MS: Millis = 60_000;
/// How long a job counts as announced lately, in milliseconds: as long as the pauses between rounds, and some.
pub const RECENT_JOB_MS: Millis = 60_000;
/// Jobs that were announced lately: what a few dozen busy requesters announce in that time.
pub const MAX_RECENT_JOBS: usize = 32_768;
/// Speakers of gossip that are no newcomers and whose allowance is remembered.
pub const MAX_KNOWN_SPEAKERS: usize = 4_096;
/// Newcomers among the speakers of gossip.
pub const MAX_NEW_SPEAKERS: usize = 2_048;
/// Neighbours whose allowances are remembered: more than can be connected, so that reconnecting renews none.
pub const MAX_NEIGHBOURS: usize = 1_024;
/// Pairs of a neighbour and a speaker of whom it passes on too much.
pub const MAX_SUSPECTS: usize = 1_024;
/// Peers whose offences on the wire are remembered.
pub const MAX_MARKED_PEERS: usize = 1_024;
/// Peers that are cut off at once.
pub const MAX_SHUNNED_PEERS: usize = 1_024;
/// Peers of one public address (of IPv6: of one /64) that are connected: a home or an office has no more nodes, and one
/// with more reaches other nodes.
pub const MAX_PER_ADDRESS: usize = 16;
/// Peers of one public network (IPv4 /24, IPv6 /48) that are connected: a quarter of the connections that others open.
pub const MAX_PER_NETWORK: usize = 32;
/// Peers of one address that is not public and that are connected: a test has many nodes there, and still not all places.
pub const MAX_PER_PRIVATE_ADDRESS: usize = 96;
/// Peers behind one relay that are connected.
pub const MAX_PER_RELAY: usize = 64;
/// Peers of one address (of IPv6: of one /64) that are cut off at once, from which on nobody new is let in from there.
pub const MAX_SHUNNED_PER_ADDRESS: usize = 3;
/// The same of one public network (IPv4 /24, IPv6 /48).
pub const MAX_SHUNNED_PER_NETWORK: usize = 12;
/// How long a peer is cut off, in milliseconds.
pub const SHUN_MS: Millis = 10 * 60_000;

/// How long a worker that was awarded waits with its first sign of life, in milliseconds; short runs need none.
pub const FIRST_PROGRESS_MS: Millis = 200;
/// How often a worker tells the requester that it is still at it, in milliseconds.
pub const PROGRESS_MS: Millis = 2_000;
/// Silence after which an execution is given up and awarded elsewhere, in milliseconds.
pub const LEASE_MS: Millis = 12_000;
/// First pause before a direct message that needs an answer is sent again, in milliseconds; it doubles.
pub const RESEND_MS: Millis = 500;
/// Longest pause before such a message is sent again, in milliseconds.
pub const LONGEST_RESEND_MS: Millis = 4_000;
/// How long a worker may take to open its commitment, in milliseconds. After it the commitment is a fault.
pub const REVEAL_MS: Millis = 30_000;
/// Least time that a straggler gets once enough others have committed, in milliseconds.
pub const STRAGGLER_MS: Millis = 2_000;
/// A straggler gets this many times the slowest committed run.
pub const STRAGGLER_FACTOR: u64 = 3;
/// How long a worker keeps a finished execution whose requester says nothing, in milliseconds.
pub const UNSETTLED_MS: Millis = 3_600_000;
/// How long a requester may take to fetch the result from one worker, in milliseconds without progress.
pub const COLLECT_MS: Millis = 60_000;
/// Tries to fetch the result before the job gives up; each asks every agreeing worker.
pub const MAX_COLLECTS: u32 = 8;
/// Tries to find out what is compared of a result before its vote is given up, within about eight seconds.
pub const MAX_EXAMINATIONS: u32 = 6;
/// Memory of a validator, in bytes: its requester sets none aside for it.
pub const VALIDATOR_MEMORY_BYTES: u64 = 256 << 20;
/// Fuel of a validator's run: about a minute of native speed on one core of 2026.
pub const VALIDATOR_FUEL: u64 = 170_000_000_000;
/// Wall-clock limit of a validator's run, in milliseconds: for machines that are slow or have much to do.
pub const VALIDATOR_MS: Millis = 10 * 60_000;
/// What a validator may print and write, in bytes.
pub const VALIDATOR_OUTPUT_BYTES: u64 = 1 << 20;
/// Tries to publish a result before the job gives up, within about eight seconds: publishers themselves try again what
/// may pass quickly.
pub const MAX_PUBLISHES: u32 = 6;
/// The address that a published result has, in bytes: a key of S3 has up to 1,024, escaped three times as many.
pub const MAX_URI_BYTES: usize = 4_096;
/// What is kept of the description of an input's origin, in bytes.
pub const MAX_ORIGIN_BYTES: usize = 1_024;
/// Details of a published result.
pub const MAX_PUBLISHED_DETAILS: usize = 32;
/// Runs of one partition that end in a failure of the worker's machine, after which the job fails.
pub const MAX_FAILURES: usize = 6;
/// Events that are kept of one job; later ones are counted only.
pub const MAX_EVENTS: u32 = 10_000;
/// How often one peer may be awarded the same partition again after a run that was no vote.
pub const MAX_ATTEMPTS_PER_WORKER: u32 = 2;
/// Jobs that one requester has open at once; more are refused at submit.
pub const MAX_OPEN_JOBS: usize = 10_000;
/// Executions that one worker holds at once, running or waiting for their end.
pub const MAX_HELD: usize = 4_096;
/// Executions that one worker runs at once, however little each asks for: every one takes threads and files.
pub const MAX_RUNNING: u16 = 64;
/// Ended executions that a worker remembers, so that a late repetition of their award does not start them again.
pub const MAX_ENDED: usize = 1_024;
/// Jobs that a worker remembers because its operator turned them down once he had seen them.
pub const MAX_REFUSED: usize = 1_024;
/// Announcements of one requester among those that a worker considers or has answered.
pub const MAX_OFFERS_PER_REQUESTER: usize = 1_024;
/// Executions of one requester among those that a worker holds.
pub const MAX_HELD_PER_REQUESTER: usize = 1_024;
/// Finished executions that a worker holds for a requester which has settled none yet; each that it settles earns one
/// more, up to all that it may have held. With more than these it gets no bids.
pub const FIRST_CREDIT: usize = 64;
/// Peers whose standing is remembered.
pub const MAX_STANDINGS: usize = 4_096;
/// What counts against a peer fades to half in this time, in milliseconds.
pub const DEMERITS_HALF_LIFE_MS: Millis = 24 * 3_600_000;
/// Demerits, in thousandths, from which a peer's jobs are bid for later, and its bids rank lower.
pub const LOW_DEMERITS: u32 = 3_000;
/// Demerits, in thousandths, from which a peer gets no bids and no awards, and is not asked for blobs.
pub const BAD_DEMERITS: u32 = 10_000;
/// How long a liar is remembered, in milliseconds.
pub const DISTRUST_MS: Millis = 30 * 24 * 3_600_000;

/// How long a certificate of a private mesh is valid, in milliseconds.
pub const CERTIFICATE_MS: Millis = 180 * 24 * 3_600_000;
/// Age from which a certificate is renewed, in milliseconds. What is left is how long nobody with the mesh's key needs
/// to be seen.
pub const RENEW_AFTER_MS: Millis = 60 * 24 * 3_600_000;
/// Peers of a private mesh that are revoked at once. An entry ends when every certificate of its peer has expired.
pub const MAX_REVOKED: usize = 1_024;
/// First part of a handshake of a private mesh, in bytes.
pub const MAX_HELLO_BYTES: usize = 256;
/// Second part of a handshake of a private mesh, in bytes: all revocations and a certificate.
pub const MAX_NEWS_BYTES: usize = 128 * 1_024;
/// Invitations into a private mesh that its key's holder remembers, open and closed.
pub const MAX_INVITATIONS: usize = 256;
/// How many nodes one invitation lets in, at most.
pub const MAX_USES: u32 = 1_000;
/// Longest time that an invitation is good for, in milliseconds.
pub const MAX_INVITATION_MS: Millis = 365 * 24 * 3_600_000;

/// A relay's address, in bytes.
pub const MAX_RELAY_URL_BYTES: usize = 128;
/// Announcement of a relay, in bytes.
pub const MAX_RELAY_ANNOUNCEMENT_BYTES: usize = 256;
/// How long an announcement of a relay is believed, in milliseconds: five of them may be lost.
pub const RELAY_ANNOUNCEMENT_MS: Millis = 10 * 60_000;
/// How often a relay is announced, in milliseconds. It is also how long a newcomer may not know of one.
pub const ANNOUNCE_RELAY_MS: Millis = 2 * 60_000;
/// Shortest time between two announcements of one relay, in milliseconds: a peer that came just now should hear of it.
pub const MIN_ANNOUNCE_RELAY_MS: Millis = 10_000;
/// Relays that a node remembers, whoever announced them.
pub const MAX_RELAYS_KNOWN: usize = 32;
/// Relays that a node measures and stays in touch with; one of them is its home.
pub const MAX_RELAYS_USED: usize = 4;
/// The same in a private mesh. There a node is let in only at relays that it uses, and its peers may be at others.
pub const MAX_PRIVATE_RELAYS_USED: usize = 8;
/// How often a relay in use is probed, in milliseconds.
pub const RELAY_PROBE_MS: Millis = 60_000;
/// How often one is probed that answers and is not used, in milliseconds.
pub const RELAY_IDLE_PROBE_MS: Millis = 5 * 60_000;
/// Probes in a row without an answer after which a relay is not used.
pub const RELAY_FAILURES: u32 = 2;
/// The same after which one is forgotten, unless somebody named it.
pub const MAX_RELAY_FAILURES: u32 = 6;
/// Pause after the first probe without an answer, in milliseconds; it doubles.
pub const FIRST_RELAY_PAUSE_MS: Millis = 1_000;
/// Longest pause between two probes while no relay at all answers, in milliseconds.
pub const RELAY_ALONE_PROBE_MS: Millis = 5_000;
/// Longest pause between two probes of one relay, in milliseconds.
pub const LONGEST_RELAY_PAUSE_MS: Millis = 10 * 60_000;
