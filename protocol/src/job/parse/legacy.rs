//! Reads job files that were written for Bacalhau before 1.2: one `Spec` (`v1beta1`, `v1beta2`), perhaps below `Job`,
//! or its parts at the top under names of their own (`v1alpha1`). They become what they would be written as today.

use crate::job::node::Node;
use crate::job::read::{Fields, Reader};

/// What such files have and today's have not.
const MARKS: [&str; 3] = ["Spec", "job_spec_docker", "engine_name"];
/// What means nothing here: there is one format, verification has a form of its own, and nobody is tracked.
const MEANINGLESS: [&str; 9] = [
    "APIVersion",
    "Metadata",
    "Status",
    "Verifier",
    "verifier_name",
    "DoNotTrack",
    "SchedulingTimeout",
    "Sharding",
    "ExecutionPlan",
];
/// Kinds of sources, in the old spelling and in today's, and the parameters that they have.
const SOURCES: [(&str, &str, &[&str]); 6] = [
    ("ipfs", "ipfs", &["CID"]),
    ("urldownload", "urlDownload", &["URL"]),
    ("localdirectory", "localDirectory", &["SourcePath", "ReadWrite"]),
    ("inline", "inline", &["URL"]),
    ("blob", "blob", &["Hash"]),
    ("s3", "s3", &["Bucket", "Key", "Filter", "Region", "Endpoint", "VersionID", "ChecksumSHA256"]),
];

/// Whether a document is of an old form.
pub(super) fn is_legacy(node: &Node) -> bool {
    let Node::Map(entries) = node else { return false };
    let marked = |entries: &[(String, Node)]| {
        entries.iter().any(|(key, _)| MARKS.iter().any(|mark| key.eq_ignore_ascii_case(mark)))
    };
    match entries.as_slice() {
        [(job, Node::Map(inner))] if job.eq_ignore_ascii_case("Job") => marked(inner),
        entries => marked(entries),
    }
}

impl Reader {
    /// What an old document would be today.
    pub(super) fn modernised(&mut self, node: Node) -> Node {
        let remedy = "`shoal job run --dry-run` prints it as it is written today";
        self.warn("Job", "is written for Bacalhau before 1.2, and was understood as far as it goes", remedy);
        let mut old = self.fields("Job", Some(node));
        if let Some(inner @ Node::Map(_)) = old.take_quietly("Job") {
            old = self.fields("Job", Some(inner));
        }
        let spec = old.take("Spec");
        let spec = self.fields("Job.Spec", spec);
        // Some files have a part of the specification beside it.
        let mut old = spec.or_from(old);
        MEANINGLESS.iter().for_each(|name| drop(old.take_quietly(name)));
        let job = self.modern_job(&mut old);
        self.close(&old);
        job
    }

    fn modern_job(&mut self, old: &mut Fields) -> Node {
        let deal = old.take("Deal");
        let mut deal = self.fields("Job.Spec.Deal", deal);
        let everywhere = match deal.take("TargetingMode") {
            Some(Node::Flag(all)) => all,
            Some(Node::Text(mode)) => mode.eq_ignore_ascii_case("all"),
            _ => false,
        };
        let count = deal.take("Concurrency").filter(|count| *count != Node::Whole(0) && !everywhere);
        let mut env = None;
        let engine = self.modern_engine(old, &mut env);
        let inputs = self.list(old, "Inputs").into_iter().map(|(path, node)| self.modern_input(path, node)).collect();
        let mut task = vec![("Name", Some(text("main"))), ("Engine", Some(engine)), ("Env", env)];
        task.push(("Publisher", modern_publisher(old)));
        task.push(("InputSources", Some(Node::List(inputs))));
        let results = self.list(old, "Outputs").into_iter().map(|(path, node)| self.modern_result(path, node));
        task.push(("ResultPaths", Some(Node::List(results.collect()))));
        task.extend(["Resources", "Network"].map(|name| (name, old.take(name))));
        task.push(("Timeouts", old.take("Timeout").map(|total| map([("TotalTimeout", Some(total))]))));
        let labels = self.texts(old, "Annotations").into_iter().map(|label| (label, text(""))).collect();
        map([
            ("Type", Some(text(if everywhere { "ops" } else { "batch" }))),
            ("Count", count),
            ("Constraints", old.take("NodeSelectors")),
            ("Labels", Some(Node::Map(labels))),
            ("Tasks", Some(Node::List(vec![map(task)]))),
        ])
    }

    /// The engine; variables of a module are the task's today.
    fn modern_engine(&mut self, old: &mut Fields, env: &mut Option<Node>) -> Node {
        if let Some(engine) = old.take("EngineSpec") {
            return engine;
        }
        let kind = old.take("Engine").or_else(|| old.take_quietly("engine_name"));
        let docker = old.take("Docker").or_else(|| old.take_quietly("job_spec_docker"));
        let wasm = old.take("Wasm");
        let is_wasm =
            kind.as_ref().is_some_and(|kind| matches!(kind, Node::Text(kind) if kind.eq_ignore_ascii_case("wasm")));
        let params = if is_wasm { self.modern_wasm(wasm, env) } else { self.modern_docker(docker) };
        map([("Type", kind), ("Params", Some(params))])
    }

    fn modern_docker(&mut self, node: Option<Node>) -> Node {
        let mut old = self.fields("Job.Spec.Docker", node);
        let params = map([
            ("Image", old.take("Image")),
            ("Entrypoint", old.take("Entrypoint")),
            ("Parameters", old.take("Parameters")),
            ("EnvironmentVariables", old.take("EnvironmentVariables").or_else(|| old.take_quietly("env"))),
            ("WorkingDirectory", old.take("WorkingDirectory").or_else(|| old.take_quietly("workdir"))),
        ]);
        self.close(&old);
        params
    }

    fn modern_wasm(&mut self, node: Option<Node>, env: &mut Option<Node>) -> Node {
        let mut old = self.fields("Job.Spec.Wasm", node);
        *env = old.take("EnvironmentVariables");
        let entry = old.take("EntryModule").map(|node| self.modern_input("Job.Spec.Wasm.EntryModule".into(), node));
        let imports = self.list(&mut old, "ImportModules").into_iter();
        let imports = imports.map(|(path, node)| self.modern_input(path, node)).collect();
        let params = map([
            ("EntryModule", entry),
            ("Entrypoint", old.take("Entrypoint")),
            ("Parameters", old.take("Parameters")),
            ("ImportModules", Some(Node::List(imports))),
        ]);
        self.close(&old);
        params
    }

    fn modern_input(&mut self, path: String, node: Node) -> Node {
        let mut old = self.fields(path, Some(node));
        old.take("Name");
        let target = old.take("Path");
        let kind = old.take("StorageSource").or_else(|| old.take_quietly("engine_name"));
        let known = match &kind {
            Some(Node::Text(kind)) => SOURCES.iter().find(|(name, ..)| name.eq_ignore_ascii_case(kind.trim())),
            _ => None,
        };
        let (kind, names) = known.map_or((kind, &[][..]), |(_, kind, names)| (Some(text(kind)), *names));
        let parts = old.take("S3");
        let mut parts = self.fields(old.path_of("S3"), parts);
        let params = names.iter().map(|name| (*name, parts.take(name).or_else(|| old.take(name)))).collect::<Vec<_>>();
        self.close(&parts);
        self.close(&old);
        map([("Source", Some(map([("Type", kind), ("Params", Some(map(params)))]))), ("Target", target)])
    }

    fn modern_result(&mut self, path: String, node: Node) -> Node {
        let mut old = self.fields(path, Some(node));
        ["StorageSource", "engine_name", "CID"].iter().for_each(|name| drop(old.take_quietly(name)));
        let result = map([("Name", old.take("Name")), ("Path", old.take("Path"))]);
        self.close(&old);
        result
    }
}

/// A publisher was a word, or an object beside it.
fn modern_publisher(old: &mut Fields) -> Option<Node> {
    let word = old.take("Publisher").or_else(|| old.take_quietly("publisher_name"));
    let object = old.take("PublisherSpec");
    object.or_else(|| word.map(|word| if let Node::Map(_) = word { word } else { map([("Type", Some(word))]) }))
}

fn text(text: &str) -> Node {
    Node::Text(text.to_owned())
}

fn map(entries: impl IntoIterator<Item = (&'static str, Option<Node>)>) -> Node {
    Node::Map(entries.into_iter().filter_map(|(name, node)| Some((name.to_owned(), node?))).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::job::parse::parse;
    use crate::job::spec::{Engine, Job, JobKind, Publisher, S3Source, Source};

    fn job(spec: &str) -> Job {
        let text = format!("Spec:\n  EngineSpec: {{Type: docker, Params: {{Image: x}}}}\n{spec}");
        parse(&text).unwrap_or_else(|error| panic!("{text}\n{error}")).job
    }

    #[test]
    fn a_deal_says_how_many_run_it() {
        let of = |deal: &str| {
            let job = job(&format!("  Deal: {deal}"));
            (job.kind, job.count)
        };
        assert_eq!(of("{Concurrency: 3, TargetingMode: any}"), (JobKind::Batch, 3));
        assert_eq!(of("{Concurrency: 0}"), (JobKind::Batch, 1));
        assert_eq!(of("{Concurrency: 3, TargetingMode: all}"), (JobKind::Ops, 0));
    }

    #[test]
    fn sources_have_their_parameters_beside_them_or_in_a_part_of_their_own() {
        let job = job("  Inputs:\n  - {StorageSource: S3, Path: /a, S3: {Bucket: b, Key: k/}}\n  \
                       - {StorageSource: URLDownload, path: /b, url: \"http://x.example/\"}");
        let [s3, url] = job.task.input_sources.as_slice() else { panic!("{job:?}") };
        let bucket = S3Source { bucket: "b".into(), key: "k/".into(), ..S3Source::default() };
        assert_eq!((&s3.source, s3.target.as_str()), (&Source::S3(Box::new(bucket)), "/a"));
        assert!(matches!(&url.source, Source::UrlDownload(url) if url.url == "http://x.example/"));
    }

    #[test]
    fn a_modules_variables_are_the_tasks() {
        let module = "{StorageSource: inline, URL: \"data:,\"}";
        let wasm = format!("Spec: {{Engine: Wasm, Wasm: {{EntryModule: {module}, EnvironmentVariables: {{A: b}}}}}}");
        let job = parse(&wasm).unwrap().job;
        assert!(matches!(&job.task.engine, Engine::Wasm(wasm) if wasm.entry_module == "/wasm/entry.wasm"));
        assert_eq!(job.task.env["A"], "b");
    }

    #[test]
    fn publishers_were_words_or_objects() {
        assert_eq!(job("  Publisher: IPFS").task.publisher, Publisher::Ipfs);
        let s3 = job("  Publisher: noop\n  PublisherSpec: {Type: S3, Params: {Bucket: b}}").task.publisher;
        assert!(matches!(s3, Publisher::S3(s3) if s3.bucket == "b"));
    }

    #[test]
    fn what_is_wrong_is_named_as_it_would_be_today() {
        let wrong = parse("Spec: {EngineSpec: {Type: docker}, Outputs: [{Name: [x]}], Deal: {Concurrency: many}}");
        let wrong = wrong.unwrap_err().to_string();
        assert!(
            wrong.contains("'Count' in 'Job'") && wrong.contains("'Name' in 'Job.Tasks[0].ResultPaths[0]'"),
            "{wrong}"
        );
        assert!(parse("Spec: 7").unwrap_err().to_string().contains("'Spec' in 'Job'"));
    }

    proptest! {
        #[test]
        fn nothing_in_an_old_file_panics(
            part in "(Spec|job_spec_docker|Deal|Inputs|Docker|Wasm|EngineSpec|Outputs|S3|Annotations|Engine)",
            value in "(7|null|\\[\\]|\\{\\}|\\[1, \\{\\}\\]|\\{a: b\\}|x|\\{Spec: \\{\\}\\})", below: bool,
        ) {
            let text = if below { format!("Spec: {{{part}: {value}}}") } else { format!("Spec: {{}}\n{part}: {value}") };
            let _ = parse(&text);
            let _ = parse(&format!("Job: {{Spec: {{}}, {part}: {value}}}"));
        }
    }
}
