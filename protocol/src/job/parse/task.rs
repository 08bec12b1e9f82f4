//! Reads a job's task: engine, inputs, publisher, resources, network, timeouts.

use crate::job::node::Node;
use crate::job::problem::quoted;
use crate::job::read::{Fields, Reader};
use crate::job::spec::{
    BlobPublisher, BlobRoot, BlobSource, CreateAs, DEFAULT_ENTRYPOINT, Docker, Engine, InlineSource, InputSource,
    IpfsSource, LocalSource, Network, NetworkKind, Port, Publisher, Resolve, Resources, ResultPath, S3Partition,
    S3PartitionBy, S3Publisher, S3Source, Source, Task, Timeouts, UrlSource, Wasm,
};
use crate::limits::MAX_EXECUTION_MS;
use crate::task::ContentKind;

/// Where the entry module of a legacy file is put, as Bacalhau does.
const LEGACY_ENTRY: &str = "/wasm/entry.wasm";
/// The longest timeout, in seconds.
const MAX_TIMEOUT_SECS: u64 = 10 * MAX_EXECUTION_MS / 1_000;

#[derive(Clone, Copy)]
enum EngineKind {
    Docker,
    Wasm,
    Noop,
}

#[derive(Clone, Copy)]
enum SourceKind {
    Blob,
    Inline,
    Url,
    S3,
    Ipfs,
    Local,
}

#[derive(Clone, Copy)]
enum PublisherKind {
    Blob,
    Local,
    S3,
    S3Managed,
    Ipfs,
    Noop,
}

impl Reader {
    pub(super) fn task(&mut self, path: String, node: Node) -> Option<Task> {
        let mut fields = self.fields(path, Some(node));
        let name = self.text(&mut fields, "Name").unwrap_or_default();
        let inputs = self.list(&mut fields, "InputSources");
        let mut inputs: Vec<InputSource> =
            inputs.into_iter().filter_map(|(path, node)| self.input(path, node, None)).collect();
        let engine = fields.take("Engine");
        let engine = self.engine(fields.path_of("Engine"), engine, &mut inputs);
        let publisher = fields.take("Publisher");
        let publisher = self.publisher(fields.path_of("Publisher"), publisher);
        let env = self.text_map(&mut fields, "Env");
        let meta = self.text_map(&mut fields, "Meta");
        let results = self.list(&mut fields, "ResultPaths");
        let result_paths = results.into_iter().map(|(path, node)| self.result_path(path, node)).collect();
        let resources = fields.take("Resources");
        let resources = self.resources(fields.path_of("Resources"), resources);
        let network = fields.take("Network");
        let network = self.network(fields.path_of("Network"), network);
        let timeouts = fields.take("Timeouts");
        let timeouts = self.timeouts(fields.path_of("Timeouts"), timeouts);
        self.close(&fields);
        let (engine, publisher) = (engine?, publisher?);
        let input_sources = inputs;
        Some(Task { name, engine, publisher, env, meta, input_sources, result_paths, resources, network, timeouts })
    }

    fn engine(&mut self, path: String, node: Option<Node>, inputs: &mut Vec<InputSource>) -> Option<Engine> {
        const KINDS: [(&str, EngineKind); 3] =
            [("docker", EngineKind::Docker), ("wasm", EngineKind::Wasm), ("noop", EngineKind::Noop)];
        let (kind, mut params) = self.kind_and_params(path, node, &KINDS, "write docker or wasm");
        let engine = match kind? {
            EngineKind::Docker => Engine::Docker(self.docker(&mut params)),
            EngineKind::Wasm => Engine::Wasm(self.wasm(&mut params, inputs)),
            EngineKind::Noop => return Some(Engine::Noop),
        };
        self.close(&params);
        Some(engine)
    }

    /// Opens a `{Type, Params}` pair. A missing type is noted, unless `required` is empty.
    fn kind_and_params<K: Copy>(
        &mut self,
        path: String,
        node: Option<Node>,
        kinds: &[(&'static str, K)],
        required: &str,
    ) -> (Option<K>, Fields) {
        let mut fields = self.fields(path, node);
        let kind = if required.is_empty() {
            self.choice(&mut fields, "Type", kinds)
        } else {
            self.required_choice(&mut fields, "Type", kinds, required)
        };
        let params = fields.take("Params");
        let params = self.fields(fields.path_of("Params"), params);
        self.close(&fields);
        (kind, params)
    }

    fn docker(&mut self, params: &mut Fields) -> Docker {
        Docker {
            image: self.text(params, "Image").unwrap_or_default(),
            entrypoint: self.texts(params, "Entrypoint"),
            parameters: self.texts(params, "Parameters"),
            environment_variables: self.texts(params, "EnvironmentVariables"),
            working_directory: self.text(params, "WorkingDirectory").filter(|folder| !folder.is_empty()),
            platform: self.text(params, "Platform").filter(|platform| !platform.is_empty()),
        }
    }

    fn wasm(&mut self, params: &mut Fields, inputs: &mut Vec<InputSource>) -> Wasm {
        let entry = params.take("EntryModule");
        let entry_path = params.path_of("EntryModule");
        let entry_module = self.module(entry_path, entry, LEGACY_ENTRY, inputs).unwrap_or_default();
        let entrypoint = self.text(params, "Entrypoint").filter(|function| !function.is_empty());
        let parameters = self.texts(params, "Parameters");
        let imports = self.list(params, "ImportModules");
        let import_modules = imports
            .into_iter()
            .enumerate()
            .filter_map(|(index, (path, node))| self.module(path, Some(node), &legacy_import(index), inputs));
        let import_modules = import_modules.collect();
        if params.take("EnvironmentVariables").is_some() {
            let remedy = "move them to the task's Env";
            self.warn(params.path_of("EnvironmentVariables"), "is an old form that is ignored, as in Bacalhau", remedy);
        }
        let entrypoint = entrypoint.unwrap_or_else(|| DEFAULT_ENTRYPOINT.into());
        Wasm { entry_module, entrypoint, parameters, import_modules }
    }

    /// Reads a module: a target path, or in old files an input source, which is moved to the task's inputs.
    fn module(
        &mut self,
        path: String,
        node: Option<Node>,
        legacy_target: &str,
        inputs: &mut Vec<InputSource>,
    ) -> Option<String> {
        match node? {
            Node::Text(target) => Some(target),
            node @ Node::Map(_) => {
                let input = self.input(path, node, Some(legacy_target))?;
                let target = input.target.clone();
                inputs.push(input);
                Some(target)
            }
            other => {
                let reason = format!("has the wrong type: {}, expected the target path of an input", other.kind());
                self.problems.push(path, reason, "");
                None
            }
        }
    }

    fn input(&mut self, path: String, node: Node, default_target: Option<&str>) -> Option<InputSource> {
        let mut fields = self.fields(path, Some(node));
        let source = fields.take("Source");
        let source = self.source(fields.path_of("Source"), source);
        const READERS: [(&str, Resolve); 2] = [("requester", Resolve::Requester), ("worker", Resolve::Worker)];
        let resolve = self.choice(&mut fields, "Resolve", &READERS);
        let alias = self.text(&mut fields, "Alias").unwrap_or_default();
        let target = self.text(&mut fields, "Target").filter(|target| !target.is_empty());
        self.close(&fields);
        let target = target.or(default_target.map(str::to_owned)).unwrap_or_default();
        let source = source?;
        if resolve == Some(Resolve::Requester) && source.is_written() {
            let reason = "is requester, but what a program writes is written where it runs";
            self.problems.push(fields.path_of("Resolve"), reason, "leave it out");
        }
        let resolve = resolve.unwrap_or_else(|| Resolve::usual(&source));
        Some(InputSource { source, alias, target, resolve })
    }

    pub(super) fn source(&mut self, path: String, node: Option<Node>) -> Option<Source> {
        const KINDS: [(&str, SourceKind); 8] = [
            ("blob", SourceKind::Blob),
            ("inline", SourceKind::Inline),
            ("urlDownload", SourceKind::Url),
            ("url", SourceKind::Url),
            ("s3", SourceKind::S3),
            ("ipfs", SourceKind::Ipfs),
            ("localDirectory", SourceKind::Local),
            ("local", SourceKind::Local),
        ];
        let required = "write blob, inline, urlDownload, s3, ipfs or localDirectory";
        let (kind, mut params) = self.kind_and_params(path, node, &KINDS, required);
        let source = match kind? {
            SourceKind::Blob => self.blob(&mut params).map(Source::Blob),
            SourceKind::Inline => self.url(&mut params).map(|url| Source::Inline(InlineSource { url })),
            SourceKind::Url => Some(Source::UrlDownload(self.url_source(&mut params))),
            SourceKind::S3 => Some(Source::S3(Box::new(self.s3_source(&mut params)))),
            SourceKind::Ipfs => {
                Some(Source::Ipfs(IpfsSource { cid: self.text(&mut params, "CID").unwrap_or_default() }))
            }
            SourceKind::Local => Some(Source::LocalDirectory(self.local(&mut params))),
        };
        self.close(&params);
        source
    }

    fn url(&mut self, params: &mut Fields) -> Option<String> {
        Some(self.text(params, "URL").unwrap_or_default())
    }

    fn url_source(&mut self, params: &mut Fields) -> UrlSource {
        let mut text = |name| self.text(params, name).unwrap_or_default();
        UrlSource { url: text("URL"), checksum_sha256: text("ChecksumSHA256") }
    }

    fn blob(&mut self, params: &mut Fields) -> Option<BlobSource> {
        const KINDS: [(&str, ContentKind); 2] = [("file", ContentKind::Raw), ("folder", ContentKind::Collection)];
        let given = ["Hash", "CID", "Ticket"].map(|name| Some((name, self.text(params, name)?)));
        let kind = self.choice(params, "Kind", &KINDS);
        let path = self.text(params, "Path").unwrap_or_default().trim_matches('/').to_owned();
        let Some((name, text)) = given.into_iter().flatten().next() else {
            self.missing(params, "Hash", "write a blob hash (64 hex digits), or a blob ticket");
            return None;
        };
        // What has parts is a folder.
        let usual = if path.is_empty() { ContentKind::Raw } else { ContentKind::Collection };
        let root = BlobRoot::parse(text.trim(), kind.unwrap_or(usual));
        if root.is_none() {
            let reason = format!("is {}, which is no blob hash and no blob ticket", quoted(&text));
            self.problems.push(params.path_of(name), reason, "write 64 hex digits in lower case, or a ticket");
        }
        Some(BlobSource { root: root?, path })
    }

    fn s3_source(&mut self, params: &mut Fields) -> S3Source {
        let partition = params.take("Partition");
        let partition = self.s3_partition(params.path_of("Partition"), partition);
        let mut text = |name| self.text(params, name).unwrap_or_default();
        S3Source {
            bucket: text("Bucket"),
            key: text("Key"),
            filter: text("Filter"),
            region: text("Region"),
            endpoint: text("Endpoint"),
            version_id: text("VersionID"),
            checksum_sha256: text("ChecksumSHA256"),
            partition,
        }
    }

    fn s3_partition(&mut self, path: String, node: Option<Node>) -> S3Partition {
        // Keys of S3 have at most 1,024 bytes.
        const INDEX: (u32, u32) = (0, u32::MAX);
        let mut fields = self.fields(path, node);
        let partition = S3Partition {
            by: self.choice(&mut fields, "Type", &S3PartitionBy::NAMES).unwrap_or_default(),
            pattern: self.text(&mut fields, "Pattern").unwrap_or_default(),
            start_index: self.whole(&mut fields, "StartIndex", INDEX).unwrap_or_default().into(),
            end_index: self.whole(&mut fields, "EndIndex", INDEX).unwrap_or_default().into(),
            date_format: self.text(&mut fields, "DateFormat").unwrap_or_default(),
        };
        self.close(&fields);
        partition
    }

    fn local(&mut self, params: &mut Fields) -> LocalSource {
        const KINDS: [(&str, CreateAs); 3] =
            [("dir", CreateAs::Dir), ("file", CreateAs::File), ("noCreate", CreateAs::NoCreate)];
        LocalSource {
            source_path: self.text(params, "SourcePath").unwrap_or_default(),
            read_write: self.flag(params, "ReadWrite").unwrap_or_default(),
            create_as: self.choice(params, "CreateAs", &KINDS).unwrap_or_default(),
        }
    }

    fn publisher(&mut self, path: String, node: Option<Node>) -> Option<Publisher> {
        const KINDS: [(&str, PublisherKind); 6] = [
            ("blob", PublisherKind::Blob),
            ("local", PublisherKind::Local),
            ("s3", PublisherKind::S3),
            ("s3managed", PublisherKind::S3Managed),
            ("ipfs", PublisherKind::Ipfs),
            ("noop", PublisherKind::Noop),
        ];
        let problems = self.problems.0.len();
        let (kind, mut params) = self.kind_and_params(path, node, &KINDS, "");
        if kind.is_none() && self.problems.0.len() > problems {
            return None;
        }
        let publisher = match kind.unwrap_or(PublisherKind::Blob) {
            PublisherKind::Blob => Publisher::Blob(self.blob_publisher(&mut params)),
            PublisherKind::Local => Publisher::Local,
            PublisherKind::S3 => Publisher::S3(self.s3_publisher(&mut params)),
            PublisherKind::S3Managed => Publisher::S3Managed,
            PublisherKind::Ipfs => Publisher::Ipfs,
            PublisherKind::Noop => Publisher::Noop,
        };
        self.close(&params);
        Some(publisher)
    }

    /// None of its parameters are Bacalhau's, so one that is unknown is a mistake.
    fn blob_publisher(&mut self, params: &mut Fields) -> BlobPublisher {
        let publisher = BlobPublisher { retention: self.length_of_time(params, "Retention") };
        self.close_strictly(params);
        publisher
    }

    fn s3_publisher(&mut self, params: &mut Fields) -> S3Publisher {
        let mut text = |name| self.text(params, name).unwrap_or_default();
        S3Publisher {
            bucket: text("Bucket"),
            key: text("Key"),
            region: text("Region"),
            endpoint: text("Endpoint"),
            encoding: text("Encoding"),
        }
    }

    fn result_path(&mut self, path: String, node: Node) -> ResultPath {
        let mut fields = self.fields(path, Some(node));
        let name = self.text(&mut fields, "Name").unwrap_or_default();
        let path = self.text(&mut fields, "Path").unwrap_or_default();
        self.close(&fields);
        ResultPath { name, path }
    }

    fn resources(&mut self, path: String, node: Option<Node>) -> Resources {
        let default = Resources::default();
        let mut fields = self.fields(path, node);
        let resources = Resources {
            cpu: self.amount(&mut fields, "CPU", default.cpu),
            memory: self.amount(&mut fields, "Memory", default.memory),
            disk: self.amount(&mut fields, "Disk", default.disk),
            gpu: self.amount(&mut fields, "GPU", default.gpu),
        };
        self.close(&fields);
        resources
    }

    fn network(&mut self, path: String, node: Option<Node>) -> Network {
        const KINDS: [(&str, NetworkKind); 6] = [
            ("None", NetworkKind::None),
            ("Host", NetworkKind::Host),
            ("HTTP", NetworkKind::Http),
            ("Bridge", NetworkKind::Bridge),
            ("Full", NetworkKind::Host),
            ("Default", NetworkKind::None),
        ];
        let mut fields = self.fields(path, node);
        let kind = self.choice(&mut fields, "Type", &KINDS).unwrap_or_default();
        let domains = self.texts(&mut fields, "Domains");
        let ports = self.list(&mut fields, "Ports");
        let ports = ports.into_iter().map(|(path, node)| self.port(path, node)).collect();
        self.close(&fields);
        Network { kind, domains, ports }
    }

    fn port(&mut self, path: String, node: Node) -> Port {
        const NUMBER: (u16, u16) = (0, u16::MAX);
        let mut fields = self.fields(path, Some(node));
        let port = Port {
            name: self.text(&mut fields, "Name").unwrap_or_default(),
            fixed: self.whole(&mut fields, "Static", NUMBER).unwrap_or_default(),
            target: self.whole(&mut fields, "Target", NUMBER).unwrap_or_default(),
            host_network: self.text(&mut fields, "HostNetwork").unwrap_or_default(),
        };
        self.close(&fields);
        port
    }

    fn timeouts(&mut self, path: String, node: Option<Node>) -> Timeouts {
        let mut fields = self.fields(path, node);
        let mut secs = |name| self.whole(&mut fields, name, (0, MAX_TIMEOUT_SECS)).unwrap_or_default();
        let timeouts = Timeouts {
            execution_secs: secs("ExecutionTimeout"),
            queue_secs: secs("QueueTimeout"),
            total_secs: secs("TotalTimeout"),
        };
        self.close(&fields);
        timeouts
    }
}

/// Where the imported modules of a legacy file are put, as Bacalhau does.
fn legacy_import(index: usize) -> String {
    format!("{LEGACY_IMPORTS}{index}.wasm")
}

/// How the targets of a legacy file's imported modules start.
pub(crate) const LEGACY_IMPORTS: &str = "/wasm/imports/module_";
