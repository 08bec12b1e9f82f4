use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::job::spec::{
    BlobPublisher, BlobRoot, BlobSource, Docker, InputSource, LocalSource, NetworkKind, Port, Publisher, Resolve,
    ResultPath, S3Publisher, S3Source, Source, Task, Wasm,
};
use crate::job::units::{Bytes, Cpu, Seconds};
use crate::message::Operator;
use crate::task::{Compare, Content, ContentKind};

fn job(text: &str) -> Job {
    parse(text).unwrap_or_else(|why| panic!("{why}\n{text}")).job
}

fn refused(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// A batch job whose one task has `more` besides its name and engine.
fn with_task(more: &str) -> String {
    format!("Type: batch\nTasks: [{{Name: main, Engine: {{Type: wasm, Params: {{EntryModule: /m}}}}, {more}}}]")
}

fn with_job(more: &str) -> String {
    format!("{more}\n{}", with_task(""))
}

#[test]
fn a_job_of_every_default_is_this_json() {
    let text = include_str!("../../../tests/jobs/c-inline-module.yaml");
    let expected = json!({
        "Name": "Wasm Job",
        "Namespace": "default",
        "Type": "batch",
        "Priority": 0,
        "Count": 1,
        "Constraints": [],
        "Meta": {},
        "Labels": {},
        "Tasks": [{
            "Name": "main",
            "Engine": {
                "Type": "wasm",
                "Params": {"EntryModule": "wasm.main", "Entrypoint": "_start", "Parameters": ["--n", "7"]},
            },
            "Publisher": {"Type": "blob"},
            "InputSources": [{
                "Source": {"Type": "inline", "Params": {"URL": "data:application/wasm;base64,AGFzbQEAAAA="}},
                "Target": "/wasm.main",
            }],
            "Resources": {"CPU": "500m", "Memory": "512MB", "Disk": "1GiB", "GPU": "0"},
            "Network": {"Type": "None"},
            "Timeouts": {"ExecutionTimeout": 0, "QueueTimeout": 0, "TotalTimeout": 0},
        }],
        "Verification": {"Type": "quorum", "Agreement": 2, "Executions": 3, "MaxExecutions": 7},
    });
    assert_eq!(serde_json::to_value(job(text)).unwrap(), expected);
}

#[test]
fn every_field_of_a_large_job_is_kept() {
    let job = job(include_str!("../../../tests/jobs/e-partitioned-s3.yaml"));
    let expected = json!({
        "Name": "part",
        "Namespace": "default",
        "Type": "batch",
        "Priority": 0,
        "Count": 4,
        "Constraints": [
            {"Key": "gpu-class", "Operator": "in", "Values": ["a", "b"]},
            {"Key": "zone", "Operator": "exists", "Values": []},
        ],
        "Meta": {},
        "Labels": {},
        "Tasks": [{
            "Name": "main",
            "Engine": {"Type": "docker", "Params": {"Image": "alpine:3", "Parameters": ["ls", "/data"]}},
            "Publisher": {
                "Type": "s3",
                "Params": {"Bucket": "r", "Key": "run/{jobID}/{executionID}/", "Region": "eu-west-1"},
            },
            "InputSources": [{
                "Source": {
                    "Type": "s3",
                    "Params": {
                        "Bucket": "b", "Key": "logs/*", "Region": "eu-west-1",
                        "Partition": {"Type": "regex", "Pattern": "^(\\w{3})", "StartIndex": 0, "EndIndex": 0},
                    },
                },
                "Target": "/data",
            }],
            "ResultPaths": [{"Name": "outputs", "Path": "/outputs"}],
            "Resources": {"CPU": "500m", "Memory": "1GiB", "Disk": "2GB", "GPU": "1"},
            "Network": {"Type": "HTTP", "Domains": [".example.org"]},
            "Timeouts": {"ExecutionTimeout": 600, "QueueTimeout": 120, "TotalTimeout": 900},
        }],
        "Verification": {"Type": "none", "Agreement": 1, "Executions": 1, "MaxExecutions": 1},
    });
    assert_eq!(serde_json::to_value(job).unwrap(), expected);
}

#[test]
fn legacy_modules_become_inputs() {
    let job = job(include_str!("../../../tests/jobs/legacy-modules.yaml"));
    let Engine::Wasm(wasm) = &job.task.engine else { panic!("it is a wasm job") };
    assert_eq!(wasm.entry_module, "/wasm/entry.wasm");
    assert_eq!(wasm.entrypoint, "run");
    assert_eq!(wasm.import_modules, ["/wasm/imports/module_0.wasm"]);
    let targets: Vec<&str> = job.task.input_sources.iter().map(|input| input.target.as_str()).collect();
    assert_eq!(targets, ["/wasm/entry.wasm", "/wasm/imports/module_0.wasm"]);
}

#[test]
fn verification_left_out_in_part_is_completed() {
    let table = [
        ("", (2, 3, 7)),
        ("Executions: 1", (1, 1, 3)),
        ("Executions: 5", (2, 5, 9)),
        ("Agreement: 5", (5, 5, 15)),
        ("Agreement: 1", (1, 3, 5)),
        ("MaxExecutions: 4", (2, 3, 4)),
        ("Type: none", (1, 1, 1)),
        ("type: Quorum, agreement: 32", (32, 32, 32)),
        ("Agreement: 3, Executions: 4, MaxExecutions: 5", (3, 4, 5)),
    ];
    for (given, expected) in table {
        let Verification { agreement, executions, max_executions, .. } =
            job(&with_job(&format!("Verification: {{{given}}}"))).verification;
        assert_eq!((agreement, executions, max_executions), expected, "{given}");
    }
}

#[test]
fn what_is_compared_is_named_by_a_word_a_name_or_a_path_and_asks_for_a_quorum() {
    let results = "ResultPaths: [{Name: outputs, Path: /outputs}, {Name: table, Path: /out/table}]";
    let docker = with_task(results).replace("wasm, Params: {EntryModule: /m}", "docker, Params: {Image: a}");
    let compared = |words: &str| {
        let job = job(&format!("{docker}\nVerification: {{{words}}}"));
        let shown = serde_json::to_value(&job).unwrap()["Verification"]["Compare"].clone();
        let again: Job = serde_json::from_value(serde_json::to_value(&job).unwrap()).unwrap();
        assert_eq!(again, job, "{words}");
        (job.verification.kind, shown, job.verification.compare.resolve(&job.task.result_paths))
    };
    let part = |name: &str| Some(Compare::Part(name.into()));
    let quorum = VerificationKind::Quorum;
    assert_eq!(compared(""), (VerificationKind::None, json!(null), Some(Compare::All)));
    assert_eq!(compared("Compare: ALL"), (quorum, json!(null), Some(Compare::All)));
    assert_eq!(compared("compare: Outputs"), (quorum, json!("outputs"), Some(Compare::Outputs)));
    assert_eq!(compared("Compare: table"), (quorum, json!("table"), part("table")));
    assert_eq!(compared("Compare: /outputs/"), (quorum, json!("/outputs/"), part("outputs")));
    assert_eq!(compared("Compare: STDOUT"), (quorum, json!("STDOUT"), part("stdout")));
    assert_eq!(compared("Compare: /out"), (quorum, json!("/out"), None));
}

#[test]
fn counts_follow_the_type() {
    for (text, count) in [("batch", 1), ("service", 1), ("ops", 0), ("Daemon", 0)] {
        let text = with_task("").replace("batch", text);
        assert_eq!(job(&text).count, count, "{text}");
    }
    assert_eq!(job(&with_job("Count: 0")).count, 0);
    assert_eq!(job(&with_job("Count: 3.0")).count, 3);
    assert_eq!(job(&with_job("Count: null")).count, 1);
}

#[test]
fn asking_for_nothing_is_asking_for_the_default() {
    let resources = job(&with_task("Resources: {CPU: '', Memory: '0', GPU: null}")).task.resources;
    assert_eq!((resources.cpu, resources.memory), (Cpu(500), Bytes(512_000_000)));
}

#[test]
fn words_are_read_in_any_case() {
    let network = |kind: &str| job(&with_task(&format!("Network: {{Type: {kind}}}"))).task.network.kind;
    assert_eq!(network("full"), NetworkKind::Host);
    assert_eq!(network("HOST"), NetworkKind::Host);
    assert_eq!(network("http"), NetworkKind::Http);
    assert_eq!(network("''"), NetworkKind::None);
    let source = job(&with_task("InputSources: [{Source: {Type: LOCAL, Params: {sourcepath: x}}, Target: /m}]"));
    assert!(matches!(&source.task.input_sources[0].source, Source::LocalDirectory(local) if local.source_path == "x"));
}

#[test]
fn wrong_files_say_what_is_wrong() {
    let table = [
        (String::new(), "field 'Type' in 'Job' is missing"),
        ("just words".into(), "Job has the wrong type: string, expected a mapping"),
        ("- a".into(), "Job has the wrong type: list, expected a mapping"),
        ("a: b: c".into(), "not valid YAML or JSON"),
        ("{\"Type\": \"batch\", \"Type\": \"ops\"}".into(), "the key 'Type' is there twice"),
        ("Type: batch\nType: ops".into(), "not valid YAML or JSON"),
        ("Type: batch\n---\nType: ops".into(), "not valid YAML or JSON"),
        (with_job("Count: -1"), "field 'Count' in 'Job' is -1; write a number from 0 to 1000"),
        (with_job("Count: 1.5"), "wrong type: decimal number, expected a whole number"),
        (with_job("Count: 1e300"), "wrong type: decimal number, expected a whole number"),
        (with_job("Priority: high"), "field 'Priority' in 'Job' has the wrong type: string"),
        (with_job("Constrains: []"), "field 'Constrains' in 'Job' is unknown; did you mean 'Constraints'?"),
        (with_job("State: Running"), "field 'State' in 'Job' is set by the system"),
        (with_job("Constraints: [{Key: a, Operator: like}]"), "is 'like', which is unknown"),
        (with_job("Constraints: [{Key: a}]"), "field 'Operator' in 'Job.Constraints[0]' is missing; write =, !="),
        (with_job("Labels: [a]"), "field 'Labels' in 'Job' has the wrong type: list, expected a mapping"),
        (with_job("Verification: {Agreement: 33}"), "is 33; write a number from 1 to 32"),
        (
            "Type: btach\nTasks: [{Name: m, Engine: {Type: noop}}]".into(),
            "is 'btach', which is unknown; did you mean 'batch'?",
        ),
        ("Type: batch\nTasks: []".into(), "field 'Tasks' in 'Job' is missing"),
        ("Type: batch\nTasks: [{Name: m}]".into(), "field 'Type' in 'Job.Tasks[0].Engine' is missing"),
        (
            with_task("Env: {A: 1}"),
            "field 'Env' in 'Job.Tasks[0]' has the wrong type for 'A': whole number, expected a string; write it in quotes: \"1\"",
        ),
        (with_task("InputSources: [{Target: /m, Source: {Type: ftp}}]"), "is 'ftp', which is unknown"),
        (
            with_task("InputSources: [{Target: /m, Source: {Type: blob}}]"),
            "'Hash' in 'Job.Tasks[0].InputSources[0].Source.Params' is missing",
        ),
        (
            with_task("InputSources: [{Target: /m, Source: {Type: blob, Params: {Hash: xyz}}}]"),
            "is 'xyz', which is no blob hash and no blob ticket",
        ),
        (with_task("Timeouts: {TotalTimeout: soon}"), "expected a whole number"),
    ];
    for (text, part) in table {
        let message = refused(&text);
        assert!(message.contains(part), "{text}\n{message}");
    }
}

#[test]
fn documents_are_bounded() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_json = format!("{{\"a\": {deep}}}");
    let wide = format!("Labels: [{}]", "x,".repeat(200_000));
    let large = " ".repeat(MAX_SPEC_BYTES + 1);
    let text = "x".repeat(200_000);
    let copies = format!("a: &a {text}\nb: [{}]", "*a,".repeat(900));
    for text in [deep, deep_json, wide, large, copies] {
        let error = parse(&text).unwrap_err();
        assert!(!matches!(error, ParseError::Problems(_)), "{error}");
    }
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z][a-zA-Z0-9_é ]{0,8}|7|true|1e3|null|~|yes|: -|#x|'\"|0x1F|\\PC{1,6}"
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(name(), 0..3)
}

fn text_map() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(name(), name(), 0..3)
}

fn engine() -> impl Strategy<Value = Engine> {
    let (folder, platform) = (prop::option::of(name()), prop::option::of(name()));
    let docker = (name(), texts(), texts(), texts(), folder, platform).prop_map(
        |(image, entrypoint, parameters, environment_variables, working_directory, platform)| {
            Engine::Docker(Docker { image, entrypoint, parameters, environment_variables, working_directory, platform })
        },
    );
    let wasm = (name(), name(), texts(), texts()).prop_map(|(entry_module, entrypoint, parameters, import_modules)| {
        Engine::Wasm(Wasm { entry_module, entrypoint, parameters, import_modules })
    });
    prop_oneof![docker, wasm, Just(Engine::Noop)]
}

#[test]
fn what_a_program_writes_is_written_where_it_runs() {
    let job = |resolve: &str| {
        let source = "{Type: localDirectory, Params: {SourcePath: /d, ReadWrite: true}}";
        let engine = "{Type: docker, Params: {Image: i}}";
        let inputs = format!("[{{Target: /d, {resolve} Source: {source}}}]");
        parse(&format!("Type: batch\nTasks: [{{Name: m, Engine: {engine}, InputSources: {inputs}}}]"))
    };
    assert_eq!(job("").unwrap().job.task.input_sources[0].resolve, Resolve::Worker);
    let error = job("Resolve: requester,").unwrap_err().to_string();
    assert!(error.contains("'Resolve'") && error.contains("written where it runs"), "{error}");
}

fn source() -> impl Strategy<Value = Source> {
    let kind = prop_oneof![Just(ContentKind::Raw), Just(ContentKind::Collection)];
    let content = (any::<[u8; 32]>(), kind)
        .prop_map(|(hash, kind)| BlobRoot::Content(Content { hash: crate::id::BlobHash(hash), kind }));
    let ticket = "blob[a-z2-7]{120}".prop_map(BlobRoot::Ticket);
    // Slashes around a path mean nothing and are not kept.
    let path = prop_oneof![Just(String::new()), name()].prop_map(|path| path.trim_matches('/').to_owned());
    let blob = (prop_oneof![content, ticket], path).prop_map(|(root, path)| Source::Blob(BlobSource { root, path }));
    let s3 = (name(), name(), name()).prop_map(|(bucket, key, version_id)| {
        Source::S3(Box::new(S3Source { bucket, key, version_id, ..S3Source::default() }))
    });
    let local = (name(), any::<bool>()).prop_map(|(source_path, read_write)| {
        Source::LocalDirectory(LocalSource { source_path, read_write, ..LocalSource::default() })
    });
    prop_oneof![blob, s3, local]
}

fn publisher() -> impl Strategy<Value = Publisher> {
    let s3 =
        (name(), name()).prop_map(|(bucket, key)| Publisher::S3(S3Publisher { bucket, key, ..S3Publisher::default() }));
    let blob =
        any::<Option<u64>>().prop_map(|seconds| Publisher::Blob(BlobPublisher { retention: seconds.map(Seconds) }));
    prop_oneof![blob, Just(Publisher::Local), Just(Publisher::S3Managed), s3]
}

fn task() -> impl Strategy<Value = Task> {
    let input = (source(), name(), name(), any::<bool>()).prop_map(|(source, alias, target, by_worker)| {
        let resolve = if by_worker { Resolve::Worker } else { Resolve::usual(&source) };
        InputSource { source, alias, target, resolve }
    });
    let result = (name(), name()).prop_map(|(name, path)| ResultPath { name, path });
    let inputs = prop::collection::vec(input, 0..3);
    let results = prop::collection::vec(result, 0..3);
    (name(), engine(), publisher(), text_map(), inputs, results, 1_u32.., 1_u64.., texts(), any::<u16>()).prop_map(
        |(name, engine, publisher, env, input_sources, result_paths, cpu, memory, domains, port)| {
            let mut task = Task { name, publisher, env, input_sources, result_paths, ..Task::new(engine) };
            task.resources.cpu = Cpu(cpu);
            task.resources.memory = Bytes(memory);
            task.network.domains = domains;
            task.network.ports.push(Port { name: "p".into(), fixed: port, ..Port::default() });
            task.timeouts.total_secs = u64::from(port);
            task
        },
    )
}

fn any_job() -> impl Strategy<Value = Job> {
    let operator = prop::sample::select(vec![Operator::Equals, Operator::Absent, Operator::Greater, Operator::NotIn]);
    let constraint =
        (name(), operator, texts()).prop_map(|(key, operator, values)| Constraint { key, operator, values });
    let constraints = prop::collection::vec(constraint, 0..3);
    (task(), prop::option::of(name()), any::<i64>(), 0..=MAX_PARTITIONS, constraints, text_map(), text_map()).prop_map(
        |(task, name, priority, count, constraints, meta, labels)| Job {
            name,
            priority,
            count,
            constraints,
            meta,
            labels,
            ..Job::new(task)
        },
    )
}

proptest! {
    #[test]
    fn a_job_survives_json_and_yaml(job in any_job()) {
        let text = serde_json::to_string(&job).unwrap();
        prop_assert_eq!(&parse(&text).unwrap(), &Parsed { job: job.clone(), warnings: Vec::new() });
        let text = serde_saphyr::to_string(&job).unwrap();
        prop_assert_eq!(parse(&text).map(|parsed| parsed.job), Ok(job), "{}", text);
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_yaml_panics(text in "((Type|Tasks|Name|Engine|Params|Count|Env|batch|wasm|: |\\{|\\}|\\[|\\]|, |\n|\n  - |\n    |&a|\\*a|<<|\"|'|\\||[0-9.eE-]|\\PC)){0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_broken_job_panics(cut in 0_usize..900, junk in "\\PC{0,4}") {
        let text = include_str!("../../../tests/jobs/e-partitioned-s3.yaml");
        let cut = text.floor_char_boundary(cut.min(text.len()));
        if let Ok(parsed) = parse(&format!("{}{junk}{}", &text[..cut], &text[cut..])) {
            let _ = crate::job::validate(&parsed.job);
        }
    }
}
