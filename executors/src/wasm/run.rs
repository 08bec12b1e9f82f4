//! One execution: a thread with stack enough, a store, and what its end means.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shoal_protocol::task::{Engine as TaskEngine, Outcome, Trap};
use tokio::sync::watch;
use wasmtime::{Engine, Instance, InstancePre, Linker, Module, Store, UpdateDeadline};

use super::engines::Engines;
use super::host::{Host, Limiter};
use super::threads::Threads;
use crate::task::{Finished, Outputs, RunError, Task};
use crate::wasi::abi::Stop;
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

/// One run, seen from the task that waits for it and from the thread that performs it.
pub(super) struct Run {
    task: Task,
    killed: Arc<AtomicBool>,
    /// True while a thread works in the run's folder.
    busy: watch::Sender<bool>,
}

/// Why the program's code is over before it returned.
enum End {
    Vote(Outcome),
    Killed,
    Host(String),
}

impl Run {
    pub(super) fn new(task: Task) -> Self {
        Self { task, killed: Arc::default(), busy: watch::Sender::new(false) }
    }

    /// Performs the run on a thread with stack enough and waits for it.
    pub(super) async fn on_thread(self: Arc<Self>, threads: &Threads, program: Program) -> Result<Finished, RunError> {
        self.busy.send_replace(true);
        let busy = Busy(Arc::clone(&self));
        let finished = threads.run(move || {
            // Dropped with the work, whether it is done or not.
            let run = &busy.0;
            run.perform(program.entry.engine(), &program)
        });
        finished.await.unwrap_or_else(|_| Err(RunError::HostFailed("the program's thread panicked".into())))
    }

    /// Stops the program, and returns when its thread is gone.
    pub(super) async fn kill(&self, engines: &Engines) {
        self.killed.store(true, Ordering::SeqCst);
        engines.all().for_each(Engine::increment_epoch);
        let mut busy = self.busy.subscribe();
        // An error means that the sender is gone, and with it the thread.
        let _ = busy.wait_for(|busy| !busy).await;
    }

    /// The vote of a run whose program cannot even be instantiated: nothing was written.
    pub(super) fn without_program(&self, outcome: Outcome) -> Result<Finished, RunError> {
        let world = self.world()?;
        self.finish(world, outcome, Duration::ZERO, 0)
    }

    fn perform(&self, engine: &Engine, program: &Program) -> Result<Finished, RunError> {
        let limits = self.task.invocation.limits;
        let mut store = Store::new(engine, Host { world: self.world()?, limiter: Limiter::new(limits.memory_bytes) });
        store.limiter(|host| &mut host.limiter);
        store.set_fuel(limits.fuel).map_err(|error| RunError::HostFailed(error.to_string()))?;
        self.arm(&mut store);
        let start = Instant::now();
        let end = if self.killed.load(Ordering::SeqCst) { End::Killed } else { program.run(&mut store) };
        let run = start.elapsed();
        let fuel_used = limits.fuel - store.get_fuel().unwrap_or(0);
        match end {
            End::Vote(outcome) => self.finish(store.into_data().world, outcome, run, fuel_used),
            End::Killed => Err(RunError::Cancelled),
            End::Host(why) => Err(RunError::HostFailed(why)),
        }
    }

    /// Any run's kill advances the epoch for all; each looks whether it is meant.
    fn arm(&self, store: &mut Store<Host>) {
        let killed = Arc::clone(&self.killed);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            let meant = killed.load(Ordering::SeqCst);
            Ok(if meant { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) })
        });
    }

    fn world(&self) -> Result<World, RunError> {
        let TaskEngine::Wasm(wasm) = &self.task.invocation.engine;
        World::new(&self.task, &wasm.arguments).map_err(|error| match error {
            MountError::BadPath(_) | MountError::Conflict(_) => RunError::Declined(error.to_string()),
            MountError::Missing(..) => RunError::InputMissing(error.to_string()),
            MountError::Host(error) => RunError::HostFailed(error.to_string()),
        })
    }

    fn finish(&self, world: World, outcome: Outcome, run: Duration, fuel_used: u64) -> Result<Finished, RunError> {
        let [stdout, stderr] = world.printed();
        let paths = world.collect(&self.task.work_dir);
        let paths = paths.map_err(|error| RunError::HostFailed(format!("collecting results: {error}")))?;
        let names = self.task.invocation.result_paths.iter().map(|result| result.name.clone());
        let outputs = Outputs { stdout, stderr, results: names.zip(paths).collect() };
        Ok(Finished { outcome, outputs, run, fuel_used })
    }
}

/// Says that the thread is done, also when it panics.
struct Busy(Arc<Run>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.send_replace(false);
    }
}

impl Program {
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
        let Ok(entry) = instance.get_typed_func::<(), ()>(&mut *store, &self.entry_point) else {
            return End::Vote(Outcome::Trapped(Trap::Instantiation));
        };
        match entry.call(&mut *store, ()) {
            Ok(()) => End::Vote(Outcome::Exited(0)),
            Err(error) => end(&error),
        }
    }

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
    match instance.get_typed_func::<(), ()>(&mut *store, INITIALIZE) {
        Ok(function) => function.call(&mut *store, ()).map_err(|error| end(&error)),
        Err(_) => Ok(()),
    }
}

/// Segments out of bounds and needs beyond the limits are votes of their own; a start function ends as any other.
fn end_of_instantiation(store: &Store<Host>, error: &wasmtime::Error) -> End {
    let instantiation = End::Vote(Outcome::Trapped(Trap::Instantiation));
    match end(error) {
        End::Vote(Outcome::Trapped(Trap::OutOfBounds)) => instantiation,
        End::Host(_) if store.data().limiter.refused => instantiation,
        end => end,
    }
}

/// What an error out of the program's code means.
fn end(error: &wasmtime::Error) -> End {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return match stop {
            Stop::Exit(code) => End::Vote(Outcome::Exited(*code)),
            Stop::NoMemory => End::Vote(Outcome::Trapped(Trap::Other)),
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
        T::Interrupt => return End::Killed,
        T::StackOverflow => return End::Host("the program overflowed its native stack".into()),
        T::AllocationTooLarge => return End::Host(trap.to_string()),
        T::UnreachableCodeReached => Trap::Unreachable,
        T::MemoryOutOfBounds | T::TableOutOfBounds | T::ArrayOutOfBounds | T::HeapMisaligned => Trap::OutOfBounds,
        T::IntegerOverflow | T::IntegerDivisionByZero | T::BadConversionToInteger => Trap::Arithmetic,
        T::IndirectCallToNull | T::BadSignature | T::NullReference => Trap::BadCall,
        T::OutOfFuel => Trap::OutOfFuel,
        T::UnhandledTag => Trap::Uncaught,
        _ => Trap::Other,
    }))
}
