//! What a person wants to know of a module before it is run: what it needs, what it offers, whether it can run here
//! and if not every reason why.

use std::collections::BTreeMap;

use serde::Serialize;
use shoal_protocol::id::BlobHash;
use wasmparser::{KnownCustom, Parser, Payload};

use super::census::{Census, Count};
use super::externs::{Extern, shown};
use super::inspect::interfaces::is_provided;
use super::inspect::{self, Inspected, Misfit, listed, remedy, wrong_type};
use super::rewrite::rewrite;
use super::{names, profile};
use crate::wasi;

/// Functions that are named for having the most of some kind of instruction.
const MAX_NAMED: usize = 5;
/// The type of what components import and export.
const INTERFACE: &str = "interface";
/// Bytes of a page of memory.
const PAGE_BYTES: u64 = 64 << 10;

/// All that is to be said of a module.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Report {
    /// Its hash.
    pub hash: BlobHash,
    /// Its size, in bytes.
    pub bytes: u64,
    /// The determinism profile that it was looked at for.
    pub profile: &'static str,
    /// Whether it can run as it was asked for.
    pub runs: bool,
    /// Every reason why not.
    pub problems: Vec<String>,
    /// Functions that could be its entry point.
    pub entry_points: Vec<String>,
    /// What it imports, in its order.
    pub imports: Vec<Imported>,
    /// What it exports, by name.
    pub exports: Vec<Exported>,
    /// Its memories, those that it imports first.
    pub memories: Vec<MemorySize>,
    /// How much there is of what.
    pub counts: Counts,
    /// What works on floating-point numbers, in vectors too.
    pub float: Share,
    /// What works on vectors.
    pub simd: Share,
}

/// Something that a module imports.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Imported {
    /// The module that it is imported from.
    pub module: String,
    /// Its name there.
    pub name: String,
    /// Its type.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Who provides it; nobody if there is none.
    pub provider: Option<String>,
}

/// Something that a module exports.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Exported {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "Type")]
    pub kind: String,
}

/// How large a memory is.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MemorySize {
    /// At first, in bytes.
    pub initial_bytes: u64,
    /// At most, in bytes, if the module says so.
    pub maximum_bytes: Option<u64>,
}

/// How much of what a module has.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Counts {
    /// Functions of its own.
    pub functions: u64,
    /// Instructions.
    pub instructions: u64,
    /// Code, in bytes.
    pub code_bytes: u64,
    /// Initial data, in bytes.
    pub data_bytes: u64,
    /// Tables, those that it imports too; likewise below.
    pub tables: u64,
    /// Globals.
    pub globals: u64,
    /// Whether its functions have names, for traps and for this report.
    pub has_names: bool,
}

/// How much of a module is of one kind.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Share {
    /// Instructions.
    pub instructions: u64,
    /// Functions with at least one of them.
    pub functions: u64,
    /// The functions with the most.
    pub most: Vec<FunctionShare>,
}

/// A function's part in it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FunctionShare {
    /// Its index in the module.
    pub index: u32,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// How many of its instructions.
    pub instructions: u64,
}

/// Looks at a module that is to be run from `entry_point` together with import modules. Nothing is compiled.
pub fn report(bytes: &[u8], entry_point: &str, import_modules: &[(String, Vec<u8>)]) -> Report {
    let hash = BlobHash::of(bytes);
    let (module, mut problems) = inspect::read(hash, bytes);
    if problems.is_empty()
        && let Ok(engine) = wasmtime::Engine::new(&profile::config())
    {
        problems.extend(module.validate(&engine, hash, bytes).err());
    }
    if problems.is_empty() {
        problems.extend(rewrite(bytes).err().map(|refused| inspect::refused(hash, &refused)));
    }
    let mut problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let libraries = libraries(import_modules, &mut problems);
    if module.is_whole() {
        problems.extend(misfits(hash, &module, &libraries));
        if module.is_component() {
            problems.extend(module.check_imports(hash, &libraries).err().map(|error| error.to_string()));
        }
        problems.extend(module.check_entry_point(hash, entry_point).err().map(|error| error.to_string()));
    }
    let (counts, census) = count(bytes, &module);
    Report {
        hash,
        bytes: bytes.len() as u64,
        profile: profile::PROFILE,
        runs: problems.is_empty(),
        problems,
        entry_points: module.entry_points().map(shown).collect(),
        imports: imports(&module, &libraries),
        exports: exports(&module),
        memories: module.memories().iter().map(|memory| size(memory.initial, memory.maximum)).collect(),
        counts,
        float: share(bytes, &census.float),
        simd: share(bytes, &census.simd),
    }
}

fn libraries(modules: &[(String, Vec<u8>)], problems: &mut Vec<String>) -> BTreeMap<String, Inspected> {
    let mut libraries = BTreeMap::new();
    for (name, bytes) in modules {
        let (library, wrong) = inspect::read(BlobHash::of(bytes), bytes);
        problems.extend(wrong.iter().map(|problem| format!("import module {name}: {problem}")));
        libraries.insert(name.clone(), library);
    }
    libraries
}

/// Everything that the module and its import modules want and do not get.
fn misfits(hash: BlobHash, module: &Inspected, libraries: &BTreeMap<String, Inspected>) -> Vec<String> {
    let mut problems = wants(hash, module, libraries);
    for (name, library) in libraries {
        let wants = wants(hash, library, libraries);
        problems.extend(wants.iter().map(|problem| format!("import module {}: {problem}", shown(name))));
    }
    problems
}

/// What nobody provides is said once for each module that it is wanted from.
fn wants(hash: BlobHash, module: &Inspected, libraries: &BTreeMap<String, Inspected>) -> Vec<String> {
    let (mut unknown, mut problems) = (BTreeMap::<&str, Vec<String>>::new(), Vec::new());
    for (import, misfit) in module.misfits(libraries) {
        match misfit {
            Misfit::Unknown => unknown.entry(&import.module).or_default().push(import.to_string()),
            Misfit::Is(given) => problems.push(wrong_type(hash, import, &given).to_string()),
        }
    }
    let unknown = unknown.iter().map(|(from, names)| format!("nobody provides {}; {}", listed(names), remedy(from)));
    problems.extend(unknown);
    problems
}

fn imports(module: &Inspected, libraries: &BTreeMap<String, Inspected>) -> Vec<Imported> {
    let imports = module.imports().iter().map(|import| Imported {
        module: shown(&import.module),
        name: shown(&import.name),
        kind: text(import.kind.as_ref()),
        provider: import.misfit(libraries).is_none().then(|| provider(&import.module)),
    });
    let interfaces = module.component().into_iter().flat_map(|component| &component.imports);
    imports.chain(interfaces.map(|name| interface(name))).collect()
}

fn interface(name: &str) -> Imported {
    let (module, name, kind) = (String::new(), shown(name), INTERFACE.to_owned());
    let provider = is_provided(&name).then(|| "WASI preview 2".to_owned());
    Imported { module, name, kind, provider }
}

fn exports(module: &Inspected) -> Vec<Exported> {
    let exports = module.exports().map(|(name, kind)| Exported { name: shown(name), kind: text(kind.as_ref()) });
    let interfaces = module.component().into_iter().flat_map(|component| &component.exports);
    exports.chain(interfaces.map(|name| Exported { name: shown(name), kind: INTERFACE.to_owned() })).collect()
}

fn provider(module: &str) -> String {
    if module == wasi::abi::MODULE { "WASI preview 1".into() } else { format!("import module {}", shown(module)) }
}

fn text(kind: Option<&Extern>) -> String {
    kind.map_or_else(|| "not valid".to_owned(), ToString::to_string)
}

fn size(initial: u64, maximum: Option<u64>) -> MemorySize {
    let bytes = |pages: u64| pages.saturating_mul(PAGE_BYTES);
    MemorySize { initial_bytes: bytes(initial), maximum_bytes: maximum.map(bytes) }
}

fn count(bytes: &[u8], module: &Inspected) -> (Counts, Census) {
    let (mut counts, mut census) = (Counts::default(), Census::default());
    let mut function = module.imported_functions();
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        match payload {
            Payload::CodeSectionEntry(body) => {
                census.take(function, &body);
                counts.functions += 1;
                counts.code_bytes += body.range().len() as u64;
                function = function.saturating_add(1);
            }
            Payload::DataSection(section) => {
                counts.data_bytes += section.into_iter().flatten().map(|data| data.data.len() as u64).sum::<u64>();
            }
            Payload::CustomSection(section) => counts.has_names |= matches!(section.as_known(), KnownCustom::Name(_)),
            _ => {}
        }
    }
    counts.instructions = census.instructions;
    (counts.tables, counts.globals) = module.tables_and_globals();
    (counts, census)
}

fn share(bytes: &[u8], count: &Count) -> Share {
    let most = count.top(MAX_NAMED);
    let indices: Vec<u32> = most.iter().map(|(index, _)| *index).collect();
    let mut names = names::of_functions(bytes, &indices);
    let most = most.into_iter();
    let most = most.map(|(index, instructions)| FunctionShare { index, name: names.remove(&index), instructions });
    Share { instructions: count.instructions, functions: count.functions.len() as u64, most: most.collect() }
}
