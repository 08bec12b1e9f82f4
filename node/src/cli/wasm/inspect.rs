//! `shoal wasm inspect`: what a module needs and offers, and whether it can run here.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use futures_util::{StreamExt, pin_mut};
use shoal_executors::wasm::profile::MAX_MODULE_BYTES;
use shoal_executors::wasm::report::{self, FunctionShare, MemorySize, Report, Share};
use shoal_protocol::id::BlobHash;
use shoal_protocol::job::input;
use shoal_protocol::job::spec::{BlobRoot, BlobSource, DEFAULT_ENTRYPOINT, Source};

use crate::cli::output::{self, OutputFlag};
use crate::cli::{Global, Status, connect};

/// Flags of `shoal wasm inspect`.
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// A file, or the hash of a blob that the running node has
    #[arg(value_name = "MODULE")]
    module: String,
    /// The exported function that would be called
    #[arg(long, value_name = "NAME", default_value = DEFAULT_ENTRYPOINT)]
    entry_point: String,
    /// A module that the program imports, and its import name (repeatable)
    #[arg(short = 'I', long = "import-module", alias = "import-modules", value_name = "SRC:NAME")]
    import_modules: Vec<String>,
    #[command(flatten)]
    output: OutputFlag,
}

impl Inspect {
    pub(super) async fn run(self, global: &Global) -> Result<Status> {
        let module = read(global, &input::bare_source(&self.module)?).await;
        let module = module.with_context(|| format!("cannot read the module {}", self.module))?;
        let mut imports = Vec::new();
        for text in &self.import_modules {
            let context = || format!("--import-module {text}");
            let import = input::import_module(text).with_context(context)?;
            let bytes = read(global, &import.source).await.with_context(context)?;
            imports.push((import.target.trim_start_matches('/').to_owned(), bytes));
        }
        let entry_point = self.entry_point;
        let report = tokio::task::spawn_blocking(move || report::report(&module, &entry_point, &imports)).await?;
        output::show(self.output.format(global.format), &report, text)?;
        Ok(if report.runs { Status::Done } else { Status::JobFailed })
    }
}

async fn read(global: &Global, source: &Source) -> Result<Vec<u8>> {
    match source {
        Source::LocalDirectory(local) => read_file(Path::new(&local.source_path)),
        Source::Blob(BlobSource { root: BlobRoot::Content(content), path }) if path.is_empty() => {
            read_blob(global, content.hash).await
        }
        other => bail!("{} modules cannot be inspected: download it, and name the file", other.kind()),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).context("no such file, and not a blob hash")?;
    if metadata.is_dir() {
        bail!("it is a folder: name the .wasm file in it");
    }
    check_size(metadata.len())?;
    Ok(std::fs::read(path)?)
}

async fn read_blob(global: &Global, hash: BlobHash) -> Result<Vec<u8>> {
    let client = connect::running(global).await?;
    let pieces = client.read(hash).await?;
    pin_mut!(pieces);
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece?);
        check_size(bytes.len() as u64)?;
    }
    Ok(bytes)
}

fn check_size(bytes: u64) -> Result<()> {
    if bytes > MAX_MODULE_BYTES {
        bail!(
            "it has {}, more than the {} that a module may have",
            output::size(bytes),
            output::size(MAX_MODULE_BYTES)
        );
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let mut parts = vec![output::pairs(head(report))];
    if !report.problems.is_empty() {
        let problems: Vec<String> = report.problems.iter().map(|problem| format!("- {problem}")).collect();
        parts.push(format!("Why it cannot run:\n{}", problems.join("\n")));
    }
    if !report.imports.is_empty() {
        let provider = |import: &report::Imported| import.provider.clone().unwrap_or_else(|| "nobody".into());
        let name = |import: &report::Imported| match import.module.as_str() {
            // An interface of a component.
            "" => import.name.clone(),
            module => format!("{module}.{}", import.name),
        };
        let rows = report.imports.iter().map(|import| [name(import), import.kind.clone(), provider(import)]);
        parts.push(output::table(["import", "type", "from"], rows));
    }
    if !report.exports.is_empty() {
        let rows = report.exports.iter().map(|export| [export.name.clone(), export.kind.clone()]);
        parts.push(output::table(["export", "type"], rows));
    }
    parts.join("\n\n")
}

fn head(report: &Report) -> Vec<(&'static str, String)> {
    let counts = &report.counts;
    let names = if counts.has_names { "" } else { ", without names" };
    vec![
        ("Module", report.hash.to_string()),
        ("Size", output::size(report.bytes)),
        ("Runs", if report.runs { format!("yes, under {}", report.profile) } else { "no".into() }),
        ("Entry points", listed(&report.entry_points)),
        ("Memory", memory(&report.memories)),
        ("Functions", format!("{}{names}", counts.functions)),
        ("Instructions", counts.instructions.to_string()),
        ("Code", output::size(counts.code_bytes)),
        ("Data", output::size(counts.data_bytes)),
        ("Tables, globals", format!("{}, {}", counts.tables, counts.globals)),
        ("Float", share(&report.float, counts.instructions)),
        ("SIMD", share(&report.simd, counts.instructions)),
    ]
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn memory(memories: &[MemorySize]) -> String {
    let sizes = memories.iter().map(|memory| match memory.maximum_bytes {
        Some(most) => format!("{} to {}", output::size(memory.initial_bytes), output::size(most)),
        None => format!("{} or more", output::size(memory.initial_bytes)),
    });
    listed(&sizes.collect::<Vec<_>>())
}

/// `1200 of 50000 instructions in 3 functions; most in main (1100)`
fn share(share: &Share, all: u64) -> String {
    if share.instructions == 0 {
        return "none".into();
    }
    let name =
        |function: &FunctionShare| function.name.clone().unwrap_or_else(|| format!("function {}", function.index));
    let most = share.most.iter().map(|function| format!("{} ({})", name(function), function.instructions));
    let functions = output::count(share.functions, "function");
    let most: Vec<String> = most.collect();
    format!("{} of {all} instructions in {functions}; most in {}", share.instructions, most.join(", "))
}
