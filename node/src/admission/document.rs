//! A job as probes see it: JSON in the style of a job file, with what its worker knows of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shoal_protocol::id::{BlobHash, PeerId};
use shoal_protocol::job::parse;
use shoal_protocol::job::spec::{self, BlobSource, InputSource, Resolve, Source, Task, Timeouts};
use shoal_protocol::job::units::{Bytes, Cpu, Gpus};
use shoal_protocol::task::{Content, ContentKind, Docker, Engine, Invocation, Network, Wasm};

use crate::hands::Needed;

/// Where old job files have their modules, so that a target says which input is one.
const ENTRY: &str = "/wasm/entry.wasm";
const IMPORTS: &str = "/wasm/imports/";
/// What the node adds to a job's own variables.
const OUR_PREFIX: &str = "BACALHAU_";

/// What the probes of node `me` are told of a job.
pub(super) fn document(me: PeerId, needed: &Needed) -> String {
    let (partition, count) = needed.partition;
    let kind = needed.invocation.environment.get("BACALHAU_JOB_TYPE");
    let mut task = serde_json::to_value(task(needed)).expect("a task is plain data");
    // Where results go is the requester's business, and not known here.
    task.as_object_mut().map(|task| task.remove("Publisher"));
    if let Engine::Docker(docker) = &needed.invocation.engine {
        task["Engine"]["Params"]["ImageID"] = Value::from(docker.image.id.to_string());
    }
    let job = json!({ "ID": needed.job, "Type": kind, "Count": count, "Partition": partition, "Tasks": [task] });
    json!({ "NodeID": me, "RequesterID": needed.from, "Job": job }).to_string()
}

fn task(needed: &Needed) -> Task {
    let Invocation { engine, environment, inputs, unread, result_paths, limits } = needed.invocation.as_ref();
    let own = environment.iter().filter(|(name, _)| !name.starts_with(OUR_PREFIX));
    let mounts = inputs.iter().map(|mount| blob(mount.target.clone(), mount.content));
    let unread = unread.iter().filter_map(|unread| {
        let source = parse::source(&unread.source).ok()?;
        Some(InputSource { source, resolve: Resolve::Worker, ..blob(unread.target.clone(), raw(BlobHash([0; 32]))) })
    });
    let results = result_paths.iter().map(|result| (result.name.clone(), result.path.clone()));
    Task {
        env: own.map(|(name, value)| (name.clone(), value.clone())).collect::<BTreeMap<_, _>>(),
        input_sources: modules(engine).into_iter().chain(mounts).chain(unread).collect(),
        result_paths: results.map(|(name, path)| spec::ResultPath { name, path }).collect(),
        resources: spec::Resources {
            cpu: Cpu(needed.resources.cpu_millis),
            memory: Bytes(needed.resources.memory_bytes),
            disk: Bytes(limits.output_bytes),
            gpu: Gpus(needed.resources.gpus),
        },
        network: network(engine),
        timeouts: Timeouts { execution_secs: needed.timeout_ms.div_ceil(1_000), ..Timeouts::default() },
        ..Task::new(program(engine, &needed.image_name))
    }
}

fn program(engine: &Engine, image_name: &str) -> spec::Engine {
    match engine {
        Engine::Docker(docker) => spec::Engine::Docker(container(docker, image_name)),
        Engine::Wasm(wasm) => spec::Engine::Wasm(spec::Wasm {
            entry_module: ENTRY.into(),
            entrypoint: wasm.entry_point.clone(),
            parameters: wasm.arguments.clone(),
            import_modules: wasm.imports.iter().map(|import| format!("{IMPORTS}{}", import.name)).collect(),
        }),
    }
}

fn container(docker: &Docker, image_name: &str) -> spec::Docker {
    spec::Docker {
        image: image_name.to_owned(),
        entrypoint: docker.entrypoint.clone(),
        parameters: docker.parameters.clone(),
        environment_variables: Vec::new(),
        working_directory: docker.working_directory.clone(),
        platform: Some(docker.platform.clone()),
    }
}

fn network(engine: &Engine) -> spec::Network {
    let Engine::Docker(docker) = engine else { return spec::Network::default() };
    let domains = if let Network::Http(domains) = &docker.network { domains.clone() } else { Vec::new() };
    spec::Network { kind: docker.network.kind(), domains, ports: Vec::new() }
}

/// Modules are inputs, as in a job file.
fn modules(engine: &Engine) -> Vec<InputSource> {
    let Engine::Wasm(Wasm { module, imports, .. }) = engine else { return Vec::new() };
    let imports = imports.iter().map(|import| blob(format!("{IMPORTS}{}", import.name), raw(import.module)));
    std::iter::once(blob(ENTRY.into(), raw(*module))).chain(imports).collect()
}

fn blob(target: String, content: Content) -> InputSource {
    let source = Source::Blob(BlobSource::from(content));
    InputSource { source, alias: String::new(), target, resolve: Resolve::Requester }
}

fn raw(hash: BlobHash) -> Content {
    Content { hash, kind: ContentKind::Raw }
}

#[cfg(test)]
mod tests {
    use shoal_protocol::id::{ImageId, JobId};
    use shoal_protocol::message::Resources;
    use shoal_protocol::record::Placement;
    use shoal_protocol::task::{Image, ImageOrigin, ImportModule, Limits, Mount, ResultPath, Unread};

    use super::*;

    fn needed(engine: Engine) -> Needed {
        let variables = [("BACALHAU_JOB_TYPE", "batch"), ("BACALHAU_PARTITION_COUNT", "3"), ("KEY", "value")];
        let content = Content { hash: BlobHash([4; 32]), kind: ContentKind::Collection };
        let source = r#"{"Type": "urlDownload", "Params": {"URL": "https://example.com/a"}}"#;
        let invocation = Invocation {
            engine,
            environment: variables.map(|(name, value)| (name.into(), value.into())).into(),
            inputs: vec![Mount { target: "/in".into(), content }],
            unread: vec![Unread { target: "/read".into(), source: source.into() }],
            result_paths: vec![ResultPath { name: "out".into(), path: "/out".into() }],
            limits: Limits { memory_bytes: 1 << 20, fuel: 0, output_bytes: 1 << 30 },
        };
        Needed {
            job: JobId([1; 16]),
            from: PeerId([2; 32]),
            invocation: Box::new(invocation),
            placement: Placement::Mesh,
            image_name: "busybox:1.37".into(),
            resources: Resources { cpu_millis: 500, memory_bytes: 1 << 20, disk_bytes: 2 << 30, gpus: 0 },
            timeout_ms: 60_000,
            partition: (1, 3),
        }
    }

    fn told(engine: Engine) -> Value {
        serde_json::from_str(&document(PeerId([3; 32]), &needed(engine))).unwrap()
    }

    #[test]
    fn a_container_is_told_as_its_job_file_says_it_and_by_what_is_certain() {
        let docker = Docker {
            platform: "linux/amd64".into(),
            image: Image { id: ImageId([5; 32]), origin: ImageOrigin::Engine },
            entrypoint: vec!["sh".into()],
            parameters: vec!["-c".into(), "true".into()],
            working_directory: Some("/work".into()),
            network: Network::Http(vec!["example.com".into()]),
            cpu_millis: 500,
            gpus: 0,
        };
        let told = told(Engine::Docker(docker));
        let (four, five) = ("04".repeat(32), format!("sha256:{}", "05".repeat(32)));
        let expected = json!({
            "NodeID": "03".repeat(32),
            "RequesterID": "02".repeat(32),
            "Job": {
                "ID": format!("j-{}", "01".repeat(16)),
                "Type": "batch",
                "Count": 3,
                "Partition": 1,
                "Tasks": [{
                    "Name": "main",
                    "Engine": {"Type": "docker", "Params": {
                        "Image": "busybox:1.37",
                        "ImageID": five,
                        "Entrypoint": ["sh"],
                        "Parameters": ["-c", "true"],
                        "WorkingDirectory": "/work",
                        "Platform": "linux/amd64",
                    }},
                    "Env": {"KEY": "value"},
                    "InputSources": [
                        {"Source": {"Type": "blob", "Params": {"Hash": four, "Kind": "folder"}}, "Target": "/in"},
                        {
                            "Source": {"Type": "urlDownload", "Params": {"URL": "https://example.com/a"}},
                            "Target": "/read",
                            "Resolve": "worker",
                        },
                    ],
                    "ResultPaths": [{"Name": "out", "Path": "/out"}],
                    "Resources": {"CPU": "500m", "Memory": "1MiB", "Disk": "1GiB", "GPU": "0"},
                    "Network": {"Type": "HTTP", "Domains": ["example.com"]},
                    "Timeouts": {"ExecutionTimeout": 60, "QueueTimeout": 0, "TotalTimeout": 0},
                }],
            },
        });
        assert_eq!(told, expected, "{told:#}");
    }

    #[test]
    fn modules_are_inputs_by_their_hashes() {
        let engine = Engine::Wasm(Wasm {
            profile: "wasm-3".into(),
            module: BlobHash([7; 32]),
            imports: vec![ImportModule { name: "math".into(), module: BlobHash([8; 32]) }],
            entry_point: "_start".into(),
            arguments: vec!["a".into()],
        });
        let task = &told(engine)["Job"]["Tasks"][0];
        let params = &task["Engine"]["Params"];
        assert_eq!(
            (&params["EntryModule"], &params["ImportModules"][0]),
            (&json!(ENTRY), &json!("/wasm/imports/math"))
        );
        let inputs = task["InputSources"].as_array().unwrap();
        assert_eq!(inputs[0]["Source"]["Params"]["Hash"], "07".repeat(32));
        assert_eq!(inputs[1]["Target"], params["ImportModules"][0]);
    }
}
