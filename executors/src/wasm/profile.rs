//! The determinism profile: everything about the engine that a result may depend on.
//!
//! Whoever changes a line here, in the WASI layer, or the version of wasmtime, changes the profile's name too.

use wasmtime::Config;

/// The profile's name, as an invocation gives it.
pub const PROFILE: &str = "wasm-3";

/// Largest module, in bytes.
pub const MAX_MODULE_BYTES: u64 = 128 << 20;
/// Functions of a module, or of all modules of a component. Real programs have up to 619,906 (pandoc).
///
/// What compiling costs is bounded by the compiler's process, so this does not keep a machine safe; it makes machines
/// agree. Each function costs some 5 KiB there, however small it is. As many as this fit into the 4 GiB that a machine
/// gives by default. More would be declined by one machine after the other, each after a minute's work, and so they
/// are refused at once and alike.
pub const MAX_FUNCTIONS: u64 = 700_000;
/// Largest function body, in bytes: compile time grows faster than its size.
pub const MAX_BODY_BYTES: u64 = 2 << 20;
/// Types, imports, exports, globals, tags, tables, element and data segments of a module, of each.
pub const MAX_ITEMS: u64 = 200_000;
/// Bytes that a component hands to one call of the host; more traps.
pub const MAX_HANDED_BYTES: usize = 128 << 20;
/// Elements of all tables of a run.
pub const MAX_TABLE_ELEMENTS: usize = 4_000_000;
/// Native stack of a program, in bytes: eight times what the metered stack stands for, so that this is reached first.
/// Overflowing it all the same is no vote, since its depth depends on the machine.
pub const STACK_BYTES: usize = 4 << 20;
/// Stack of the thread that runs a program, in bytes: the program's and the host calls'.
pub const THREAD_STACK_BYTES: usize = STACK_BYTES + (2 << 20);

/// The engine's configuration.
pub fn config() -> Config {
    let mut config = Config::new();
    config
        .relaxed_simd_deterministic(true)
        .wasm_relaxed_simd(false)
        // The rewrite does all three; its slow paths are marked as rarely taken.
        .consume_fuel(false)
        .cranelift_nan_canonicalization(false)
        .epoch_interruption(false)
        .wasm_branch_hinting(true)
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(2 * STACK_BYTES)
        .memory_may_move(false)
        .concurrency_support(false);
    features(&mut config);
    #[cfg(debug_assertions)]
    otherwise(&mut config);
    config
}

/// Debug builds make machine code in another way if `SHOAL_TEST_CODE` says so: for tests, which compare results.
#[cfg(debug_assertions)]
fn otherwise(config: &mut Config) {
    let Ok(code) = std::env::var("SHOAL_TEST_CODE") else { return };
    match code.as_str() {
        // Nothing of the processor but what all of its kind have.
        "baseline" => target(config, &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)),
        "unoptimised" => _ = config.cranelift_opt_level(wasmtime::OptLevel::None),
        "winch" => {
            config.strategy(wasmtime::Strategy::Winch);
            config.wasm_exceptions(false).wasm_tail_call(false).wasm_threads(false);
        }
        "pulley" => {
            target(config, "pulley64");
            config.wasm_threads(false);
        }
        other => panic!("SHOAL_TEST_CODE={other} is no way of making machine code"),
    }
}

#[cfg(debug_assertions)]
fn target(config: &mut Config, name: &str) {
    config.target(name).expect("a target that is built in");
}

/// What a module may use. Atomics are for programs that use them on memory of their own; shared memory is refused.
fn features(config: &mut Config) {
    config
        .wasm_component_model(true)
        .wasm_threads(true)
        .shared_memory(false)
        .wasm_shared_everything_threads(false)
        .wasm_simd(true)
        .wasm_bulk_memory(true)
        .wasm_multi_value(true)
        .wasm_reference_types(true)
        .wasm_tail_call(true)
        .wasm_extended_const(true)
        .wasm_exceptions(true)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .wasm_stack_switching(false)
        .wasm_gc(false)
        .wasm_function_references(false);
}
