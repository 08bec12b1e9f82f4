//! Inputs and the outputs that they must cause, at a requester.
//!
//! Peers are letters and answers are small letters, so that a test is a conversation: "A commits x". Events are
//! left out of what a machine does, and so is the learning of addresses: neither decides anything.

mod awarding;

mod voting;

mod comparing;

mod validating;

mod failing;

mod itself;

mod preparing;

mod publishing;

mod restart;

mod priority;

mod shards;

use std::collections::BTreeMap;

use crate::auction::Offering;
use crate::commitment::{self, Salt};
use crate::id::{BlobHash, ExecutionId, JobId, PeerId};
use crate::job::spec::NetworkKind;
use crate::limits::{LEASE_MS, REVEAL_MS, STRAGGLER_MS};
use crate::machine::{Comparison, Input, Machine, Output, Unfit, Unvalidated};
use crate::message::{
    Amount, Announce, Award, Bid, Commit, Contact, Ending, ExecutorKind, Fail, Message, Needs, Progress, Reason,
    Refuse, Resource, Resources, Reveal, Stage,
};
use crate::record::{JobRecord, Placement, Policy, Published, Record, Standing, Submission};
use crate::task::{Account, Claim, Compare, Engine, Failure, Invocation, Limits, Outcome, Wasm, Work};
use crate::time::Time;
use crate::wire::{Sealed, canonical};

const ME: PeerId = PeerId([1; 32]);
const SALT: Salt = Salt([4; 32]);
const RUN_MS: u64 = 10;
/// How long results are to be kept.
const KEEP_MS: u64 = 1_000;
/// When the first round closes in a mesh of one node.
const CLOSES: u64 = 6;
/// When it closes if enough have offered at 1.
const GRACE: u64 = 2;
const PAIR: Policy = Policy { agreement: 2, executions: 2, max_executions: 3 };
const QUORUM: Policy = Policy { agreement: 2, executions: 3, max_executions: 7 };

/// A requester with one job, its disk, and what it told whom.
struct Story {
    machine: Machine,
    /// What this node itself offers: mostly nothing.
    offering: Offering,
    /// What it asked itself last.
    asked: Option<Box<Announce>>,
    submission: Submission,
    disk: Vec<Record>,
    awards: BTreeMap<char, ExecutionId>,
    announced: u32,
    /// Levels of the shards that were asked, and of how many nodes.
    asked_of: Vec<(u8, u32)>,
    now: Time,
    /// What it did last.
    told: String,
}

impl Story {
    fn new(policy: Policy) -> Self {
        let (disk, awards) = (Vec::new(), BTreeMap::new());
        let (told, offering, asked) = Default::default();
        let (submission, asked_of, now) = (submission(policy), Vec::new(), Time(0));
        Self { machine: machine(), offering, asked, submission, disk, awards, announced: 0, asked_of, now, told }
    }

    /// A job whose first executions were just awarded to `workers`.
    fn awarded(policy: Policy, workers: &str) -> Self {
        let mut story = Self::new(policy);
        story.hear(0, "submit");
        workers.chars().for_each(|worker| drop(story.hear(1, &format!("{worker} bids"))));
        story.hear(GRACE, "tick");
        story
    }

    /// Tells a table of when, what is heard, and what must be done about it.
    fn tell(&mut self, table: &[(u64, &str, &str)]) {
        for (now, heard, expected) in table.iter().copied() {
            assert_eq!(self.hear(now, heard), expected, "at {now}: {heard}");
        }
    }

    fn hear(&mut self, now: u64, heard: &str) -> String {
        if heard == "tick" {
            assert_eq!(self.machine.deadline(), Some(Time(now)), "it wants to be woken just then");
        }
        let input = self.input(heard);
        self.now = Time(now);
        self.machine.handle(self.now, input);
        self.told = self.outputs(usize::MAX).join(", ");
        self.told.clone()
    }

    /// Performs at most so many outputs.
    fn outputs(&mut self, most: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < most
            && let Some(output) = self.machine.poll()
        {
            lines.extend(self.perform(output));
        }
        lines
    }

    /// Takes up what was saved, as another process would, and says what it does then.
    fn wake(&mut self, now: u64) -> String {
        self.machine = Machine::new(ME, self.offering.clone(), [3; 32]);
        self.machine.restore(Time(now), self.disk.clone());
        let at_once = self.outputs(usize::MAX);
        self.machine.handle(Time(now), Input::Tick);
        self.told = [at_once, self.outputs(usize::MAX)].concat().join(", ");
        self.told.clone()
    }

    /// The job, before it is submitted, has a validator.
    fn has_validator(&mut self) {
        self.submission.work = canonical(&Work { validator: Some(BlobHash([8; 32])), ..work() });
    }

    /// The job, before it is submitted, compares this of its results.
    fn compares(&mut self, compare: Compare) {
        self.submission.work = canonical(&Work { compare, ..work() });
    }

    /// What was saved of the execution of a worker, in small letters.
    fn became(&self, worker: char) -> String {
        let mut executions = self.disk.iter().filter_map(|record| match record {
            Record::Execution(execution) if execution.worker == peer(worker) => Some(low(execution.state)),
            _ => None,
        });
        executions.next().expect("the worker has an execution")
    }

    fn input(&self, heard: &str) -> Input {
        let job = self.submission.job(ME);
        let mut words = heard.split(' ');
        let (who, what) = (words.next().unwrap_or_default(), words.next());
        let Some(what) = what else {
            return match who {
                "submit" => Input::Submit(Box::new(self.submission.clone())),
                "stop" => Input::Stop(job),
                "tick" => Input::Tick,
                "away" => Input::Away,
                "collected" => Input::Collected(job, 0, Ok(())),
                "published" => Input::Published(job, 0, Ok(Some(published()))),
                "unpublished" => Input::Published(job, 0, Err("no such bucket".into())),
                "uncollected" => Input::Collected(job, 0, Err("nobody answers".into())),
                other => panic!("nobody understands {other:?}"),
            };
        };
        let who = who.chars().next().expect("somebody speaks");
        let execution = self.awards.get(&who).copied().unwrap_or(ExecutionId([0; 16]));
        let answer = words.next();
        let examined = |result| Input::Examined(job, execution, result);
        let partner = words_of(heard).chars().nth(1).and_then(|partner| self.awards.get(&partner));
        if let Some(partner) = partner {
            let pair = [execution, *partner];
            let said = |agree| Ok(Comparison { agree, words: "0.1 apart".into() });
            let result = match what {
                "agree" => said(true),
                "differ" => said(false),
                "break" => Err(Unvalidated::Validator("trapped".into())),
                "stall" => Err(Unvalidated::Host("no room".into())),
                "miss" => Err(Unvalidated::Result(execution, Unfit::Missing("nobody has it".into()))),
                other => panic!("no two results {other:?}"),
            };
            return Input::Validated(job, 0, pair, result);
        }
        match what {
            "shows" => return examined(Ok(BlobHash::of(answer.unwrap_or("x").as_bytes()))),
            "hides" => return examined(Err(Unfit::Missing("nobody has it".into()))),
            "cheats" => return examined(Err(Unfit::False("it has no exit code".into()))),
            "misunderstands" => {
                let award = Message::Award(Award {
                    job,
                    execution,
                    partition: 0,
                    attempt: 0,
                    nonce: 0,
                    work: Vec::new(),
                    resources: Resources::default(),
                    contact: Contact::default(),
                });
                return Input::NotUnderstood(peer(who), Sealed::assume(ME, Some(peer(who)), award), 5);
            }
            _ if peer(who) == ME => return self.itself(execution, what),
            _ => {}
        }
        Input::Heard(Sealed::assume(peer(who), Some(ME), self.message(job, execution, who, what, answer)))
    }

    fn message(&self, job: JobId, execution: ExecutionId, who: char, what: &str, answer: Option<&str>) -> Message {
        let round = self.announced.saturating_sub(1);
        let claim = claim(answer.unwrap_or("x"));
        match what {
            "bids" => {
                // The first letters are the cheapest.
                let (cost, contact) = (u16::from(u8::try_from(who).expect("a letter")), Contact::default());
                Message::Bid(Bid {
                    job,
                    round,
                    slots: 1,
                    cost,
                    operator: answer.map(str::to_owned),
                    contact,
                    waited_ms: 0,
                })
            }
            "refuses" => {
                let large = Reason::TooLarge(Resource::Memory, 8 << 30, 4 << 30);
                let reason = if who < 'C' { Reason::NoExecutor(ExecutorKind::Wasm) } else { large };
                Message::Refuse(Refuse { job, round, reason })
            }
            "prepares" => {
                let done_bytes = answer.and_then(|megabytes| megabytes.parse::<u64>().ok()).map(|done| done << 20);
                let amount = done_bytes.map(|done_bytes| Amount { done_bytes, total_bytes: 100 << 20 });
                Message::Progress(Progress { job, execution, stage: Stage::Preparing, amount })
            }
            "runs" => Message::Progress(Progress { job, execution, stage: Stage::Running, amount: None }),
            "fails" => Message::Fail(Fail { job, execution, failure: Failure::HostFailed("no room".into()) }),
            "misses" => Message::Fail(Fail { job, execution, failure: Failure::InputMissing("https://a: 404".into()) }),
            "declines" => Message::Fail(Fail { job, execution, failure: Failure::Refused("not on sundays".into()) }),
            "commits" => {
                let commitment = commitment::commit(job, execution, peer(who), &claim, &SALT);
                Message::Commit(Commit { job, execution, commitment, run_ms: RUN_MS })
            }
            "reveals" => {
                let invocation = work().partition(0).id();
                Message::Reveal(Reveal {
                    job,
                    execution,
                    invocation,
                    claim,
                    salt: SALT,
                    result_bytes: 1,
                    account: Account::default(),
                })
            }
            other => panic!("nobody {other:?}"),
        }
    }

    /// Does it, and tells it in a line if it decides something.
    fn perform(&mut self, output: Output) -> Option<String> {
        match output {
            Output::Save(record) => {
                let line = saved(&record);
                self.disk.retain(|old| key(old) != key(&record));
                self.disk.push(record);
                line
            }
            Output::Gossip(audience, Message::Announce(announce)) => {
                assert_eq!(audience, announce.audience());
                self.asked_of.push((audience.level, announce.mesh_size));
                self.announced = announce.round + 1;
                Some("announce".into())
            }
            Output::Send(to, Message::Award(award)) => {
                self.awards.insert(letter(to), award.execution);
                if to == ME {
                    self.machine.handle(self.now, Input::Heard(Sealed::assume(ME, Some(ME), Message::Award(award))));
                }
                Some(format!("award {}", letter(to)))
            }
            Output::Send(ME, message) => {
                self.machine.handle(self.now, Input::Heard(Sealed::assume(ME, Some(ME), message)));
                None
            }
            Output::Price(announce) => {
                self.asked = Some(announce);
                Some("price".into())
            }
            Output::Fetch { .. } => Some("fetch".into()),
            Output::Execute { .. } => Some("run".into()),
            Output::Forget(_) | Output::Release(_) => None,
            Output::Send(to, Message::RevealPlease(_)) => Some(format!("ask {}", letter(to))),
            Output::Send(to, Message::Settle(settle)) => {
                Some(format!("settle {} {}", letter(to), ending(settle.ending)))
            }
            Output::Validate { pair, .. } => {
                Some(format!("validate {}", pair.map(|ballot| letter(ballot.worker)).iter().collect::<String>()))
            }
            Output::Examine { from, .. } => Some(format!("examine {}", letter(from))),
            Output::Collect { from, .. } => {
                Some(format!("collect {}", from.into_iter().map(letter).collect::<String>()))
            }
            Output::Publish { worker, at, .. } => Some(format!("publish {} of {}", letter(worker), at.0)),
            Output::End(_, kept_until) => {
                assert_eq!(Some(kept_until), self.job().kept_until(), "it is kept as long as the saved job says");
                Some("end".into())
            }
            Output::Learn(..) => None,
            other => panic!("a requester does not {other:?}"),
        }
    }

    /// The job as it was saved.
    fn job(&self) -> &JobRecord {
        let mut jobs = self.disk.iter().filter_map(|record| match record {
            Record::Job(job) => Some(job),
            _ => None,
        });
        jobs.next().expect("the job was saved")
    }

    /// Why the job is in its state.
    fn reason(&self) -> &str {
        &self.job().reason
    }
}

/// Who says or is something: the letters before the first space.
fn words_of(heard: &str) -> &str {
    heard.split(' ').next().unwrap_or_default()
}

fn machine() -> Machine {
    Machine::new(ME, Offering::default(), [3; 32])
}

fn peer(letter: char) -> PeerId {
    if letter == 'I' {
        return ME;
    }
    PeerId([u8::try_from(letter).expect("a letter"); 32])
}

fn letter(peer: PeerId) -> char {
    if peer == ME {
        return 'I';
    }
    char::from(peer.0[0])
}

fn low(word: impl std::fmt::Debug) -> String {
    format!("{word:?}").to_lowercase()
}

fn ending(ending: Ending) -> String {
    match ending {
        Ending::Agreed { keep_ms } => {
            assert_eq!(keep_ms, KEEP_MS, "workers hear for how long the job wants its result kept");
            "agreed".into()
        }
        other => low(other),
    }
}

fn claim(answer: &str) -> Claim {
    Claim { outcome: Outcome::Exited(0), result: BlobHash::of(answer.as_bytes()) }
}

fn published() -> Published {
    Published { uri: "s3://bucket/key".into(), details: BTreeMap::new() }
}

fn saved(record: &Record) -> Option<String> {
    match record {
        Record::Job(job) => Some(format!("save {}", low(job.state))),
        Record::Execution(execution) => Some(format!("save {} {}", letter(execution.worker), low(execution.state))),
        Record::Publication(publication) => Some(format!("save {}", publication.published.uri)),
        Record::Standing(peer, standing) => Some(format!("{} {}", sign(standing), letter(*peer))),
        Record::Event(_) | Record::Held(_) => None,
    }
}

fn sign(standing: &Standing) -> &'static str {
    match standing {
        Standing { faults: 1.., .. } => "blame",
        Standing { dissented: 1.., .. } => "distrust",
        _ => "credit",
    }
}

fn key(record: &Record) -> (u8, String) {
    let kind = match record {
        Record::Job(_) => 0,
        Record::Execution(_) => 1,
        Record::Event(_) => 2,
        Record::Held(_) => 3,
        Record::Standing(..) => 4,
        Record::Publication(_) => 5,
    };
    (kind, record.name())
}

fn work() -> Work {
    let wasm = Wasm {
        profile: "wasm-1".into(),
        module: BlobHash([9; 32]),
        imports: Vec::new(),
        entry_point: "_start".into(),
        arguments: Vec::new(),
    };
    let invocation = Invocation {
        engine: Engine::Wasm(wasm),
        environment: BTreeMap::new(),
        inputs: Vec::new(),
        unread: Vec::new(),
        result_paths: Vec::new(),
        limits: Limits { memory_bytes: 1 << 20, fuel: 1, output_bytes: 1 << 20 },
    };
    let (divided, compare) = (Vec::new(), Compare::All);
    Work { invocation, divided, partitions: 1, execution_timeout_ms: 60_000, compare, validator: None }
}

fn submission(policy: Policy) -> Submission {
    let needs = Needs {
        executor: ExecutorKind::Wasm,
        profile: "wasm-1".into(),
        resources: Resources { cpu_millis: 500, memory_bytes: 1 << 20, disk_bytes: 1 << 20, gpus: 0 },
        inputs: Vec::new(),
        input_bytes: 0,
        constraints: Vec::new(),
        sources: Vec::new(),
        image: None,
        network: NetworkKind::None,
        image_name: String::new(),
        data: 0,
        data_bits: 0,
    };
    Submission {
        spec: "{}".into(),
        nonce: 7,
        work: canonical(&work()),
        needs,
        partitions: 1,
        policy,
        priority: 0,
        queue_timeout_ms: 0,
        total_timeout_ms: 0,
        output_bytes: 1 << 20,
        placement: Placement::Mesh,
        publishes: false,
        retention_ms: KEEP_MS,
        inputs: Vec::new(),
    }
}
