use super::*;
use crate::id::BlobHash;
use crate::job::parse::parse;
use crate::job::resolve::{inline_data, local_paths, module_folders, replace_source, replace_variable};
use crate::job::spec::Source;
use crate::message::{Announce, Contact, Message};
use crate::time::Time;

fn hash(byte: u8) -> BlobHash {
    BlobHash([byte; 32])
}

fn file(byte: u8, bytes: u64) -> ResolvedInput {
    let content = Content { hash: hash(byte), kind: ContentKind::Raw };
    ResolvedInput { parts: vec![(content, bytes)], files: BTreeMap::new() }
}

fn folder(byte: u8, bytes: u64, files: &[(&str, u8)]) -> ResolvedInput {
    let content = Content { hash: hash(byte), kind: ContentKind::Collection };
    let files = files.iter().map(|&(name, byte)| (name.to_owned(), (hash(byte), 10))).collect();
    ResolvedInput { parts: vec![(content, bytes)], files }
}

fn resolved(inputs: Vec<ResolvedInput>) -> Resolved {
    Resolved { profile: "wasm-1".into(), image: None, inputs }
}

fn blobs() -> Job {
    parse(include_str!("../../../tests/jobs/blob-input.yaml")).unwrap().job
}

/// A WASM job with the engine's parameters and the targets of inline inputs.
fn wasm_job(params: &str, targets: &[&str]) -> Job {
    let inputs = targets
        .iter()
        .map(|target| format!("{{Target: {target}, Source: {{Type: inline, Params: {{URL: 'data:,'}}}}}}"));
    let inputs = inputs.collect::<Vec<_>>().join(", ");
    let task = format!("{{Name: m, Engine: {{Type: wasm, Params: {{{params}}}}}, InputSources: [{inputs}]}}");
    parse(&format!("Type: batch\nTasks: [{task}]")).unwrap().job
}

fn wasm(work: &Work) -> &task::Wasm {
    let task::Engine::Wasm(wasm) = &work.invocation.engine else { panic!("{:?}", work.invocation.engine) };
    wasm
}

#[test]
fn a_job_compiles_to_what_determines_its_result() {
    let inputs = vec![file(0x11, 500), folder(0x22, 9_000, &[])];
    let (work, needs) = compile(&blobs(), &resolved(inputs)).unwrap();
    assert_eq!(work.partitions, 2);
    assert_eq!(work.execution_timeout_ms, DEFAULT_EXECUTION_MS);
    let text = Content { hash: hash(0x22), kind: ContentKind::Collection };
    let module = Content { hash: hash(0x11), kind: ContentKind::Raw };
    let expected = Invocation {
        engine: task::Engine::Wasm(task::Wasm {
            profile: "wasm-1".into(),
            module: hash(0x11),
            imports: vec![],
            entry_point: "_start".into(),
            arguments: vec!["/data/text.txt".into()],
        }),
        environment: [("BACALHAU_JOB_TYPE", "batch"), ("LANGUAGE", "en")].map(|(k, v)| (k.into(), v.into())).into(),
        inputs: vec![Mount { target: "/data".into(), content: text }],
        unread: Vec::new(),
        result_paths: vec![ResultPath { name: "counts".into(), path: "/outputs/counts".into() }],
        limits: Limits { memory_bytes: 64 << 20, fuel: DEFAULT_FUEL, output_bytes: 10_000_000 },
    };
    assert_eq!(work.invocation, expected);
    assert_eq!(needs.inputs, [(text, 9_000), (module, 500)]);
    assert_eq!(needs.input_bytes, 9_500);
    assert_eq!(needs.resources.cpu_millis, 500);
}

#[test]
fn names_labels_and_order_do_not_change_the_computation() {
    let (work, _) = compile(&blobs(), &resolved(vec![file(0x11, 500), folder(0x22, 9_000, &[])])).unwrap();
    let mut other = blobs();
    other.name = Some("another".into());
    other.labels.insert("a".into(), "b".into());
    other.priority = 7;
    other.task.input_sources.reverse();
    other.task.input_sources[0].target = "data/".into();
    let (same, _) = compile(&other, &resolved(vec![folder(0x22, 9_000, &[]), file(0x11, 500)])).unwrap();
    assert_eq!(same.invocation.id(), work.invocation.id());
}

#[test]
fn timeouts_fall_back_from_execution_to_total_to_default() {
    let table = [(8, 20, 8_000), (0, 20, 20_000), (0, 0, DEFAULT_EXECUTION_MS), (0, 9_000_000, MAX_EXECUTION_MS)];
    for (execution_secs, total_secs, expected) in table {
        let timeouts = Timeouts { execution_secs, queue_secs: 0, total_secs };
        assert_eq!(execution_timeout(timeouts), expected);
    }
}

#[test]
fn memory_is_capped_at_what_a_program_can_have() {
    let mut job = blobs();
    job.task.resources.memory.0 = 8 << 30;
    let (work, needs) = compile(&job, &resolved(vec![file(1, 1), folder(2, 1, &[])])).unwrap();
    assert_eq!(work.invocation.limits.memory_bytes, MAX_MEMORY_BYTES);
    assert_eq!(needs.resources.memory_bytes, 8 << 30);
}

#[test]
fn imports_go_by_their_path_and_old_ones_by_their_alias() {
    let job =
        wasm_job("EntryModule: /main.wasm, ImportModules: [/math, lib/b]", &["main.wasm", "math", "/lib/b", "/x"]);
    let (work, _) = compile(&job, &resolved(vec![file(1, 1), file(2, 1), file(3, 1), file(4, 1)])).unwrap();
    let imports: Vec<_> = wasm(&work).imports.iter().map(|import| (import.name.as_str(), import.module)).collect();
    assert_eq!(imports, [("lib/b", hash(3)), ("math", hash(2))]);
    assert_eq!(work.invocation.inputs.len(), 1, "modules are not mounted");

    let legacy = parse(include_str!("../../../tests/jobs/legacy-modules.yaml")).unwrap().job;
    let (work, _) = compile(&legacy, &resolved(vec![file(1, 1), file(2, 1)])).unwrap();
    assert_eq!(wasm(&work).imports[0].name, "math");
    assert_eq!(wasm(&work).entry_point, "run");
}

#[test]
fn a_module_may_be_a_file_in_a_folder() {
    let job = wasm_job("EntryModule: /app/modules/pub.wasm", &["/app/"]);
    assert_eq!(module_folders(&job), [0]);
    let app = folder(1, 100, &[("modules/pub.wasm", 7), ("config", 8)]);
    let (work, needs) = compile(&job, &resolved(vec![app])).unwrap();
    assert_eq!(wasm(&work).module, hash(7));
    assert_eq!(work.invocation.inputs[0].target, "/app");
    assert_eq!(needs.input_bytes, 100, "the module comes with its folder");

    let job = wasm_job("EntryModule: /app", &["/app"]);
    let (work, _) = compile(&job, &resolved(vec![folder(1, 100, &[("x.wasm", 7), ("readme", 8)])])).unwrap();
    assert_eq!(wasm(&work).module, hash(7));
}

#[test]
fn a_module_that_is_not_there_is_named() {
    let job = wasm_job("EntryModule: /app/main.wasm", &["/app"]);
    let missing = Err(CompileError::NoModule("/app/main.wasm".into()));
    assert_eq!(compile(&job, &resolved(vec![folder(1, 1, &[])])), missing);
    assert_eq!(compile(&job, &resolved(vec![file(1, 1)])), missing);
    let job = wasm_job("EntryModule: /app", &["/app"]);
    let many = folder(1, 1, &[("a.wasm", 2), ("b.wasm", 3)]);
    assert_eq!(compile(&job, &resolved(vec![many])), Err(CompileError::ManyModules("/app".into())));
    assert_eq!(compile(&job, &resolved(vec![folder(1, 1, &[])])), Err(CompileError::NoModule("/app".into())));
}

#[test]
fn host_variables_are_copied_first() {
    let mut job = wasm_job("EntryModule: /m", &["/m"]);
    job.task.env.insert("WHO".into(), "env:USER".into());
    let found: Vec<_> = host_variables(&job).into_iter().map(|found| (found.name, found.host_name)).collect();
    assert_eq!(found, [("WHO", "USER")]);
    let error = compile(&job, &resolved(vec![file(1, 1)])).unwrap_err();
    assert!(error.to_string().contains("the variable 'WHO' is to be copied from 'USER'"));
    replace_variable(&mut job, "WHO", "me".into());
    assert!(compile(&job, &resolved(vec![file(1, 1)])).is_ok());
}

#[test]
fn local_and_inline_sources_are_found_and_replaced() {
    let mut job = parse(
        "{Type: batch, Tasks: [{Name: m, Engine: {Type: wasm, Params: {EntryModule: /a}}, InputSources: [
          {Target: /a, Source: {Type: local, Params: {SourcePath: a.wasm}}},
          {Target: /b, Source: {Type: inline, Params: {URL: 'data:,b'}}},
          {Target: /c, Source: {Type: local, Params: {SourcePath: c, ReadWrite: true}}}]}]}",
    )
    .unwrap()
    .job;
    assert_eq!(local_paths(&job).iter().map(|found| (found.input, found.path)).collect::<Vec<_>>(), [(0, "a.wasm")]);
    assert_eq!(inline_data(&job).iter().map(|found| (found.input, found.url)).collect::<Vec<_>>(), [(1, "data:,b")]);
    let blob = Source::Blob(Content { hash: hash(1), kind: ContentKind::Raw }.into());
    replace_source(&mut job, 0, blob.clone());
    replace_source(&mut job, 1, blob.clone());
    replace_source(&mut job, 99, blob);
    assert!(local_paths(&job).is_empty() && inline_data(&job).is_empty());
    let error = support::check(&job).unwrap_err().to_string();
    assert!(error.contains("WASM programs write to result paths only"), "{error}");
}

#[test]
fn what_workers_read_is_part_of_the_invocation_and_of_the_needs() {
    let mut job = wasm_job("EntryModule: /m.wasm", &["/m.wasm", "/data"]);
    let url = crate::job::spec::UrlSource { url: "https://example.org/a".into(), checksum_sha256: String::new() };
    job.task.input_sources[1].source = Source::UrlDownload(url.clone());
    job.task.input_sources[1].resolve = Resolve::Worker;
    let nothing = ResolvedInput { parts: Vec::new(), files: BTreeMap::new() };
    let (work, needs) = compile(&job, &resolved(vec![file(1, 10), nothing])).unwrap();
    let [unread] = work.invocation.unread.as_slice() else { panic!("{work:?}") };
    assert_eq!(unread.target, "/data");
    assert_eq!(crate::job::parse::source(&unread.source), Ok(Source::UrlDownload(url)));
    assert_eq!((needs.sources, needs.input_bytes), (vec![SourceKind::Url], 10));
    assert!(work.divided.is_empty() && work.invocation.inputs.is_empty());

    job.task.input_sources.swap(0, 1);
    job.task.input_sources[1].resolve = Resolve::Worker;
    let error = crate::job::validate(&job).unwrap_err().to_string();
    assert!(error.contains("inline content is the same wherever it is read"), "{error}");
}

#[test]
fn each_partition_gets_its_part_of_what_is_divided() {
    let mut job = wasm_job("EntryModule: /m.wasm", &["/m.wasm", "/data", "/all"]);
    job.count = 3;
    let parts = (4..7).map(|byte| file(byte, u64::from(byte)).parts[0]).collect();
    let same = vec![file(8, 50).parts[0]; 3];
    let inputs = vec![
        file(1, 10),
        ResolvedInput { parts, files: BTreeMap::new() },
        ResolvedInput { parts: same, files: BTreeMap::new() },
    ];
    let (work, needs) = compile(&job, &resolved(inputs.clone())).unwrap();
    assert!(work.is_sound());
    let mounted = |index| {
        let mounts = work.partition(index).inputs.into_iter();
        mounts.map(|mount| (mount.target, mount.content.hash)).collect::<Vec<_>>()
    };
    assert_eq!(mounted(0), [("/all".to_owned(), hash(8)), ("/data".to_owned(), hash(4))]);
    assert_eq!(mounted(2)[1], ("/data".to_owned(), hash(6)));
    assert_ne!(work.partition(0).id(), work.partition(1).id());
    assert_eq!((needs.input_bytes, needs.inputs.len()), (10 + 50 + 6, 2), "a worker fetches one part at most");
    assert_eq!(work.contents().len(), 5, "and the requester keeps them all");

    job.count = 2;
    let error = compile(&job, &resolved(inputs)).unwrap_err().to_string();
    assert!(error.contains("input '/data' has 3 parts, but the job has 2 partitions"), "{error}");
}

#[test]
fn what_is_not_ready_is_refused() {
    let unresolved = compile(&blobs(), &resolved(vec![]));
    assert_eq!(unresolved, Err(CompileError::Unresolved { inputs: 2, resolved: 0 }));
    let mut job = blobs();
    job.task.name.clear();
    assert!(matches!(compile(&job, &resolved(vec![])), Err(CompileError::Problems(_))));
    let mut job = blobs();
    job.count = 0;
    assert!(matches!(compile(&job, &resolved(vec![])), Err(CompileError::Problems(_))));
    let mut job = wasm_job("EntryModule: /m", &["/m"]);
    job.task.env.insert("LONG".into(), "x".repeat(MAX_WORK_BYTES));
    assert!(matches!(compile(&job, &resolved(vec![file(1, 1)])), Err(CompileError::WorkTooLarge(_))));
}

#[test]
fn constraints_are_conditions_unless_favoured() {
    let mut job = blobs();
    job.constraints = crate::job::selector::parse("region=eu,favour_zone=a").unwrap();
    let (_, needs) = compile(&job, &resolved(vec![file(1, 1), folder(2, 1, &[])])).unwrap();
    assert_eq!(needs.constraints.iter().map(|rule| rule.key.as_str()).collect::<Vec<_>>(), ["region"]);

    job.constraints = crate::job::selector::parse(&format!("a={0},b={0}", "x".repeat(180))).unwrap();
    let error = compile(&job, &resolved(vec![file(1, 1), folder(2, 1, &[])]));
    assert!(matches!(error, Err(CompileError::NeedsTooLarge(_))));
}

#[test]
fn every_compiled_job_fits_into_an_announcement() {
    let targets: Vec<String> = (0..40).map(|index| format!("/{index}")).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let mut job = wasm_job("EntryModule: /0", &targets);
    let inputs = (0..40).map(|byte| file(byte, u64::MAX / 64)).collect();
    job.constraints = crate::job::selector::parse(&format!("a={}", "x".repeat(150))).unwrap();
    let (work, needs) = compile(&job, &resolved(inputs)).unwrap();
    assert!(!needs.inputs.is_empty() && needs.inputs.len() < MAX_ANNOUNCED_INPUTS);
    let contact = Contact {
        addresses: vec![
            "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap();
            crate::limits::MAX_ADDRESSES
        ],
        relay: Some("x".repeat(crate::limits::MAX_TEXT_BYTES)),
    };
    let announce = Announce {
        job: crate::id::JobId([0xff; 16]),
        at: Time(u64::MAX / 2),
        round: u32::MAX,
        wanted: crate::limits::MAX_WANTED,
        partitions: u32::MAX,
        excluded: vec![[0xff; 6]; crate::limits::MAX_EXCLUDED],
        work: BlobHash::of(&canonical(&work)),
        needs,
        window_ms: crate::limits::MAX_WINDOW_MS.try_into().unwrap(),
        level: 0,
        mesh_size: u32::MAX,
        refusals: u16::MAX,
        contact,
    };
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let mesh = crate::id::MeshId::of("test");
    let sealed = crate::wire::seal(&key, mesh, None, Message::Announce(announce));
    assert!(sealed.bytes().len() <= crate::limits::MAX_ANNOUNCE_BYTES, "{} bytes", sealed.bytes().len());
    assert!(crate::wire::open(mesh, sealed.bytes()).is_ok());
}

#[test]
fn a_container_compiles_to_its_image_and_asks_for_its_platform() {
    let engine = "{Type: docker, Params: {Image: 'busybox:1', Entrypoint: [sh], Parameters: [-c, 'true'],
        EnvironmentVariables: ['A=b=c'], WorkingDirectory: /w}}";
    let task = format!("{{Name: m, Engine: {engine}, ResultPaths: [{{Name: out, Path: /out}}]}}");
    let job = parse(&format!("Type: batch\nTasks: [{task}]")).unwrap().job;
    let platform = Resolved { profile: "linux/arm64".into(), ..resolved(Vec::new()) };
    assert_eq!(compile(&job, &platform), Err(CompileError::NoImage("busybox:1".into())));
    let id = crate::id::ImageId([5; 32]);
    let image = |origin| task::Image { id, origin };
    let (work, needs) =
        compile(&job, &Resolved { image: Some((image(task::ImageOrigin::Engine), 0)), ..platform.clone() }).unwrap();
    let expected = task::Docker {
        platform: "linux/arm64".into(),
        image: image(task::ImageOrigin::Engine),
        entrypoint: vec!["sh".into()],
        parameters: vec!["-c".into(), "true".into()],
        working_directory: Some("/w".into()),
        network: task::Network::None,
        cpu_millis: 500,
        gpus: 0,
    };
    assert_eq!(work.invocation.engine, task::Engine::Docker(expected));
    assert_eq!(work.invocation.environment["A"], "b=c");
    assert_eq!((work.invocation.limits.fuel, work.contents(), work.is_sound()), (0, Vec::new(), true));
    assert_eq!((needs.executor, needs.profile.as_str()), (message::ExecutorKind::Docker, "linux/arm64"));
    let blob = Some((image(task::ImageOrigin::Blob(hash(0x33))), 1_000));
    let mut job = job;
    job.task.network.kind = crate::job::spec::NetworkKind::Http;
    job.task.network.domains = vec!["*.b.org".into(), "a.org".into()];
    let (work, needs) = compile(&job, &Resolved { image: blob, ..platform }).unwrap();
    let task::Engine::Docker(docker) = &work.invocation.engine else { panic!("{work:?}") };
    assert_eq!(docker.network, task::Network::Http(vec![".b.org".into(), "a.org".into()]));
    assert_eq!(needs.network, crate::job::spec::NetworkKind::Http);
    let content = Content { hash: hash(0x33), kind: ContentKind::Raw };
    assert_eq!((work.contents(), needs.inputs, needs.input_bytes), (vec![content], vec![(content, 1_000)], 1_000));
}

#[test]
fn workers_are_told_which_image_before_they_bid() {
    let task = "{Name: m, Engine: {Type: docker, Params: {Image: 'busybox:1'}}}";
    let job = parse(&format!("Type: batch\nTasks: [{task}]")).unwrap().job;
    let id = crate::id::ImageId([5; 32]);
    let registry = task::ImageOrigin::Registry("busybox".parse().unwrap(), crate::id::ManifestDigest([6; 32]));
    let table = [
        (task::ImageOrigin::Engine, message::ImageSource::Nowhere, 0),
        (task::ImageOrigin::Blob(hash(0x33)), message::ImageSource::Peers, 0),
        (registry, message::ImageSource::Registry, 1_000),
    ];
    for (origin, source, bytes) in table {
        let image = Some((task::Image { id, origin }, 1_000));
        let (_, needs) = compile(&job, &Resolved { image, ..resolved(Vec::new()) }).unwrap();
        assert_eq!(needs.image, Some(message::NeededImage { id, source, bytes }));
    }
}

fn docker_job(image: &str, targets: &[&str]) -> Job {
    let inputs = targets
        .iter()
        .map(|target| format!("{{Target: {target}, Source: {{Type: inline, Params: {{URL: 'data:,'}}}}}}"));
    let inputs = inputs.collect::<Vec<_>>().join(", ");
    let engine = format!("{{Type: docker, Params: {{Image: '{image}'}}}}");
    parse(&format!("Type: batch\nTasks: [{{Name: m, Engine: {engine}, InputSources: [{inputs}]}}]")).unwrap().job
}

fn needs_of(image: &str, origin: task::ImageOrigin, inputs: Vec<ResolvedInput>) -> Result<Needs, CompileError> {
    let targets: Vec<String> = (0..inputs.len()).map(|index| format!("/in/{index}")).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let image_found = task::Image { id: crate::id::ImageId([5; 32]), origin };
    let resolved = Resolved { profile: "linux/amd64".into(), image: Some((image_found, 7)), inputs };
    compile(&docker_job(image, &targets), &resolved).map(|(_, needs)| needs)
}

#[test]
fn an_announcement_names_the_image_as_docker_shows_it() {
    let table = [
        ("docker.io/library/busybox", "busybox:latest"),
        ("ghcr.io/ann/tool:v1", "ghcr.io/ann/tool:v1"),
        (&format!("sha256:{}", "05".repeat(32)), ""),
    ];
    for (written, named) in table {
        let needs = needs_of(written, task::ImageOrigin::Engine, Vec::new()).unwrap();
        assert_eq!(needs.image_name, named);
    }
    let blob = task::ImageOrigin::Blob(hash(9));
    let name = format!("blob://{}", hash(9));
    let needs = needs_of(&name, blob, vec![file(1, 3)]).unwrap();
    assert_eq!(needs.image_name, name);
    let named: Vec<&Content> = needs.named_data().collect();
    assert_eq!((needs.data, named[0].hash, named.len()), (1, hash(1), 1), "an image is no data: {needs:?}");
    let long = format!("ghcr.io/{}a", "a/".repeat(90));
    let needs = needs_of(&long, task::ImageOrigin::Engine, (0..6).map(|byte| file(byte, 3)).collect()).unwrap();
    assert!(!needs.inputs.is_empty() && canonical(&needs).len() <= MAX_NEEDS_BYTES, "its place is taken from inputs");
}

#[test]
fn modules_are_no_data_and_what_is_divided_is_data_without_a_name() {
    let (_, needs) = compile(&blobs(), &resolved(vec![file(0x11, 500), folder(0x22, 9_000, &[])])).unwrap();
    assert_eq!((needs.data, needs.named_data().map(|data| data.hash).collect::<Vec<_>>()), (1, vec![hash(0x22)]));
    let parts = vec![(file(0x33, 1).parts[0]), (file(0x44, 1).parts[0])];
    let divided = ResolvedInput { parts, files: BTreeMap::new() };
    let (_, needs) = compile(&blobs(), &resolved(vec![file(0x11, 500), divided])).unwrap();
    assert_eq!((needs.data, needs.named_data().count()), (1, 0));
    let (_, needs) = compile(&wasm_job("EntryModule: /m", &["/m"]), &resolved(vec![file(1, 5)])).unwrap();
    assert_eq!((needs.data, needs.data_bits), (0, 0));
}

#[test]
fn a_validator_is_part_of_the_work_and_no_business_of_its_workers() {
    let mut job = wasm_job("EntryModule: /main.wasm", &["/main.wasm", "/data", "/validator.wasm"]);
    let inputs = vec![file(1, 100), file(2, 200), file(3, 300)];
    let (work, needs) = compile(&job, &resolved(inputs.clone())).unwrap();
    assert_eq!((work.validator, needs.input_bytes), (None, 600), "an input like any other");
    assert_eq!(work.invocation.inputs.len(), 2);

    job.verification.validator = Some("validator.wasm".into());
    let (judged, needs) = compile(&job, &resolved(inputs.clone())).unwrap();
    assert_eq!((judged.validator, needs.input_bytes), (Some(hash(3)), 300));
    let targets: Vec<&str> = judged.invocation.inputs.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(targets, ["/data"]);
    assert!(judged.contents().iter().all(|content| content.hash != hash(3)), "workers do not fetch it");

    job.verification.validator = Some("/data".into());
    let folder = vec![file(1, 100), folder(2, 200, &[("close.wasm", 9), ("notes.txt", 8)]), file(3, 300)];
    assert_eq!(compile(&job, &resolved(folder)).unwrap().0.validator, Some(hash(9)));
    assert_eq!(module_folders(&job), [0, 1]);
    job.verification.validator = Some("/data/none.wasm".into());
    assert_eq!(compile(&job, &resolved(inputs)), Err(CompileError::NoModule("/data/none.wasm".into())));
}
