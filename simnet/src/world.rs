//! A whole mesh in virtual time: one queue, one clock, one seed.
//!
//! The real machine of every node takes the inputs that this world makes up, and this world performs its outputs:
//! on a simulated disk, over simulated links, with a fake executor.

mod faults;
mod host;
mod perform;
mod rest;

use std::collections::{BTreeMap, HashMap, VecDeque};

use ed25519_dalek::SigningKey;
use shoal_protocol::id::{ExecutionId, JobId, PeerId};
use shoal_protocol::machine::{self, Input, Opinion};
use shoal_protocol::message::{Award, ExecutorKind, Message};
use shoal_protocol::record::Submission;
use shoal_protocol::shard;
use shoal_protocol::time::Time;
use shoal_protocol::wire::Sealed;

use crate::chance::Chance;
use crate::checks::{Checks, Place, most_outputs};
use crate::jobs;
use crate::links::Links;
use crate::neighbourhoods::Neighbourhoods;
use crate::node::Node;
use crate::peers::{Behaviour, Overheard};
use crate::queue::Queue;
use crate::report::Report;
use crate::scenarios::{Sabotage, Scenario};
use crate::stats::Stats;

/// How long after the last fault the world may take to come to rest, in milliseconds of virtual time. Workers keep
/// what nobody settles for an hour.
const REST_MS: u64 = 24 * 3_600_000;
/// Events of the longest run.
const MAX_EVENTS: u64 = 2_000_000_000;
/// A world that is so broken is not worth going on with.
const MAX_VIOLATIONS: u64 = 1_000;
/// So many jobs are submitted within the time that a scenario names.
const JOBS_PER_SPREAD: u64 = 200;
/// A person whose node is down tries again after this time, in milliseconds.
const RETRY_MS: u64 = 1_000;
/// Awards that a flooder remembers to forge messages about.
const REMEMBERED_AWARDS: usize = 64;

/// How large a run is, and from which seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// Number of nodes.
    pub nodes: usize,
    /// Number of jobs.
    pub jobs: usize,
    /// The seed of everything random.
    pub seed: u64,
    /// Whether messages are really signed, encoded and opened: slow, and true to the byte.
    pub sealed: bool,
}

/// Runs a scenario to its end.
pub fn run(scenario: &Scenario, setup: Setup) -> Report {
    let started = std::time::Instant::now();
    let mut world = World::new(scenario.clone(), setup);
    let errors = crate::errors::counted(|| world.run());
    let mut report = world.report(errors);
    report.wall_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    report
}

struct World {
    scenario: Scenario,
    setup: Setup,
    chance: Chance,
    queue: Queue<Event>,
    links: Links,
    nodes: Vec<Node>,
    by_peer: HashMap<PeerId, u32>,
    neighbourhoods: Neighbourhoods,
    tasks: Vec<Task>,
    letters: Slab<Letter>,
    notes: Slab<host::Note>,
    checks: Checks,
    stats: Stats,
    /// What copiers have overheard, by partition, and to which partition executions belong.
    overheard: BTreeMap<(JobId, u32), Overheard>,
    partition_of: BTreeMap<ExecutionId, (JobId, u32)>,
    recent_awards: VecDeque<(PeerId, PeerId, Award)>,
    has: Has,
}

/// Which behaviours need the world's help.
#[derive(Debug, Default, Clone, Copy)]
struct Has {
    copiers: bool,
    flooders: bool,
}

/// A job and its owner.
#[derive(Debug)]
struct Task {
    owner: u32,
    job: JobId,
    submission: Submission,
}

#[derive(Debug, Clone, Copy)]
struct Event {
    node: u32,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    /// A message arrives.
    Hear(u32),
    /// The machine's deadline may have come.
    Wake,
    /// The host has ended something.
    Host(u32),
    /// A person submits a job.
    Submit(u32),
    /// A person stops a job.
    Stop(u32),
    /// The node is about to crash, within a few outputs or at `Crash`.
    Arm,
    Crash,
    /// The node comes up.
    Start,
    /// The mesh is cut in two.
    Part,
    /// The partition heals.
    Join,
    /// All faults end.
    Heal,
    /// A flooder sends something.
    Flood,
    /// A hoarder announces something.
    Hoard,
}

/// A message on its way to one peer or to many.
#[derive(Debug)]
struct Letter {
    sealed: Sealed,
    /// Arrivals still to come.
    left: u32,
}

impl World {
    fn new(scenario: Scenario, setup: Setup) -> Self {
        let mut chance = Chance::new(setup.seed);
        let mut world = Self {
            links: Links::new(scenario.profile, setup.nodes, scenario.shard_nodes, chance.child()),
            queue: Queue::new(),
            nodes: Vec::with_capacity(setup.nodes),
            by_peer: HashMap::new(),
            neighbourhoods: Neighbourhoods::default(),
            tasks: Vec::new(),
            letters: Slab::default(),
            notes: Slab::default(),
            checks: Checks::default(),
            stats: Stats::default(),
            overheard: BTreeMap::new(),
            partition_of: BTreeMap::new(),
            recent_awards: VecDeque::new(),
            has: Has::default(),
            chance,
            scenario,
            setup,
        };
        world.populate();
        world.plan_faults();
        world.plan_jobs();
        world
    }

    fn populate(&mut self) {
        for number in 0..u32::try_from(self.setup.nodes).unwrap_or(u32::MAX) {
            let key = self.setup.sealed.then(|| SigningKey::from_bytes(&self.chance.bytes()));
            let mut node = Node::new(number, key, &mut self.chance);
            let share = f64::from(number) / f64::from(u32::try_from(self.setup.nodes).unwrap_or(u32::MAX));
            // The first nodes are the workers, and there is always one.
            if number == 0 || share < self.scenario.workers {
                node.offer();
            }
            node.view.mesh_size = guess(self.setup.nodes, &mut self.chance);
            node.view.level = shard::first_level(node.view.mesh_size, self.scenario.shard_nodes);
            node.view.delay_ms = self.links.measured_ms(number as usize);
            self.by_peer.insert(node.me, number);
            self.nodes.push(node);
        }
        self.neighbourhoods = Neighbourhoods::of(&self.nodes, self.scenario.shard_nodes);
        self.look_around();
        self.cast_roles();
    }

    /// Lets each node see which of its neighbours run nothing.
    fn look_around(&mut self) {
        for number in 0..self.nodes.len() {
            let idle = |other: &usize| self.nodes[*other].offering.executors.is_empty();
            let idle = self.links.neighbours(number).filter(idle).count();
            let idle = u32::try_from(idle).unwrap_or(u32::MAX);
            self.nodes[number].view.without = BTreeMap::from([(ExecutorKind::Wasm, idle)]);
        }
    }

    /// Draws who is not honest.
    fn cast_roles(&mut self) {
        let mut free: Vec<u32> = (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).collect();
        for crowd in self.scenario.peers.clone() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let count = ((self.nodes.len() as f64 * crowd.share).round() as usize).clamp(1, crowd.at_most);
            for _ in 0..count.min(free.len().saturating_sub(1)) {
                let number = free.swap_remove(self.chance.below(free.len()));
                let node = &mut self.nodes[number as usize];
                node.behaviour = crowd.behaviour;
                if crowd.neighbours {
                    node.move_in(number);
                }
            }
            self.has.copiers |= crowd.behaviour == Behaviour::Copier;
            self.has.flooders |= crowd.behaviour == Behaviour::Flooder;
        }
    }

    fn plan_jobs(&mut self) {
        let fair = |node: &Node| matches!(node.behaviour, Behaviour::Honest | Behaviour::Slow | Behaviour::Debtor);
        let owners: Vec<u32> = (0u32..).zip(&self.nodes).filter(|(_, node)| fair(node)).map(|(i, _)| i).collect();
        for number in 0..u32::try_from(self.setup.jobs).unwrap_or(u32::MAX) {
            let owner = owners[self.chance.below(owners.len())];
            let submission = jobs::draw(&self.scenario.load, u64::from(number), &mut self.chance);
            let job = submission.job(self.nodes[owner as usize].me);
            let at = self.chance.between(0, self.spread_ms());
            self.queue.plan(at, Event { node: owner, what: What::Submit(number) });
            if self.chance.happens(self.scenario.stops) {
                let later = self.chance.exponential(5_000.0);
                self.queue.plan(at + later, Event { node: owner, what: What::Stop(number) });
            }
            self.tasks.push(Task { owner, job, submission });
        }
    }

    fn run(&mut self) {
        let healed = if self.scenario.heal_ms == u64::MAX { 0 } else { self.scenario.heal_ms };
        let latest = healed + self.spread_ms() + self.scenario.load.queue_timeout_ms + REST_MS;
        while let Some(event) = self.queue.take() {
            self.stats.events += 1;
            if self.queue.now() > latest || self.stats.events > MAX_EVENTS {
                let place = self.place(event.node);
                self.checks.never(place, || "the world does not come to rest".into());
                return;
            }
            if self.checks.count > MAX_VIOLATIONS {
                return;
            }
            self.happen(event);
        }
    }

    fn happen(&mut self, Event { node, what }: Event) {
        self.stats.trace(self.queue.now(), u64::from(node) << 32 | what.code());
        match what {
            What::Hear(letter) => self.hear(node, letter),
            What::Wake => self.wake(node),
            What::Host(note) => self.host_ended(node, note),
            What::Submit(task) => self.submit(node, task),
            What::Stop(task) => self.stop(node, task),
            What::Arm => self.arm(node),
            What::Crash => self.crash_if_armed(node),
            What::Start => self.start(node),
            What::Part => self.links.part(0.4),
            What::Join => self.links.heal(false),
            What::Heal => self.links.heal(true),
            What::Flood => self.flood(node),
            What::Hoard => self.hoard(node),
        }
    }

    fn hear(&mut self, node: u32, id: u32) {
        let letter = self.letters.get_mut(id);
        letter.left -= 1;
        let sealed = letter.sealed.clone();
        if letter.left == 0 {
            self.letters.remove(id);
        }
        let now = self.now();
        let deaf = !self.nodes[node as usize].is_up();
        if deaf || (sealed.message().is_gossip() && machine::judge(now, &sealed) == Opinion::Ignore) {
            return;
        }
        if self.nodes[node as usize].behaviour == Behaviour::Flooder {
            self.outbid(node, sealed.message());
        }
        let means = match sealed.message() {
            Message::Announce(announce) => Some(jobs::means(node, &announce.needs)),
            _ => None,
        };
        self.step(
            node,
            match means {
                Some(means) => Input::Announced(sealed, means),
                None => Input::Heard(sealed),
            },
        );
    }

    fn wake(&mut self, number: u32) {
        let now = self.now();
        let node = &mut self.nodes[number as usize];
        if node.wake <= now {
            node.wake = Time::NEVER;
        }
        let Some(deadline) = node.machine.as_ref().and_then(|machine| machine.deadline()) else { return };
        if deadline <= now { self.step(number, Input::Tick) } else { self.plan_wake(number, deadline) }
    }

    fn submit(&mut self, node: u32, task: u32) {
        let Task { job, submission, .. } = &self.tasks[task as usize];
        let (job, input) = (*job, Input::Submit(Box::new(submission.clone())));
        if self.nodes[node as usize].disk.job(job).is_some() {
            return;
        }
        self.step(node, input);
        // Whoever gets no answer asks again.
        self.queue.plan(self.queue.now() + RETRY_MS, Event { node, what: What::Submit(task) });
    }

    fn stop(&mut self, node: u32, task: u32) {
        let job = self.tasks[task as usize].job;
        let over = self.nodes[node as usize].disk.job(job).is_some_and(|job| job.state.is_over());
        if !over {
            self.step(node, Input::Stop(job));
            self.queue.plan(self.queue.now() + RETRY_MS, Event { node, what: What::Stop(task) });
        }
    }

    /// Gives a machine one input and performs all of its outputs, or those before it crashes.
    fn step(&mut self, number: u32, input: Input) {
        let now = self.now();
        let ticked = matches!(input, Input::Tick);
        let Some(machine) = self.nodes[number as usize].machine.as_mut() else { return };
        machine.handle(now, input);
        let bound = most_outputs(self.scenario.load.partitions, 4 * machine.open_jobs() + machine.held_executions());
        self.perform_all(number, ticked, bound);
    }

    /// Performs what the machine wants; a burning fuse may end its life between any two outputs.
    fn perform_all(&mut self, number: u32, ticked: bool, bound: usize) {
        let mut outputs = 0;
        while let Some(output) = self.nodes[number as usize].machine.as_mut().and_then(|machine| machine.poll()) {
            if self.burn(number) {
                return;
            }
            outputs += 1;
            self.perform(number, output);
        }
        let place = self.place(number);
        let Some(machine) = &self.nodes[number as usize].machine else { return };
        self.checks.stepped(place, machine, ticked, outputs, bound);
        if let Some(deadline) = machine.deadline() {
            self.plan_wake(number, deadline);
        }
    }

    fn plan_wake(&mut self, number: u32, deadline: Time) {
        let node = &mut self.nodes[number as usize];
        if deadline < node.wake {
            node.wake = deadline;
            self.queue.plan(deadline.0, Event { node: number, what: What::Wake });
        }
    }

    fn remember_award(&mut self, from: PeerId, to: PeerId, award: &Award) {
        if self.has.copiers {
            self.partition_of.insert(award.execution, (award.job, award.partition));
        }
        if self.has.flooders {
            self.recent_awards.truncate(REMEMBERED_AWARDS - 1);
            self.recent_awards.push_front((from, to, award.clone()));
        }
    }

    /// Time in which all jobs are submitted: many jobs take longer, so that the load stays about the same.
    fn spread_ms(&self) -> u64 {
        self.scenario.load.spread_ms * (self.setup.jobs as u64).div_ceil(JOBS_PER_SPREAD).max(1)
    }

    fn now(&self) -> Time {
        Time(self.queue.now())
    }

    fn place(&self, node: u32) -> Place {
        Place { node, now: self.now() }
    }

    fn has_sabotage(&self, sabotage: Sabotage) -> bool {
        self.scenario.sabotage == Some(sabotage)
    }
}

/// What a node believes of how many there are: nobody knows exactly.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a guess")]
fn guess(nodes: usize, chance: &mut Chance) -> u32 {
    (nodes as f64 * (chance.unit() + 0.5)).round().max(1.0) as u32
}

impl What {
    fn code(self) -> u64 {
        let (kind, id) = match self {
            What::Hear(_) => (0, 0),
            What::Wake => (1, 0),
            What::Host(_) => (2, 0),
            What::Submit(task) => (3, task),
            What::Stop(task) => (4, task),
            What::Arm => (5, 0),
            What::Crash => (6, 0),
            What::Start => (7, 0),
            What::Part => (8, 0),
            What::Join => (9, 0),
            What::Heal => (10, 0),
            What::Flood => (11, 0),
            What::Hoard => (12, 0),
        };
        kind << 24 | u64::from(id)
    }
}

/// Things with small numbers that are used again.
#[derive(Debug)]
struct Slab<T> {
    things: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { things: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    fn insert(&mut self, thing: T) -> u32 {
        if let Some(id) = self.free.pop() {
            self.things[id as usize] = Some(thing);
            return id;
        }
        self.things.push(Some(thing));
        u32::try_from(self.things.len() - 1).expect("fewer than four billion at once")
    }

    fn get_mut(&mut self, id: u32) -> &mut T {
        self.things[id as usize].as_mut().expect("it is there until it is removed")
    }

    fn remove(&mut self, id: u32) -> T {
        self.free.push(id);
        self.things[id as usize].take().expect("it is removed once")
    }
}
