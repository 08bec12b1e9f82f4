//! The program that makes the calls: one for each preview, the same every time. It reads a script from its standard
//! input and performs it, so that it is compiled once.
//!
//! Its memory, from below: what calls answer, handles that it was given, the script. For preview 2 above that a heap
//! for what the host returns, empty again before each call.

use std::fmt::Write as _;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::WasmType;
use wit_parser::{Function, WasmExport, WasmExportKind, WorldItem};

use super::calls::{Import, MANGLING, Meaning, Preview2, Yield, preview1};

/// Descriptors and handles that calls gave, for later ones.
pub(crate) const SLOTS: u32 = 0x800;
/// Slots of each resource; a ring, and before it the place of the next.
pub(crate) const SLOTS_EACH: u32 = 8;
/// Bytes from one ring to the next.
pub(crate) const RING_BYTES: u32 = 64;
/// Where the script is read to: first its data, then its calls.
pub(crate) const DATA: u32 = 0x1_0000;
/// Bytes of data.
pub(crate) const DATA_BYTES: u32 = 0x4000;
/// Where the calls are.
pub(crate) const CALLS: u32 = DATA + DATA_BYTES;
/// Most parameters of a call.
pub(crate) const PARAMETERS: u32 = 12;
/// Bytes of a call: its function's number, how often it is made, its parameters.
pub(crate) const CALL_BYTES: u32 = 8 + 8 * PARAMETERS;
/// Most bytes of a script.
pub(crate) const SCRIPT_BYTES: u32 = 0x1_0000;
/// Bytes of memory without the heap.
pub(crate) const MEMORY_BYTES: u32 = 0x2_0000;
/// The upper half of a parameter that is to be read from memory, at the place that its lower half says.
pub(crate) const REFERENCE: u64 = 1 << 32;

/// Where preview 2 puts the length and place of the script.
const READ: u32 = 0x700;
/// Bytes of the heap.
const HEAP_BYTES: u32 = 0x1e_0000;

/// What is common to both programs.
const COMMON: &str = r#"
    (func $slot (param $at i32) (result i32)
        (if (result i32) (i32.eq (i32.load offset=4 (local.get $at)) (i32.const 1))
            (then (i32.load (i32.and (i32.load (local.get $at)) (i32.const 0xffff))))
            (else (i32.load (local.get $at)))))
    (func $keep (param $ring i32) (param $handle i32)
        (local $next i32)
        (local.set $next (i32.and (i32.load (local.get $ring)) (i32.const 7)))
        (i32.store offset=4 (i32.add (local.get $ring) (i32.shl (local.get $next) (i32.const 2))) (local.get $handle))
        (i32.store (local.get $ring) (i32.add (local.get $next) (i32.const 1))))
    (func $forget (param $at i32)
        (if (i32.eq (i32.load offset=4 (local.get $at)) (i32.const 1))
            (then (i32.store (i32.and (i32.load (local.get $at)) (i32.const 0xffff)) (i32.const 0)))))
    (func $perform (param $at i32) (param $end i32)
        (local $left i32)
        (loop $next
            (if (i32.lt_u (local.get $at) (local.get $end)) (then
                (local.set $left (i32.load offset=4 (local.get $at)))
                (loop $again
                    (call_indirect (type $call) (local.get $at) (i32.load (local.get $at)))
                    (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                (local.set $at (i32.add (local.get $at) (i32.const CALL_BYTES)))
                (br $next)))))"#;

/// A program, and what its scripts can call.
pub(crate) struct Guest {
    pub(crate) program: Vec<u8>,
    pub(crate) imports: Vec<Import>,
    /// Once in so many parameters is one that can only be wrong: modules are told of their mistakes, components end
    /// with most of them.
    pub(crate) mistakes: u32,
}

/// The module that calls preview 1.
pub(crate) fn module() -> Guest {
    let imports = preview1();
    let pages = MEMORY_BYTES >> 16;
    // Buffers: the script, in one piece.
    let start = format!(
        r#"(memory (export "memory") {pages})
        (func (export "_start")
            (i32.store (i32.const 0) (i32.const {DATA})) (i32.store (i32.const 4) (i32.const {SCRIPT_BYTES}))
            (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (call $perform (i32.const {CALLS}) (i32.add (i32.const {DATA}) (i32.load (i32.const 8)))))"#
    );
    let program = wat::parse_str(text(&imports, &start)).expect("a module");
    Guest { program, imports, mistakes: 40 }
}

/// The component that calls preview 2.
pub(crate) fn component() -> Guest {
    let mut preview2 = Preview2::new();
    let imports = preview2.functions();
    let mut module = wat::parse_str(text(&imports, &start_of_component(&preview2))).expect("a module");
    embed_component_metadata(&mut module, &preview2.resolve, preview2.world, StringEncoding::UTF8).expect("a world");
    let encoder = ComponentEncoder::default().module(&module).expect("a module of that world");
    let program = encoder.validate(true).encode().expect("a component");
    Guest { program, imports, mistakes: 3_000 }
}

fn start_of_component(preview2: &Preview2) -> String {
    let (resolve, world) = (&preview2.resolve, &preview2.resolve.worlds[preview2.world]);
    let (pages, heap) = ((MEMORY_BYTES + HEAP_BYTES) >> 16, MEMORY_BYTES);
    let memory = resolve.wasm_export_name(MANGLING, WasmExport::Memory);
    let realloc = resolve.wasm_export_name(MANGLING, WasmExport::Realloc);
    let initialize = resolve.wasm_export_name(MANGLING, WasmExport::Initialize);
    let run = world.exports.iter().find_map(|(key, export)| {
        let WorldItem::Interface { id, .. } = export else { return None };
        let function: &Function = resolve.interfaces[*id].functions.values().next()?;
        let export = WasmExport::Func { interface: Some(key), func: function, kind: WasmExportKind::Normal };
        Some(resolve.wasm_export_name(MANGLING, export))
    });
    let run = run.expect("a command");
    format!(
        r#"(memory (export "{memory}") {pages})
        (global $heap (mut i32) (i32.const {heap}))
        (func (export "{realloc}") (param i32 i32) (param $align i32) (param $bytes i32) (result i32)
            (local $place i32)
            (if (i32.gt_u (local.get $bytes) (i32.const {HEAP_BYTES})) (then unreachable))
            (local.set $place (i32.and (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
                (i32.sub (i32.const 0) (local.get $align))))
            (global.set $heap (i32.add (local.get $place) (local.get $bytes)))
            (if (i32.gt_u (global.get $heap) (i32.const {end})) (then unreachable))
            (local.get $place))
        (func (export "{initialize}"))
        (func (export "{run}") (result i32)
            (local $bytes i32)
            (call $read_script)
            (if (i32.load8_u (i32.const {READ})) (then (return (i32.const 1))))
            (local.set $bytes (i32.load offset=8 (i32.const {READ})))
            (memory.copy (i32.const {DATA}) (i32.load offset=4 (i32.const {READ})) (local.get $bytes))
            (call $perform (i32.const {CALLS}) (i32.add (i32.const {DATA}) (local.get $bytes)))
            (i32.const 0))
        (func $read_script (call $blocking-read (call $get-stdin) (i64.const {SCRIPT_BYTES}) (i32.const {READ})))"#,
        end = MEMORY_BYTES + HEAP_BYTES,
    )
}

/// A module in text form: imports, `start`, and for each import a function that makes a call of a script.
fn text(imports: &[Import], start: &str) -> String {
    let mut text = String::from("(module (type $call (func (param i32)))\n");
    for import in imports {
        import_of(&mut text, import);
    }
    let _ = writeln!(text, "(table {0} {0} funcref) (elem (i32.const 0) {1})", imports.len(), indices(imports));
    text.push_str(&COMMON.replace("CALL_BYTES", &CALL_BYTES.to_string()));
    text.push_str(start);
    let heap = start.contains("$heap");
    for (number, import) in imports.iter().enumerate() {
        call_of(&mut text, number, import, heap);
    }
    text.push(')');
    text
}

fn indices(imports: &[Import]) -> String {
    (0..imports.len()).map(|number| format!("$call-{number} ")).collect()
}

/// Functions are called by their last name where the start needs them.
fn id(import: &Import) -> String {
    let name = import.name.rsplit(['.', '|']).next().unwrap_or(&import.name);
    match name {
        "fd_read" | "get-stdin" => format!("${name}"),
        "blocking-read" => "$blocking-read".into(),
        _ => format!("$\"{}|{}\"", import.module, import.name),
    }
}

fn import_of(text: &mut String, import: &Import) {
    let types = |types: &[WasmType]| types.iter().map(|ty| format!(" {}", type_of(*ty))).collect::<String>();
    let (params, results) = (types(&import.params), types(&import.results));
    let _ = writeln!(
        text,
        "(import {:?} {:?} (func {} (param{params}) (result{results})))",
        import.module,
        import.name,
        id(import)
    );
}

fn type_of(ty: WasmType) -> &'static str {
    match ty {
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        _ => "i32",
    }
}

fn call_of(text: &mut String, number: usize, import: &Import, heap: bool) {
    let _ = writeln!(text, "(func $call-{number} (type $call) (local $result i32)");
    if heap {
        let _ = writeln!(text, "(global.set $heap (i32.const {MEMORY_BYTES}))");
    }
    // A handle that nobody has given yet would end the run.
    for at in places(import, |meaning| matches!(meaning, Meaning::Handle(_))) {
        let _ = writeln!(text, "(if (i32.eqz (call $slot {})) (then (return)))", place(at));
    }
    for at in places(import, |meaning| matches!(meaning, Meaning::Handles(_))) {
        let _ = writeln!(text, "(if (i32.eqz (i32.load (call $slot {}))) (then (return)))", place(at));
    }
    let parameters: String = import.params.iter().enumerate().map(|(at, ty)| parameter(at, *ty)).collect();
    let call = format!("(call {}{parameters})", id(import));
    let _ = match import.results.first().map(|ty| type_of(*ty)) {
        Some("i32") => writeln!(text, "(local.set $result {call})"),
        Some(_) => writeln!(text, "(drop {call})"),
        None => writeln!(text, "{call}"),
    };
    keep(text, import);
    text.push_str(")\n");
}

fn place(at: usize) -> String {
    format!("(i32.add (local.get 0) (i32.const {}))", 8 + 8 * at)
}

fn parameter(at: usize, ty: WasmType) -> String {
    match type_of(ty) {
        "i64" => format!(" (i64.load {})", place(at)),
        _ => format!(" (call $slot {})", place(at)),
    }
}

/// Keeps what a call yields in its resource's ring.
fn keep(text: &mut String, import: &Import) {
    let ring = |resource: usize| SLOTS + RING_BYTES * u32::try_from(resource).expect("few resources");
    let result = format!("(call $slot {})", place(import.params.len().saturating_sub(1)));
    let _ = match import.yields {
        Yield::Nothing => Ok(()),
        Yield::Direct(resource) => writeln!(text, "(call $keep (i32.const {}) (local.get $result))", ring(resource)),
        Yield::Listed(resource) => {
            writeln!(text, "(call $keep (i32.const {}) (i32.load (i32.load {result})))", ring(resource))
        }
        Yield::Dropped => writeln!(text, "(call $forget {})", place(0)),
        Yield::At(resource, distance, tags) => {
            let tag =
                |(at, value): &(u32, u8)| format!("(i32.eq (i32.load8_u offset={at} {result}) (i32.const {value}))");
            let tags = tags.iter().map(tag).reduce(|all, one| format!("(i32.and {all} {one})")).expect("a tag");
            let handle = format!("(i32.load offset={distance} {result})");
            writeln!(text, "(if {tags} (then (call $keep (i32.const {}) {handle})))", ring(resource))
        }
    };
}

/// Where the parameters are that a meaning begins with.
fn places(import: &Import, wanted: impl Fn(Meaning) -> bool) -> Vec<usize> {
    let (mut at, mut places) = (0, Vec::new());
    for meaning in &import.meanings {
        if wanted(*meaning) {
            places.push(at);
        }
        at += meaning.params().len();
    }
    places
}
