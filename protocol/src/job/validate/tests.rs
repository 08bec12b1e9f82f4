use super::*;
use crate::job::parse::parse;
use crate::limits::MAX_INPUTS;

/// What is wrong with the job of `blob-input.yaml` when `from` is `to` in it.
fn problems(from: &str, to: &str) -> String {
    let text = include_str!("../../../tests/jobs/blob-input.yaml");
    assert!(text.contains(from), "{from}");
    let job = parse(&text.replacen(from, to, 1)).unwrap_or_else(|why| panic!("{to}: {why}")).job;
    validate(&job).err().map(|problems| problems.to_string()).unwrap_or_default()
}

const RESULTS: &str = "[{Name: counts, Path: /outputs/counts}]";

#[test]
fn each_rule_has_its_message() {
    let table = [
        ("Name: blobs", "Name: ' '", "field 'Name' in 'Job' is ' '; write 1 to 200 printable characters"),
        ("Count: 2", "Namespace: \"a\\nb\"", "field 'Namespace' in 'Job' is 'a b'"),
        ("Type: batch\nCount: 2", "Type: ops\nCount: 2", "is 2, but the type is ops; remove it"),
        ("Count: 2", "Meta: {bacalhau.org/x: z}", "keys with 'bacalhau.org/' are reserved"),
        ("Count: 2", "Constraints: [{Key: a, Operator: in}]", "has 0 values; operator 'in' takes at least one value"),
        ("Count: 2", "Constraints: [{Key: a, Operator: exists, Values: [b]}]", "operator 'exists' takes no value"),
        (
            "Count: 2",
            "Constraints: [{Key: a, Operator: '!=', Values: [b, c]}]",
            "operator '!=' takes exactly one value",
        ),
        ("Count: 2", "Constraints: [{Key: a, Operator: gt, Values: [b]}]", "gt and lt compare with a whole number"),
        ("Count: 2", "Constraints: [{Key: favour_, Operator: exists}]", "name the label that is compared"),
        ("Agreement: 3", "Agreement: 6", "is 6, but Executions is 5; start at least as many executions as must agree"),
        (
            "Executions: 5",
            "Executions: 5, MaxExecutions: 4",
            "field 'Executions' in 'Job.Verification' is 5, but MaxExecutions is 4",
        ),
        ("Agreement: 3", "Type: none, Agreement: 3", "is 3, but Type is none"),
        (
            "Agreement: 3",
            "Compare: /outputs",
            "field 'Compare' in 'Job.Verification' is '/outputs', which is no part of the result; \
             write one of 'all', 'outputs', 'counts', 'stdout', 'stderr', 'exitCode'",
        ),
        ("Agreement: 3", "Validator: /no.wasm", "is '/no.wasm', but no input has that target"),
        (
            "Agreement: 3, Executions: 5",
            "Type: none, Validator: /data",
            "is '/data', but Type is none; write Type: quorum",
        ),
        (
            "Agreement: 3, Executions: 5",
            "Type: none, Compare: outputs",
            "is 'outputs', but Type is none; write Type: quorum: one execution is compared with no other",
        ),
        ("- Name: main", "- Name: ''", "field 'Name' in 'Job.Tasks[0]' is missing"),
        ("LANGUAGE: en", "language: en", "has the variable 'language'; write upper-case letters"),
        ("LANGUAGE: en", "1A: en", "has the variable '1A'"),
        ("LANGUAGE: en", "BACALHAU_X: en", "names with BACALHAU_ are set by the system"),
        ("LANGUAGE: en", "LANGUAGE: ''", "has no value for 'LANGUAGE'"),
        ("Target: /data", "Target: ''", "field 'Target' in 'Job.Tasks[0].InputSources[1]' is missing"),
        ("Target: /data", "Target: /a/../b", "write an absolute path without '..'"),
        ("Target: /data", "Target: main.wasm/", "is '/main.wasm', which another one has too"),
        (RESULTS, "[{Name: stdout, Path: /o}]", "is 'stdout', which every result has already"),
        (RESULTS, "[{Name: ExitCode, Path: /o}]", "is 'ExitCode', which every result has already"),
        (RESULTS, "[{Name: a/b, Path: /o}]", "write a plain folder name without '/'"),
        (RESULTS, "[{Name: .., Path: /o}]", "write a plain folder name without '/'"),
        (RESULTS, "[{Name: a, Path: o}]", "write an absolute path below '/'"),
        (RESULTS, "[{Name: a, Path: /}]", "write an absolute path below '/'"),
        (RESULTS, "[{Name: a, Path: /o}, {Name: a, Path: /p}]", "is 'a', which another one has too"),
        (RESULTS, "[{Name: a, Path: /o}, {Name: b, Path: /o/}]", "is '/o', which another one has too"),
        (
            RESULTS,
            "[{Name: a, Path: /data/out}]",
            "is '/data/out', which lies within '/data' of 'Job.Tasks[0].InputSources[1].Target'",
        ),
        (RESULTS, "[{Name: a, Path: /o}, {Name: b, Path: /o/p}]", "choose paths that do not contain one another"),
        ("EntryModule: /main.wasm, ", "", "field 'EntryModule' in 'Job.Tasks[0].Engine.Params' is missing"),
        ("EntryModule: /main.wasm", "EntryModule: /man.wasm", "no input has that target; did you mean '/main.wasm'?"),
        ("EntryModule: /main.wasm", "EntryModule: /main.wasm, ImportModules: [math]", "field 'ImportModules[0]'"),
        ("Env:", "Timeouts: {ExecutionTimeout: 700000}\n    Env:", "write at most 604800 seconds"),
        ("Env:", "Timeouts: {QueueTimeout: 9, TotalTimeout: 8}\n    Env:", "make it at least their sum"),
        ("Env:", "Publisher: {Type: s3}\n    Env:", "field 'Bucket' in 'Job.Tasks[0].Publisher.Params' is missing"),
        (
            "Env:",
            "Publisher: {Type: blob, Params: {Retention: 0}}\n    Env:",
            "field 'Retention' in 'Job.Tasks[0].Publisher.Params' is 0, so that nobody could fetch the result; write at \
             least 1s, or leave it out",
        ),
        ("Env:", "Network: {Type: Host, Domains: [a.org]}\n    Env:", "is only for Type: HTTP"),
        ("Env:", "Network: {Type: HTTP, Domains: [A.org]}\n    Env:", "is 'A.org'; write a lower-case host name"),
        ("Env:", "Network: {Type: HTTP, Domains: [10.0.0.0/8]}\n    Env:", "is '10.0.0.0/8'"),
        ("Env:", "Network: {Type: HTTP}\n    Env:", "is empty, so that Type: HTTP reaches nobody"),
        ("Env:", "Network: {Type: HTTP, Ports: [{Name: a}]}\n    Env:", "is only for Type: Host or Bridge"),
        ("Env:", "Network: {Type: Host, Ports: [{Name: a, Static: 80}]}\n    Env:", "is 80; write 1024 or more"),
        ("Env:", "Network: {Type: Host, Ports: [{Name: a, Target: 80}]}\n    Env:", "is only for Type: Bridge"),
        ("Env:", "Network: {Type: Host, Ports: [{Name: a-b}]}\n    Env:", "is 'a-b'; write letters, digits and '_'"),
        ("Env:", "Network: {Type: Host, Ports: [{Name: a, HostNetwork: lan}]}\n    Env:", "write an IP address"),
        ("Env:", "Network: {Type: Host, Ports: [{Name: a}, {Name: a}]}\n    Env:", "which another one has too"),
    ];
    for (from, to, part) in table {
        let problems = problems(from, to);
        assert!(problems.contains(part), "{to}: {problems}");
    }
}

#[test]
fn what_the_rules_allow_is_allowed() {
    let table = [
        ("Count: 2", "Count: 0"),
        ("Count: 2", "Constraints: [{Key: favour_zone, Operator: '=', Values: [a]}]"),
        ("LANGUAGE: en", "ÄÖ_1: en"),
        ("LANGUAGE: en", "HOME: env:HOME"),
        ("EntryModule: /main.wasm", "EntryModule: main.wasm"),
        ("EntryModule: /main.wasm", "EntryModule: /data/deep/other.wasm"),
        (RESULTS, "[{Name: a, Path: /dat}, {Name: b, Path: /data2}]"),
        ("Env:", "Network: {Type: HTTP, Domains: [.a.org, '*.b.org', c.org, 10.0.0.1, '::1']}\n    Env:"),
        ("Env:", "Network: {Type: Bridge, Ports: [{Name: A_1, Target: 80, HostNetwork: 127.0.0.1}]}\n    Env:"),
        ("Env:", "Timeouts: {ExecutionTimeout: 4, QueueTimeout: 5}\n    Env:"),
    ];
    for (from, to) in table {
        assert_eq!(problems(from, to), "", "{to}");
    }
}

#[test]
fn sources_need_what_finds_them() {
    let place = "{Type: blob, Params: {Hash: \"2222222222222222222222222222222222222222222222222222222222222222\", Kind: folder}}";
    let table = [
        ("{Type: ipfs}", "field 'CID'"),
        ("{Type: s3}", "field 'Bucket'"),
        ("{Type: localDirectory}", "field 'SourcePath'"),
        ("{Type: urlDownload, Params: {URL: ftp://x}}", "has the scheme 'ftp'; write a URL that starts with http://"),
        ("{Type: inline, Params: {URL: 'data:;base64,?'}}", "is marked ';base64' but its data is not base64"),
        ("{Type: s3, Params: {Bucket: b, Partition: {Type: regex}}}", "field 'Pattern'"),
        ("{Type: s3, Params: {Bucket: b, Partition: {Type: date}}}", "field 'DateFormat'"),
        (
            "{Type: s3, Params: {Bucket: b, Partition: {Type: substring, StartIndex: 3, EndIndex: 3}}}",
            "is 3, but StartIndex is 3; write a larger one",
        ),
    ];
    for (source, part) in table {
        let problems = problems(place, source);
        assert!(problems.contains(part), "{source}: {problems}");
    }
}

#[test]
fn docker_needs_an_image_and_absolute_folders() {
    let engine = "{Type: docker, Params: {WorkingDirectory: work, EnvironmentVariables: [A], Platform: arm64}}";
    let text = format!("Type: batch\nTasks: [{{Name: main, Engine: {engine}}}]");
    let problems = validate(&parse(&text).unwrap().job).unwrap_err().to_string();
    let parts = [
        "'Image' in 'Job.Tasks[0].Engine.Params' is missing",
        "is 'work'; write an absolute path",
        "is 'arm64'; write OS/ARCHITECTURE",
        "write NAME=VALUE",
    ];
    for part in parts {
        assert!(problems.contains(part), "{problems}");
    }
}

#[test]
fn an_image_has_a_name_that_means_nothing_else_and_mounts_are_its_own() {
    let problems = |image: &str, path: &str| {
        let engine = format!("{{Type: docker, Params: {{Image: '{image}'}}}}");
        let task = format!("{{Name: main, Engine: {engine}, ResultPaths: [{{Name: out, Path: {path}}}]}}");
        validate(&parse(&format!("Type: batch\nTasks: [{task}]")).unwrap().job).map_err(|error| error.to_string())
    };
    for image in ["busybox", "ghcr.io/a/b:1.2@sha256:0123", "localhost:5000/x_y", "blob://00aa"] {
        assert_eq!(problems(image, "/out"), Ok(()), "{image}");
    }
    for image in ["../containers/x", "a?all=1", "a b", "/etc", "a#b", "é"] {
        assert!(problems(image, "/out").unwrap_err().contains("busybox:1.37"), "{image}");
    }
    for path in ["/proc/self", "/dev", "/sys/x"] {
        assert!(problems("busybox", path).unwrap_err().contains("belong to the container"), "{path}");
    }
}

#[test]
fn lists_are_bounded() {
    let mut job = parse(include_str!("../../../tests/jobs/blob-input.yaml")).unwrap().job;
    let input = job.task.input_sources[0].clone();
    job.task.input_sources = vec![input; MAX_INPUTS + 1];
    job.constraints = vec![Constraint { key: "a".into(), operator: Operator::In, values: vec!["x".into(); 9] }; 9];
    job.count = MAX_PARTITIONS + 1;
    let problems = validate(&job).unwrap_err().to_string();
    for part in ["has 257 inputs", "has 9 constraints", "has 9 values; write at most 8", "write at most 1000"] {
        assert!(problems.contains(part), "{problems}");
    }
}

#[test]
fn a_result_that_could_not_be_published_is_refused() {
    let table = [
        ("Bucket: b", "field 'Key' in 'Job.Tasks[0].Publisher.Params' is missing"),
        (
            "Bucket: b, Key: 'k/{executionID}', Encoding: zip",
            "field 'Encoding' in 'Job.Tasks[0].Publisher.Params' is 'zip'",
        ),
        (
            "Bucket: b, Key: '{executionID}/{jobId}'",
            "has the placeholder '{jobId}'; write one of {nodeID}, {executionID}",
        ),
        (
            "Bucket: b, Key: '{jobID}'",
            "is the same for all 2 partitions, so that one would replace another; put {executionID}",
        ),
        ("Bucket: b, Key: '{executionID},x'", "has a comma or a control character"),
        ("Bucket: \"a\\nb\", Key: '{executionID}'", "has a comma or a control character"),
        ("Bucket: b, Key: '{executionID}', Endpoint: 'minio:9000'", "is no URL; write a URL like http://"),
        ("Bucket: b, Key: '{executionID}', Endpoint: 'ftp://h'", "has the scheme 'ftp'"),
        ("Bucket: b, Key: '{executionID}', Endpoint: 'http://me:secret@h'", "has credentials in it"),
        ("Bucket: b, Key: '{executionID}', Endpoint: 'http://h/?a=b'", "has more or less than a host and a path"),
    ];
    let with = |params: &str| problems("Env:", &format!("Publisher: {{Type: s3, Params: {{{params}}}}}\n    Env:"));
    for (params, part) in table {
        let problems = with(params);
        assert!(problems.contains(part), "{params}: {problems}");
        assert!(!problems.contains("secret"), "{problems}");
    }
    let key = |length| format!("Bucket: b, Key: '{{executionID}}{}'", "x".repeat(length));
    assert_eq!(with(&key(1_024 - 34 - 7)), "");
    assert!(with(&key(1_024 - 34 - 6)).contains("has 1025 bytes when it is filled in, and 1024 are allowed"));
    assert_eq!(
        with(
            "Bucket: b, Key: '{date}/{time}/{nodeID}/{jobID}/{executionID}', Endpoint: 'https://h:1/s3', Encoding: PLAIN"
        ),
        ""
    );
}
