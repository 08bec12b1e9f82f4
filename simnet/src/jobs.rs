//! The jobs that people submit in a run.

use std::collections::BTreeMap;

use shoal_protocol::id::BlobHash;
use shoal_protocol::job::spec::NetworkKind;
use shoal_protocol::machine::Means;
use shoal_protocol::message::{ExecutorKind, Needs, Resources};
use shoal_protocol::record::{Placement, Policy, Submission};
use shoal_protocol::task::{Compare, Content, ContentKind, Engine, Invocation, Limits, Mount, Wasm, Work};
use shoal_protocol::wire::canonical;

use crate::chance::{Chance, mix};
use crate::scenarios::Load;

/// The profile of the only engine here.
pub(crate) const PROFILE: &str = "wasm-1";
/// Memory of every execution, in bytes.
const MEMORY_BYTES: u64 = 256 << 20;
/// What every execution may write, in bytes.
const OUTPUT_BYTES: u64 = 64 << 20;
/// A run is given up after so many times its usual length, and never before a minute.
const TIMEOUT_FACTOR: u64 = 100;

/// How long results are to be kept, in milliseconds.
const RETENTION_MS: u64 = 3_600_000;
/// How long workers keep results at most, in milliseconds.
pub(crate) const KEEP_MS: u64 = 600_000;

/// What a worker of this world has: room for a few executions at once.
pub(crate) fn worker_capacity() -> Resources {
    Resources { cpu_millis: 4_000, memory_bytes: 8 << 30, disk_bytes: 64 << 30, gpus: 0 }
}

/// Draws the `number`-th job.
pub(crate) fn draw(load: &Load, number: u64, chance: &mut Chance) -> Submission {
    let module = BlobHash::of(&(number % 16).to_le_bytes());
    let input = Content { hash: BlobHash::of(&chance.bytes()), kind: ContentKind::Collection };
    let input_bytes = chance.between(1 << 10, 64 << 20);
    let wasm = Wasm {
        profile: PROFILE.into(),
        module,
        imports: Vec::new(),
        entry_point: "_start".into(),
        arguments: vec![format!("--job={number}")],
    };
    let invocation = Invocation {
        engine: Engine::Wasm(wasm),
        environment: BTreeMap::new(),
        inputs: vec![Mount { target: "/input".into(), content: input }],
        unread: Vec::new(),
        result_paths: Vec::new(),
        limits: Limits { memory_bytes: MEMORY_BYTES, fuel: 1 << 40, output_bytes: OUTPUT_BYTES },
    };
    let execution_timeout_ms = (load.run_ms * TIMEOUT_FACTOR).max(60_000);
    let (divided, partitions, compare) = (Vec::new(), load.partitions, Compare::All);
    let work = canonical(&Work { invocation, divided, partitions, execution_timeout_ms, compare, validator: None });
    let resources = Resources {
        cpu_millis: load.cpu_millis,
        memory_bytes: MEMORY_BYTES,
        disk_bytes: OUTPUT_BYTES + input_bytes,
        gpus: 0,
    };
    Submission {
        spec: format!("{{\"Name\":\"job {number}\"}}"),
        nonce: chance.number(),
        work,
        needs: Needs {
            executor: ExecutorKind::Wasm,
            profile: PROFILE.into(),
            resources,
            inputs: vec![(input, input_bytes)],
            input_bytes,
            constraints: Vec::new(),
            sources: Vec::new(),
            image: None,
            network: NetworkKind::None,
            image_name: String::new(),
            data: 0,
            data_bits: 0,
        },
        partitions: load.partitions,
        policy: Policy { agreement: load.agreement, executions: load.executions, max_executions: load.max_executions },
        priority: i64::try_from(number % load.priorities).unwrap_or(0),
        queue_timeout_ms: load.queue_timeout_ms,
        total_timeout_ms: 0,
        output_bytes: OUTPUT_BYTES,
        placement: Placement::Mesh,
        publishes: load.published > 0.0 && chance.happens(load.published),
        retention_ms: RETENTION_MS,
        inputs: Vec::new(),
    }
}

/// What a node has for a job.
pub(crate) fn means(node: u32, needs: &Needs) -> Means {
    let missing_bytes = missing_bytes(node, needs);
    Means { missing_bytes, disk_bytes: u64::MAX, has_image: true, data_here: missing_bytes == 0 }
}

/// How many bytes of a job's inputs a node lacks: one node in ten has each input already.
fn missing_bytes(node: u32, needs: &Needs) -> u64 {
    let lacks = |content: &Content| {
        let start = u64::from_le_bytes(std::array::from_fn(|i| content.hash.0[i]));
        !mix(start, u64::from(node)).is_multiple_of(10)
    };
    needs.inputs.iter().filter(|(content, _)| lacks(content)).map(|(_, bytes)| bytes).sum()
}
