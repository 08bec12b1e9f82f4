//! One execution: a thread with stack enough, a store, and what its end means.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shoal_protocol::task::{Engine as TaskEngine, Outcome, Trap};
use tokio::sync::{oneshot, watch};
use wasmtime::{Engine, Instance, Linker, Store, UpdateDeadline};

use super::backtrace;
use super::host::{Host, Limiter};
use super::modules::Compiled;
use super::profile::THREAD_STACK_BYTES;
use crate::task::{Finished, Outputs, RunError, Task};
use crate::wasi::abi::Stop;
use crate::wasi::fs::MountError;
use crate::wasi::world::World;

/// What a run of a library module calls first.
const INITIALIZE: &str = "_initialize";

/// What is run: compiled modules, and how they hang together.
pub(super) struct Program {
    pub(super) linker: Arc<Linker<Host>>,
    pub(super) entry: Compiled,
    /// Import modules by name, each after those that it needs.
    pub(super) imports: Vec<(String, Compiled)>,
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

    /// Performs the run on a thread of its own and waits for it.
    pub(super) async fn on_thread(self: Arc<Self>, engine: &Engine, program: Program) -> Result<Finished, RunError> {
        let (done, result) = oneshot::channel();
        let engine = engine.clone();
        let thread = std::thread::Builder::new().name("wasm".into()).stack_size(THREAD_STACK_BYTES);
        self.busy.send_replace(true);
        let run = Arc::clone(&self);
        let spawned = thread.spawn(move || {
            let busy = Busy(&run.busy);
            let finished = run.perform(&engine, &program);
            drop(busy);
            // Nobody listens any more after a kill.
            let _ = done.send(finished);
        });
        if let Err(error) = spawned {
            self.busy.send_replace(false);
            return Err(RunError::HostFailed(format!("no thread: {error}")));
        }
        result.await.unwrap_or_else(|_| Err(RunError::HostFailed("the program's thread panicked".into())))
    }

    /// Stops the program, and returns when its thread is gone.
    pub(super) async fn kill(&self, engine: &Engine) {
        self.killed.store(true, Ordering::SeqCst);
        engine.increment_epoch();
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
        let host = Host { world: self.world()?, limiter: Limiter::new(limits.memory_bytes), backtrace: None };
        let mut store = Store::new(engine, host);
        store.limiter(|host| &mut host.limiter);
        store.set_fuel(limits.fuel).map_err(|error| RunError::HostFailed(error.to_string()))?;
        self.arm(&mut store);
        let start = Instant::now();
        let end = if self.killed.load(Ordering::SeqCst) { End::Killed } else { program.run(&mut store) };
        let run = start.elapsed();
        let fuel_used = limits.fuel - store.get_fuel().unwrap_or(0);
        match end {
            End::Vote(outcome) => {
                let Host { world, backtrace, .. } = store.into_data();
                Ok(Finished { backtrace, ..self.finish(world, outcome, run, fuel_used)? })
            }
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
        let paths = world.collect(&self.task.work_dir);
        let paths = paths.map_err(|error| RunError::HostFailed(format!("collecting results: {error}")))?;
        let names = self.task.invocation.result_paths.iter().map(|result| result.name.clone());
        let outputs =
            Outputs { stdout: self.task.stdout(), stderr: self.task.stderr(), results: names.zip(paths).collect() };
        Ok(Finished { outcome, outputs, run, fuel_used, backtrace: None })
    }
}

/// Says that the thread is done, also when it panics.
struct Busy<'a>(&'a watch::Sender<bool>);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.send_replace(false);
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
            Err(error) => stopped(store, &error),
        }
    }

    /// Instantiates the import modules and then the entry module. What does not fit together is a vote.
    fn instantiate(&self, store: &mut Store<Host>) -> Result<Instance, End> {
        if let (true, Some(linked)) = (self.imports.is_empty(), &self.entry.linked) {
            let instance = linked.instantiate(&mut *store);
            return instance.map_err(|error| end_of_instantiation(store, &error));
        }
        let unfit = |_| End::Vote(Outcome::Trapped(Trap::Instantiation));
        let mut linker = Linker::clone(&self.linker);
        for (name, compiled) in &self.imports {
            let linked = linker.instantiate_pre(&compiled.module).map_err(unfit)?;
            let instance = linked.instantiate(&mut *store).map_err(|error| end_of_instantiation(store, &error))?;
            linker.instance(&mut *store, name, instance).map_err(unfit)?;
            initialize(store, &instance)?;
        }
        let linked = linker.instantiate_pre(&self.entry.module).map_err(unfit)?;
        linked.instantiate(&mut *store).map_err(|error| end_of_instantiation(store, &error))
    }
}

fn initialize(store: &mut Store<Host>, instance: &Instance) -> Result<(), End> {
    match instance.get_typed_func::<(), ()>(&mut *store, INITIALIZE) {
        Ok(function) => function.call(&mut *store, ()).map_err(|error| stopped(store, &error)),
        Err(_) => Ok(()),
    }
}

/// Segments out of bounds and needs beyond the limits are votes of their own; a start function ends as any other.
fn end_of_instantiation(store: &mut Store<Host>, error: &wasmtime::Error) -> End {
    let instantiation = End::Vote(Outcome::Trapped(Trap::Instantiation));
    match stopped(store, error) {
        End::Vote(Outcome::Trapped(Trap::OutOfBounds)) => instantiation,
        End::Host(_) if store.data().limiter.refused => instantiation,
        end => end,
    }
}

/// What an error out of the program's code means; where it came from is noted when that is a trap.
fn stopped(store: &mut Store<Host>, error: &wasmtime::Error) -> End {
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
