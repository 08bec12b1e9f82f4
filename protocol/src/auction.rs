//! Who runs the job: what a worker bids, and which bids the requester takes.
//!
//! Cheapest first among workers we trust enough; ties go to chance, so that no address is favoured. Executions
//! of one partition go to *independent* workers: distinct keys and distinct groups.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::admission::Admission;
use crate::id::PeerId;
use crate::job::spec::NetworkKind;
use crate::message::{
    Amount, Bid, Constraint, Contact, ExecutorKind, ImageSource, Needs, Operator, Reason, Resource, Resources,
    SourceKind,
};
use crate::time::Millis;

/// The highest cost a bid can name.
pub const MAX_COST: u16 = 10_000;
/// A bid that is better by less than this is not worth a message to the whole mesh.
pub const COST_STEP: u16 = MAX_COST / 10;

/// What a worker offers to the mesh: chosen by its operator.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Offering {
    /// Its executors and their profiles; none for a node that only submits.
    pub executors: BTreeMap<ExecutorKind, String>,
    /// All that its executions may use together.
    pub capacity: Resources,
    /// Its labels, for constraints.
    pub labels: BTreeMap<String, String>,
    /// Who operates it, if declared.
    pub operator: Option<String>,
    /// Sources that it reads for others.
    pub sources: BTreeSet<SourceKind>,
    /// Networks that it gives containers, beside none.
    pub networks: BTreeSet<NetworkKind>,
    /// For how long it keeps results of others at most, in milliseconds; 0 for not at all.
    pub keep_ms: Millis,
    /// Which jobs it takes.
    pub admission: Admission,
}

/// Whether a worker could run a job with all its capacity free; if not, why.
pub fn could_run(offering: &Offering, needs: &Needs) -> Result<(), Reason> {
    match offering.executors.get(&needs.executor) {
        None => return Err(Reason::NoExecutor(needs.executor)),
        Some(profile) if *profile != needs.profile => return Err(Reason::OtherProfile(profile.clone())),
        Some(_) => {}
    }
    if let Some(failed) = needs.constraints.iter().find(|constraint| !satisfied(constraint, &offering.labels)) {
        return Err(Reason::Constraint(failed.key.clone()));
    }
    if let Some(kind) = needs.sources.iter().find(|kind| !offering.sources.contains(kind)) {
        return Err(Reason::NoSource(*kind));
    }
    could_give(offering, needs)
}

/// Whether a worker has the network and the resources of a job, with all its capacity free; if not, why.
pub fn could_give(offering: &Offering, needs: &Needs) -> Result<(), Reason> {
    if needs.network != NetworkKind::None && !offering.networks.contains(&needs.network) {
        return Err(Reason::NoNetwork(needs.network));
    }
    let wanted = amounts(&needs.resources).into_iter().zip(amounts(&offering.capacity));
    for ((resource, want), (_, have)) in wanted {
        if want > have {
            return Err(Reason::TooLarge(resource, want, have));
        }
    }
    Ok(())
}

/// How often `needs` fit into what is free.
pub fn slots(needs: &Resources, free: &Resources) -> u16 {
    let fits = amounts(needs).into_iter().zip(amounts(free)).filter(|((_, want), _)| *want > 0);
    let most = fits.map(|((_, want), (_, have))| have / want).min().unwrap_or(1);
    u16::try_from(most).unwrap_or(u16::MAX)
}

/// The share of the capacity that is used up first, of a `whole`; all of it if there is no such capacity.
pub(crate) fn dominant_share(resources: &Resources, capacity: &Resources, whole: u64) -> u64 {
    let parts = amounts(resources).into_iter().zip(amounts(capacity)).filter(|((_, part), _)| *part > 0);
    let shares = parts.map(|((_, part), (_, of))| scale(part.min(of), whole, of.max(1)));
    shares.max().unwrap_or(0)
}

/// What running a job would cost a worker, from 0 to [`MAX_COST`]: bytes it lacks, and how busy it is.
pub fn cost(missing_bytes: u64, used: &Resources, capacity: &Resources) -> u16 {
    // Half of the scale for data (a gigabyte to fetch is as bad as it gets), half for load.
    const DEAR_BYTES: u64 = 1 << 30;
    let half = u64::from(MAX_COST / 2);
    let data = half * missing_bytes.min(DEAR_BYTES) / DEAR_BYTES;
    let load = half * u64::from(used.cpu_millis.min(capacity.cpu_millis)) / u64::from(capacity.cpu_millis.max(1));
    u16::try_from(data + load).unwrap_or(MAX_COST)
}

/// A constraint of a job against a worker's labels.
fn satisfied(constraint: &Constraint, labels: &BTreeMap<String, String>) -> bool {
    let label = labels.get(&constraint.key);
    let listed = label.is_some_and(|label| constraint.values.contains(label));
    let numbers = || Some((label?.parse::<i64>().ok()?, constraint.values.first()?.parse::<i64>().ok()?));
    match constraint.operator {
        Operator::Equals | Operator::In => listed,
        Operator::NotEquals | Operator::NotIn => !listed,
        Operator::Exists => label.is_some(),
        Operator::Absent => label.is_none(),
        Operator::Greater => numbers().is_some_and(|(label, value)| label > value),
        Operator::Less => numbers().is_some_and(|(label, value)| label < value),
    }
}

fn amounts(resources: &Resources) -> [(Resource, u64); 4] {
    [
        (Resource::Cpu, u64::from(resources.cpu_millis)),
        (Resource::Memory, resources.memory_bytes),
        (Resource::Disk, resources.disk_bytes),
        (Resource::Gpu, u64::from(resources.gpus)),
    ]
}

impl Resources {
    /// The sum, as far as numbers go.
    pub fn plus(self, other: Resources) -> Resources {
        Resources {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
            gpus: self.gpus.saturating_add(other.gpus),
        }
    }

    /// What is left without `other`; nothing is ever less than none.
    pub fn minus(self, other: Resources) -> Resources {
        Resources {
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
            disk_bytes: self.disk_bytes.saturating_sub(other.disk_bytes),
            gpus: self.gpus.saturating_sub(other.gpus),
        }
    }

    /// This times `times`, divided by `parts`, as far as numbers go.
    pub(crate) fn scaled(self, times: u64, parts: u64) -> Resources {
        let of = |amount: u64| scale(amount, times, parts);
        Resources {
            cpu_millis: u32::try_from(of(u64::from(self.cpu_millis))).unwrap_or(u32::MAX),
            memory_bytes: of(self.memory_bytes),
            disk_bytes: of(self.disk_bytes),
            gpus: u16::try_from(of(u64::from(self.gpus))).unwrap_or(u16::MAX),
        }
    }

    /// Of each thing the smaller amount.
    pub(crate) fn at_most(self, other: Resources) -> Resources {
        Resources {
            cpu_millis: self.cpu_millis.min(other.cpu_millis),
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
            disk_bytes: self.disk_bytes.min(other.disk_bytes),
            gpus: self.gpus.min(other.gpus),
        }
    }

    /// This, `times` times.
    pub fn times(self, times: u16) -> Resources {
        Resources {
            cpu_millis: self.cpu_millis.saturating_mul(u32::from(times)),
            memory_bytes: self.memory_bytes.saturating_mul(u64::from(times)),
            disk_bytes: self.disk_bytes.saturating_mul(u64::from(times)),
            gpus: self.gpus.saturating_mul(times),
        }
    }
}

fn scale(amount: u64, times: u64, parts: u64) -> u64 {
    u64::try_from(u128::from(amount) * u128::from(times) / u128::from(parts)).unwrap_or(u64::MAX)
}

/// The group of workers that are not independent of this one: its declared operator, else its public network
/// (IPv4 /24, IPv6 /48). Loopback and private addresses form no group.
pub fn group(operator: Option<&str>, contact: &Contact) -> Option<String> {
    let named = operator.map(|name| format!("operator {name}"));
    named.or_else(|| contact.addresses.iter().find_map(network))
}

fn network(address: &SocketAddr) -> Option<String> {
    match address.ip() {
        IpAddr::V4(ip) if !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified()) => {
            let [a, b, c, _] = ip.octets();
            Some(format!("{a}.{b}.{c}.0/24"))
        }
        // Only global unicast is public.
        IpAddr::V6(ip) if ip.segments()[0] & 0xe000 == 0x2000 => {
            let [a, b, c, ..] = ip.segments();
            Some(format!("{a:x}:{b:x}:{c:x}::/48"))
        }
        _ => None,
    }
}

/// A worker that offered, as the requester sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub worker: PeerId,
    /// Its bid.
    pub bid: Bid,
    /// Executions that it may still be given.
    pub slots: u16,
    /// What counts against it beside its cost, on the scale of costs.
    pub penalty: u16,
    /// Breaks ties: drawn when the bid was heard.
    pub lot: u64,
}

/// Picks the best candidate that is independent of `taken` workers and groups.
pub fn pick<'a>(
    candidates: impl Iterator<Item = &'a Candidate>,
    taken: &BTreeSet<PeerId>,
    groups: &BTreeSet<String>,
) -> Option<&'a Candidate> {
    candidates
        .filter(|candidate| candidate.slots > 0 && !taken.contains(&candidate.worker))
        .filter(|candidate| candidate.group().is_none_or(|group| !groups.contains(&group)))
        .min_by_key(|candidate| (u32::from(candidate.bid.cost) + u32::from(candidate.penalty), candidate.lot))
}

impl Candidate {
    /// Its group, if it has one.
    pub fn group(&self) -> Option<String> {
        group(self.bid.operator.as_deref(), &self.bid.contact)
    }
}

/// Why peers did not bid, counted: "3 peers: no docker; 2 peers: memory 8 GiB > 4 GiB".
pub fn summary<'a>(reasons: impl Iterator<Item = &'a Reason>) -> String {
    let mut counts: BTreeMap<&Reason, u32> = BTreeMap::new();
    reasons.for_each(|reason| *counts.entry(reason).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let lines = counts.iter().map(|(reason, count)| format!("{}: {reason}", plural(*count, "peer")));
    lines.collect::<Vec<_>>().join("; ")
}

/// "1 peer", "2 peers".
pub fn plural(count: u32, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

impl Reason {
    /// The setting of a node that decides it, as its operator knows it.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            Reason::NoExecutor(_) => Some("executors"),
            Reason::TooLarge(Resource::Cpu, ..) => Some("max_cpu"),
            Reason::TooLarge(Resource::Memory, ..) => Some("max_memory"),
            Reason::TooLarge(Resource::Disk, ..) | Reason::DiskFull(..) => Some("max_disk"),
            Reason::TooLarge(Resource::Gpu, ..) => Some("gpus"),
            Reason::Constraint(_) => Some("labels"),
            Reason::NoSource(_) => Some("sources"),
            Reason::NoImage(ImageSource::Registry) => Some("docker_pull"),
            Reason::NoNetwork(_) => Some("docker_networks"),
            Reason::Image(_) => Some("allow_images or deny_images"),
            Reason::Requester => Some("allow_requesters or block_requesters"),
            Reason::Stateless => Some("reject_stateless"),
            Reason::NotLocal => Some("locality"),
            Reason::NoImage(_)
            | Reason::OtherProfile(_)
            | Reason::Busy
            | Reason::Policy(_)
            | Reason::Unsettled(_)
            | Reason::Owing(_)
            | Reason::OtherVersion(_) => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoExecutor(kind) => write!(f, "no {kind} executor"),
            Reason::NoSource(kind) => write!(f, "reads no {kind} sources for others"),
            Reason::NoNetwork(kind) => write!(f, "its operator gives containers no network of type {}", kind.name()),
            Reason::OtherProfile(profile) => write!(f, "its profile is {profile}"),
            Reason::TooLarge(Resource::Cpu, want, have) => {
                write!(f, "CPU {} > {}", thousandths(*want), thousandths(*have))
            }
            Reason::TooLarge(Resource::Gpu, want, have) => write!(f, "GPU {want} > {have}"),
            Reason::TooLarge(Resource::Memory, want, have) => write!(f, "memory {} > {}", bytes(*want), bytes(*have)),
            Reason::TooLarge(Resource::Disk, want, have) => write!(f, "disk {} > {}", bytes(*want), bytes(*have)),
            Reason::DiskFull(want, free) => write!(f, "disk: needs {}, {} free", bytes(*want), bytes(*free)),
            Reason::NoImage(ImageSource::Registry) => f.write_str("does not have the image, and pulls none"),
            Reason::NoImage(_) => f.write_str("does not have the image"),
            Reason::Busy => f.write_str("busy"),
            Reason::Constraint(key) => write!(f, "label {key:?} does not satisfy the constraint"),
            Reason::Policy(words) => write!(f, "its operator refuses: {words:?}"),
            Reason::Image(name) => write!(f, "its operator does not allow image {name:?}"),
            Reason::Unsettled(count) => {
                write!(f, "no standing there: {} unsettled; it fades within days", plural(*count, "finished execution"))
            }
            Reason::Owing(count) => write!(f, "{} to settle there first", plural(*count, "finished execution")),
            Reason::OtherVersion(version) => {
                write!(f, "speaks protocol version {version}, which lacks something that the job needs")
            }
            Reason::Requester => f.write_str("its operator does not allow jobs of this requester"),
            Reason::Stateless => f.write_str("its operator allows no jobs without inputs"),
            Reason::NotLocal => f.write_str("its operator allows only jobs whose inputs it already has"),
        }
    }
}

impl fmt::Display for ExecutorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExecutorKind::Wasm => "wasm",
            ExecutorKind::Docker => "docker",
        })
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", bytes(self.done_bytes), bytes(self.total_bytes))
    }
}

fn thousandths(value: u64) -> String {
    if value.is_multiple_of(1_000) { (value / 1_000).to_string() } else { format!("{value}m") }
}

fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (value.max(1).ilog2() as usize / 10).min(UNITS.len() - 1);
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let scaled = value as f64 / f64::powi(1024.0, i32::try_from(power).unwrap_or(0));
    let digits = usize::from(scaled.fract() >= 0.05);
    format!("{scaled:.digits$} {}", UNITS[power])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JobId;

    fn needs() -> Needs {
        Needs {
            executor: ExecutorKind::Wasm,
            profile: "wasm-1".into(),
            resources: Resources { cpu_millis: 500, memory_bytes: 1 << 30, disk_bytes: 0, gpus: 0 },
            inputs: Vec::new(),
            input_bytes: 0,
            constraints: Vec::new(),
            sources: Vec::new(),
            image: None,
            network: NetworkKind::None,
            image_name: String::new(),
            data: 0,
            data_bits: 0,
        }
    }

    fn offering() -> Offering {
        Offering {
            networks: BTreeSet::new(),
            executors: [(ExecutorKind::Wasm, "wasm-1".into())].into(),
            capacity: Resources { cpu_millis: 2_000, memory_bytes: 3 << 30, disk_bytes: 0, gpus: 0 },
            labels: [("zone".into(), "eu".into()), ("cores".into(), "8".into())].into(),
            operator: None,
            sources: BTreeSet::new(),
            keep_ms: 0,
            admission: Admission::default(),
        }
    }

    fn candidate(worker: u8, cost: u16, address: &str) -> Candidate {
        let contact = Contact { addresses: vec![address.parse().unwrap()], relay: None };
        let bid = Bid { job: JobId([0; 16]), round: 0, slots: 1, cost, operator: None, contact, waited_ms: 0 };
        Candidate { worker: PeerId([worker; 32]), bid, slots: 1, penalty: 0, lot: 0 }
    }

    #[test]
    fn a_worker_says_what_it_lacks() {
        let docker = Needs { executor: ExecutorKind::Docker, ..needs() };
        let large = Needs { resources: Resources { memory_bytes: 8 << 30, ..needs().resources }, ..needs() };
        assert_eq!(could_run(&offering(), &needs()), Ok(()));
        let reasons = [could_run(&offering(), &docker), could_run(&offering(), &large), could_run(&offering(), &large)];
        let reasons: Vec<Reason> = reasons.into_iter().filter_map(Result::err).collect();
        assert_eq!(summary(reasons.iter()), "2 peers: memory 8 GiB > 3 GiB; 1 peer: no docker executor");
    }

    #[test]
    fn a_network_is_given_only_where_the_operator_allows_it() {
        let open = Offering { networks: BTreeSet::from([NetworkKind::Http]), ..offering() };
        let wanting = |network| Needs { network, ..needs() };
        assert_eq!(could_run(&open, &wanting(NetworkKind::Http)), Ok(()));
        assert_eq!(could_run(&open, &needs()), Ok(()), "none is given always");
        let reasons =
            [could_run(&open, &wanting(NetworkKind::Host)), could_run(&offering(), &wanting(NetworkKind::Http))];
        let reasons: Vec<Reason> = reasons.into_iter().filter_map(Result::err).collect();
        let expected = "1 peer: its operator gives containers no network of type Host; \
                        1 peer: its operator gives containers no network of type HTTP";
        assert_eq!(summary(reasons.iter()), expected);
    }

    #[test]
    fn constraints_compare_labels() {
        let table = [
            ("zone", Operator::Equals, vec!["eu"], true),
            ("zone", Operator::NotEquals, vec!["eu"], false),
            ("zone", Operator::In, vec!["us", "eu"], true),
            ("nowhere", Operator::NotIn, vec!["us"], true),
            ("zone", Operator::Exists, vec![], true),
            ("zone", Operator::Absent, vec![], false),
            ("cores", Operator::Greater, vec!["4"], true),
            ("cores", Operator::Less, vec!["8"], false),
            ("zone", Operator::Greater, vec!["4"], false),
        ];
        for (key, operator, values, expected) in table {
            let values = values.into_iter().map(str::to_owned).collect();
            let constraint = Constraint { key: key.into(), operator, values };
            assert_eq!(satisfied(&constraint, &offering().labels), expected, "{constraint:?}");
        }
    }

    #[test]
    fn slots_are_what_fits_into_the_scarcest() {
        assert_eq!(slots(&needs().resources, &offering().capacity), 3);
        assert_eq!(slots(&needs().resources, &Resources::default()), 0);
        assert_eq!(slots(&Resources::default(), &Resources::default()), 1);
    }

    #[test]
    fn data_at_hand_beats_an_idle_machine_with_none() {
        let capacity = offering().capacity;
        let half = Resources { cpu_millis: 1_000, ..Resources::default() };
        assert!(cost(0, &half, &capacity) < cost(1 << 30, &Resources::default(), &capacity));
        assert!(cost(u64::MAX, &capacity, &capacity) <= MAX_COST);
    }

    #[test]
    fn public_neighbours_form_a_group_and_home_networks_do_not() {
        let of = |address: &str| group(None, &candidate(1, 0, address).bid.contact);
        assert_eq!(of("93.184.216.34:1"), of("93.184.216.99:2"));
        assert_ne!(of("93.184.216.34:1"), of("93.184.217.34:1"));
        assert_eq!(of("[2606:2800:220::1]:1"), of("[2606:2800:220:ffff::2]:1"));
        assert_eq!([of("127.0.0.1:1"), of("192.168.1.5:1"), of("[::1]:1"), of("[fe80::1]:1")], [const { None }; 4]);
        assert_eq!(group(Some("ann"), &Contact::default()).as_deref(), Some("operator ann"));
    }

    #[test]
    fn the_cheapest_independent_worker_is_picked() {
        let all = [candidate(1, 5, "9.9.9.1:1"), candidate(2, 6, "9.9.9.2:1"), candidate(3, 7, "8.8.8.8:1")];
        let picked = pick(all.iter(), &BTreeSet::new(), &BTreeSet::new()).unwrap();
        assert_eq!(picked.worker, PeerId([1; 32]));
        let (taken, groups) = ([picked.worker].into(), picked.group().into_iter().collect());
        assert_eq!(pick(all.iter(), &taken, &groups).unwrap().worker, PeerId([3; 32]));
        assert_eq!(pick(all[..2].iter(), &taken, &groups), None);
    }
}
