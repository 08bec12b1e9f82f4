//! Modules that nobody wrote, in all engines.
//!
//! `SHOAL_REWRITE_SECONDS` is the time that they are given, in seconds; a few dozen modules without it.
//! `SHOAL_REWRITE_SEED` names the first of them, to see one again.

use std::time::{Duration, Instant};

use arbitrary::Unstructured;
use shoal_executors::wasm::rewrite::rewrite;
use wasm_smith::{Config, Module};

use super::components;
use super::engines::{Host, Seen, blanket, cranelift, pulley, run, run_in_wasmi, unoptimised, winch};

/// What they taught: 15002 that a constant NaN and one that arithmetic made may meet in one local, and the constant must
/// keep its bits.
const FAILED_ONCE: [u64; 1] = [15_002];
/// Modules without `SHOAL_REWRITE_SECONDS`.
const FEW: u64 = 60;
/// Turns and calls of a module before it stops itself.
const TURNS: u32 = 200;

fn generated(seed: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 4_000];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let config = Config {
        allow_start_export: true,
        disallow_traps: !seed.is_multiple_of(3),
        exceptions_enabled: seed.is_multiple_of(2),
        tail_call_enabled: seed % 4 < 2,
        simd_enabled: !seed.is_multiple_of(5),
        export_everything: true,
        gc_enabled: false,
        max_imports: 0,
        max_instructions: 300,
        max_memory32_bytes: 1 << 20,
        max_table_elements: 1_000,
        memory64_enabled: false,
        memory_max_size_required: true,
        min_funcs: 3,
        min_memories: 1,
        relaxed_simd_enabled: false,
        table_max_size_required: true,
        threads_enabled: false,
        ..Config::default()
    };
    let mut module = Module::new(config, &mut Unstructured::new(&bytes)).ok()?;
    module.ensure_termination(TURNS).ok()?;
    Some(module.to_bytes())
}

/// What happened to a module.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    modules: u32,
    to_the_end: u32,
    in_winch: u32,
    in_wasmi: u32,
    wasmi_is_wrong: u32,
}

fn compare(seed: u64, count: &mut Count) {
    let Some(module) = generated(seed) else { return };
    let rewritten = rewrite(&module).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let host = Host::new(1 << 40, 1 + i32::try_from(seed % 1_000).unwrap_or(0));
    let metered = |config| run(&config, &rewritten, true, &mut host.clone());
    let seen = metered(cranelift()).unwrap_or_else(|| panic!("seed {seed}: the rewritten module is not taken"));
    let agree = |name: &str, other: Option<Seen>| {
        let taken = u32::from(other.is_some());
        if let Some(other) = other {
            assert_eq!(other, seen, "seed {seed}: {name}");
        }
        taken
    };
    agree("unoptimised", metered(unoptimised()));
    agree("pulley", metered(pulley()));
    count.in_winch += agree("winch", metered(winch()));
    count.modules += 1;
    count.to_the_end += u32::from(seen.fuel.is_some());
    let unmetered = run(&blanket(), &module, false, &mut host.clone()).expect("a valid module");
    // A referee that goes wrong without the rewrite too is no referee.
    let wrong = |other: Seen| ends(&other) != ends(&unmetered);
    if run_in_wasmi(&module, false, &mut host.clone()).is_some_and(wrong) {
        count.wasmi_is_wrong += 1;
    } else {
        count.in_wasmi += agree("wasmi", run_in_wasmi(&rewritten, true, &mut host.clone()));
    }
    components::compare(seed, &module);
    // Without a meter the stack is as deep as the machine lets it be.
    if seen.calls.last() != Some(&Err("stack".into())) {
        let unmetered = Seen { fuel: seen.fuel, ..unmetered };
        assert_eq!(unmetered, seen, "seed {seed}: blanket canonicalisation");
    }
}

/// How calls ended, whatever they gave: bits of NaN may differ without the rewrite.
fn ends(seen: &Seen) -> Vec<Option<&String>> {
    seen.calls.iter().map(|call| call.as_ref().err()).collect()
}

#[test]
fn generated_modules_give_the_same_everywhere() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("SHOAL_REWRITE_SECONDS").map(Duration::from_secs);
    let first = number("SHOAL_REWRITE_SEED").unwrap_or(0);
    let start = Instant::now();
    let mut count = Count::default();
    FAILED_ONCE.into_iter().for_each(|seed| compare(seed, &mut count));
    for seed in first.. {
        compare(seed, &mut count);
        if seconds.map_or(seed - first + 1 >= FEW, |seconds| start.elapsed() >= seconds) {
            break;
        }
    }
    println!("{count:?}");
    assert!(count.to_the_end * 4 >= count.modules, "too few come to their end: {count:?}");
    assert!(count.wasmi_is_wrong * 20 <= count.modules, "{count:?}");
    assert!(count.in_wasmi > 0 && count.in_winch > 0, "a referee never played: {count:?}");
}
