//! One execution: a thread with stack enough, a store, and what its end means.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shoal_protocol::task::{Engine as TaskEngine, Outcome, Trap};
use shoal_protocol::trace::Trace;
use tokio::sync::watch;
use wasmtime::{Engine, Instance, InstancePre, Linker, Module, Store};

use super::backtrace;
use super::checkpoints::Checkpoints;
use super::fuel::Fuel;
use super::host::{Host, Limiter};
use super::threads::Threads;
use crate::task::{Finished, Outputs, RunError, Task};
use crate::wasi::abi::Stop;
use crate::wasi::calls::Noted;
use crate::wasi::fs::MountError;
use crate::wasi::world::World;

/// What a run of a library module calls first.
const INITIALIZE: &str = "_initialize";

/// What is run: compiled modules, and how they hang together.
pub(super) struct Program {
    pub(super) linker: Arc<Linker<Host>>,
    pub(super) entry: Module,
    /// The entry module linked against WASI alone, if that is all it needs.
    pub(super) linked: Option<InstancePre<Host>>,
    /// Import modules by name, each after those that it needs.
    pub(super) imports: Vec<(String, Module)>,
    pub(super) entry_point: String,
}

/// Something that can be run in a store.
pub(super) trait Runnable: Send + 'static {
    /// Where.
    fn engine(&self) -> &Engine;

    /// To its end.
    fn run(&self, store: &mut Store<Host>) -> End;
}

/// One run, seen from the task that waits for it and from the thread that performs it.
pub(super) struct Run {
    task: Task,
    killed: Arc<AtomicBool>,
    /// True while a thread works in the run's folder.
    busy: watch::Sender<bool>,
}

/// What is known of a program that has ended with a vote.
struct Ended {
    outcome: Outcome,
    run: Duration,
    fuel_used: u64,
    peak_memory_bytes: u64,
    backtrace: Option<String>,
    checkpoints: Option<Box<Checkpoints>>,
}

/// Why the program's code is over before it returned.
pub(super) enum End {
    Vote(Outcome),
    Killed,
    Host(String),
}

impl Run {
    pub(super) fn new(task: Task) -> Self {
        Self { task, killed: Arc::default(), busy: watch::Sender::new(false) }
    }

    /// Performs the run on a thread with stack enough and waits for it.
    pub(super) async fn on_thread(
        self: Arc<Self>,
        threads: &Threads,
        program: impl Runnable,
    ) -> Result<Finished, RunError> {
        self.busy.send_replace(true);
        let busy = Busy(Arc::clone(&self));
        let finished = threads.run(move || {
            // Dropped with the work, whether it is done or not.
            let run = &busy.0;
            run.perform(program.engine(), &program)
        });
        finished.await.unwrap_or_else(|_| Err(RunError::HostFailed("the program's thread panicked".into())))
    }

    /// Stops the program, and returns when its thread is gone.
    pub(super) async fn kill(&self) {
        // The program looks when its slice of fuel is used up, and when it calls the host.
        self.killed.store(true, Ordering::SeqCst);
        let mut busy = self.busy.subscribe();
        // An error means that the sender is gone, and with it the thread.
        let _ = busy.wait_for(|busy| !busy).await;
    }

    /// The vote of a run whose program cannot even be instantiated: nothing was written.
    pub(super) fn without_program(&self, outcome: Outcome) -> Result<Finished, RunError> {
        let world = self.world()?;
        let (run, backtrace, checkpoints) = (Duration::ZERO, None, None);
        self.finish(world, Ended { outcome, run, fuel_used: 0, peak_memory_bytes: 0, backtrace, checkpoints })
    }

    fn perform(&self, engine: &Engine, program: &impl Runnable) -> Result<Finished, RunError> {
        let limits = self.task.invocation.limits;
        let fuel = Fuel::new(limits.fuel, Arc::clone(&self.killed));
        let limiter = Limiter::new(limits.memory_bytes);
        let checkpoints = self.task.trace.map(|request| Box::new(Checkpoints::new(request, limits.fuel)));
        let host = Host { world: self.world()?, fuel, limiter, backtrace: None, checkpoints };
        let mut store = Store::new(engine, host);
        store.limiter(|host| &mut host.limiter);
        let start = Instant::now();
        let end = if self.killed.load(Ordering::SeqCst) { End::Killed } else { program.run(&mut store) };
        let run = start.elapsed();
        let fuel_used = limits.fuel - store.data().fuel.left().min(limits.fuel);
        match end {
            End::Vote(outcome) => {
                let Host { world, limiter, backtrace, checkpoints, .. } = store.into_data();
                let peak_memory_bytes = limiter.peak_bytes();
                self.finish(world, Ended { outcome, run, fuel_used, peak_memory_bytes, backtrace, checkpoints })
            }
            End::Killed => Err(RunError::Cancelled),
            End::Host(why) => Err(RunError::HostFailed(why)),
        }
    }

    fn world(&self) -> Result<World, RunError> {
        let TaskEngine::Wasm(wasm) = &self.task.invocation.engine else {
            return Err(RunError::Declined("this executor runs modules, not containers".into()));
        };
        World::new(&self.task, &wasm.arguments).map_err(|error| match error {
            MountError::BadPath(_) | MountError::Conflict(_) | MountError::FolderAsStdin => {
                RunError::Declined(error.to_string())
            }
            MountError::Missing(..) => RunError::InputMissing(error.to_string()),
            MountError::Host(error) => RunError::HostFailed(error.to_string()),
        })
    }

    fn finish(&self, world: World, ended: Ended) -> Result<Finished, RunError> {
        let Ended { outcome, run, fuel_used, peak_memory_bytes, backtrace, checkpoints } = ended;
        let [stdout, stderr] = world.printed();
        let (paths, (calls, noted)) = world.finish(&self.task.work_dir);
        let paths = paths.map_err(|error| RunError::HostFailed(format!("collecting results: {error}")))?;
        let names = self.task.invocation.result_paths.iter().map(|result| result.name.clone());
        let outputs = Outputs { stdout, stderr, results: names.zip(paths).collect() };
        let trace = self.task.trace.map(|_| trace(noted, checkpoints));
        Ok(Finished { outcome, outputs, run, fuel_used, peak_memory_bytes, calls, trace, backtrace })
    }
}

fn trace(calls: Noted, checkpoints: Option<Box<Checkpoints>>) -> Trace {
    let (marks, passed, described) =
        checkpoints.map_or_else(Default::default, |noted| (noted.marks, noted.passed, noted.described));
    Trace {
        calls: calls.marks,
        checkpoints: marks,
        checkpoints_passed: passed,
        call: calls.description,
        checkpoint: described,
    }
}

/// Says that the thread is done, also when it panics.
struct Busy(Arc<Run>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.send_replace(false);
    }
}

impl Runnable for Program {
    fn engine(&self) -> &Engine {
        self.entry.engine()
    }

    fn run(&self, store: &mut Store<Host>) -> End {
        let instance = match self.instantiate(store) {
            Ok(instance) => instance,
            Err(end) => return end,
        };
        if self.entry_point != INITIALIZE
            && self.entry_point != "_start"
            && let Err(end) = initialize(store, &instance)
        {
            return end;
        }
        match call(store, &instance, &self.entry_point) {
            Some(Ok(())) => End::Vote(Outcome::Exited(0)),
            Some(Err(end)) => end,
            None => End::Vote(Outcome::Trapped(Trap::Instantiation)),
        }
    }
}

impl Program {
    /// Instantiates the import modules and then the entry module. What does not fit together is a vote.
    fn instantiate(&self, store: &mut Store<Host>) -> Result<Instance, End> {
        if let Some(linked) = &self.linked {
            let instance = linked.instantiate(&mut *store);
            return instance.map_err(|error| end_of_instantiation(store, &error));
        }
        let unfit = |_| End::Vote(Outcome::Trapped(Trap::Instantiation));
        let mut linker = Linker::clone(&self.linker);
        for (name, module) in &self.imports {
            let linked = linker.instantiate_pre(module).map_err(unfit)?;
            let instance = linked.instantiate(&mut *store).map_err(|error| end_of_instantiation(store, &error))?;
            linker.instance(&mut *store, name, instance).map_err(unfit)?;
            initialize(store, &instance)?;
        }
        let linked = linker.instantiate_pre(&self.entry).map_err(unfit)?;
        linked.instantiate(&mut *store).map_err(|error| end_of_instantiation(store, &error))
    }
}

fn initialize(store: &mut Store<Host>, instance: &Instance) -> Result<(), End> {
    call(store, instance, INITIALIZE).unwrap_or(Ok(()))
}

/// Calls an exported function that, before the rewrite, took and returned nothing; none if there is no such.
fn call(store: &mut Store<Host>, instance: &Instance, name: &str) -> Option<Result<(), End>> {
    let function = instance.get_typed_func::<i64, i64>(&mut *store, name).ok()?;
    let meter = store.data_mut().fuel.full();
    Some(match function.call(&mut *store, meter) {
        Ok(meter) => {
            store.data_mut().fuel.keep(meter);
            Ok(())
        }
        Err(error) => Err(stopped(store, &error)),
    })
}

/// Segments out of bounds and needs beyond the limits are votes of their own; a start function ends as any other.
pub(super) fn end_of_instantiation(store: &mut Store<Host>, error: &wasmtime::Error) -> End {
    let instantiation = End::Vote(Outcome::Trapped(Trap::Instantiation));
    match stopped(store, error) {
        End::Vote(Outcome::Trapped(Trap::OutOfBounds)) => instantiation,
        End::Host(_) if store.data().limiter.refused => instantiation,
        end => end,
    }
}

/// What an error out of the program's code means; where it came from is noted when that is a trap.
pub(super) fn stopped(store: &mut Store<Host>, error: &wasmtime::Error) -> End {
    let end = end(error);
    if let End::Vote(Outcome::Trapped(trap)) = end {
        store.data_mut().backtrace = backtrace::of(error);
        tracing::debug!(%trap, backtrace = store.data().backtrace, "trapped");
    }
    end
}

/// The vote, if it is one, that an error out of the program's code means.
fn end(error: &wasmtime::Error) -> End {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return match stop {
            Stop::Exit(code) => End::Vote(Outcome::Exited(*code)),
            Stop::NoMemory | Stop::Refused(_) => End::Vote(Outcome::Trapped(Trap::Other)),
            Stop::OutOfFuel => End::Vote(Outcome::Trapped(Trap::OutOfFuel)),
            Stop::StackExhausted => End::Vote(Outcome::Trapped(Trap::StackExhausted)),
            Stop::Killed => End::Killed,
            Stop::Host(error) => End::Host(error.to_string()),
        };
    }
    if error.is::<wasmtime::ThrownException>() {
        return End::Vote(Outcome::Trapped(Trap::Uncaught));
    }
    match error.downcast_ref::<wasmtime::Trap>() {
        Some(trap) => end_of_trap(*trap),
        None => End::Host(format!("{error:#}")),
    }
}

/// Traps by kind. How deep a native stack is depends on the machine, so its end is no vote.
fn end_of_trap(trap: wasmtime::Trap) -> End {
    use wasmtime::Trap as T;
    End::Vote(Outcome::Trapped(match trap {
        T::StackOverflow => return End::Host("the program overflowed its native stack".into()),
        T::AllocationTooLarge => return End::Host(trap.to_string()),
        T::UnreachableCodeReached => Trap::Unreachable,
        T::MemoryOutOfBounds | T::TableOutOfBounds | T::ArrayOutOfBounds | T::HeapMisaligned => Trap::OutOfBounds,
        T::IntegerOverflow | T::IntegerDivisionByZero | T::BadConversionToInteger => Trap::Arithmetic,
        T::IndirectCallToNull | T::BadSignature | T::NullReference => Trap::BadCall,
        T::UnhandledTag => Trap::Uncaught,
        _ => Trap::Other,
    }))
}
