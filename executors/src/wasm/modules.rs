//! Compiled modules: found in memory, else on disk, else compiled.
//!
//! Native code from disk runs with all our rights, so the cache folder belongs to the executor alone (mode 0700) and
//! each file ends in a keyed hash, whose key is in a file of that folder: what was torn or altered is compiled again.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use shoal_protocol::id::BlobHash;
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::{Engine, InstancePre, Linker, Module};

use super::host::Host;
use super::profile::{MAX_MODULE_BYTES, PROFILE};
use super::rewrite::rewrite;
use super::{WasmConfig, inspect};
use crate::Blobs;

/// The extension of compiled modules in the cache folder.
const EXTENSION: &str = "cwasm";
/// The keyed hash at a file's end, in bytes.
const SEAL_BYTES: usize = 32;

/// Why there is no compiled module.
#[derive(Debug, Clone)]
pub(super) enum NoModule {
    /// It is not valid under the profile: every machine says so.
    Invalid,
    /// It is a component, which is compiled elsewhere.
    Component,
    /// It could not be read.
    Missing(String),
    /// This machine failed.
    Host(String),
}

/// A compiled module.
#[derive(Clone)]
pub(super) struct Compiled {
    pub(super) module: Module,
    /// Linked against WASI alone; none if it needs import modules.
    pub(super) linked: Option<InstancePre<Host>>,
}

/// All compiled modules that are at hand.
pub(super) struct Modules {
    engine: Engine,
    linker: Arc<Linker<Host>>,
    disk: Option<Arc<Disk>>,
    recent: Mutex<Recent>,
    compiling: Arc<Semaphore>,
}

/// The last used modules. A cell is filled once, however many ask for it.
struct Recent {
    cells: BTreeMap<BlobHash, (u64, Arc<OnceCell<Compiled>>)>,
    uses: u64,
    limit: usize,
}

impl Modules {
    pub(super) fn new(engine: Engine, linker: Arc<Linker<Host>>, config: WasmConfig) -> io::Result<Self> {
        let disk = config.cache_dir.map(|folder| Disk::open(folder, &engine, config.cache_bytes)).transpose()?;
        let recent = Mutex::new(Recent { cells: BTreeMap::new(), uses: 0, limit: config.modules_in_memory.max(1) });
        let compiling = Arc::new(Semaphore::new(config.compilations.max(1)));
        Ok(Self { engine, linker, disk: disk.map(Arc::new), recent, compiling })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The compiled module `hash`.
    pub(super) async fn get(&self, hash: BlobHash, blobs: &dyn Blobs) -> Result<Compiled, NoModule> {
        let cell = self.recent.lock().unwrap_or_else(PoisonError::into_inner).cell(hash);
        cell.get_or_try_init(|| self.make(hash, blobs)).await.cloned()
    }

    async fn make(&self, hash: BlobHash, blobs: &dyn Blobs) -> Result<Compiled, NoModule> {
        if let Some(disk) = self.disk.clone() {
            let engine = self.engine.clone();
            if let Some(module) = blocking(move || Ok(disk.load(&engine, hash))).await? {
                return Ok(self.link(module));
            }
        }
        let bytes = blobs.read(hash, MAX_MODULE_BYTES).await;
        let bytes = bytes.map_err(|error| NoModule::Missing(format!("module {}: {error}", hash.short())))?;
        let permit = Arc::clone(&self.compiling).acquire_owned().await.map_err(|e| NoModule::Host(e.to_string()))?;
        let (engine, disk) = (self.engine.clone(), self.disk.clone());
        let module = blocking(move || {
            // Held by the compilation itself, which goes on when nobody waits for it any more.
            let _permit = permit;
            compile(&engine, hash, &bytes, disk.as_deref())
        });
        Ok(self.link(module.await?))
    }

    fn link(&self, module: Module) -> Compiled {
        let linked = self.linker.instantiate_pre(&module).ok();
        Compiled { module, linked }
    }
}

impl Recent {
    fn cell(&mut self, hash: BlobHash) -> Arc<OnceCell<Compiled>> {
        self.uses += 1;
        let (used, cell) = self.cells.entry(hash).or_default();
        *used = self.uses;
        let cell = Arc::clone(cell);
        if self.cells.len() > self.limit {
            let oldest = self.cells.iter().min_by_key(|(_, (used, _))| *used).map(|(hash, _)| *hash);
            oldest.and_then(|hash| self.cells.remove(&hash));
        }
        cell
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NoModule> + Send + 'static,
) -> Result<T, NoModule> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(NoModule::Host(format!("compilation did not end: {error}"))))
}

fn compile(engine: &Engine, hash: BlobHash, bytes: &Bytes, disk: Option<&Disk>) -> Result<Module, NoModule> {
    let inspected = inspect::inspect(engine, hash, bytes).map_err(|error| {
        tracing::debug!(%error, "module refused");
        NoModule::Invalid
    })?;
    if inspected.is_component() {
        return Err(NoModule::Component);
    }
    let bytes = rewrite(bytes).map_err(|error| {
        tracing::debug!(%error, "module refused");
        NoModule::Invalid
    })?;
    let module = Module::new(engine, &bytes).map_err(|error| NoModule::Host(format!("compiler: {error:#}")))?;
    if let Some(Err(error)) = disk.map(|disk| disk.save(hash, &module)) {
        tracing::warn!(%error, "compiled module not cached");
    }
    Ok(module)
}

/// The cache folder.
struct Disk {
    folder: PathBuf,
    key: [u8; 32],
    /// Names the engine: its version, its settings, the machine's features.
    engine: u64,
    limit_bytes: u64,
}

impl Disk {
    fn open(folder: PathBuf, engine: &Engine, limit_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        let key = read_or_make_key(&folder)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { folder, key, engine: hasher.finish(), limit_bytes })
    }

    fn path(&self, hash: BlobHash) -> PathBuf {
        self.folder.join(format!("{hash}-{PROFILE}-{:016x}.{EXTENSION}", self.engine))
    }

    /// Binds the code to its module and engine, so that no file can stand for another.
    fn seal(&self, path: &Path, code: &[u8]) -> [u8; SEAL_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(path.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default());
        *hasher.update(code).finalize().as_bytes()
    }

    fn load(&self, engine: &Engine, hash: BlobHash) -> Option<Module> {
        let path = self.path(hash);
        let bytes = fs::read(&path).ok()?;
        let (code, seal) = bytes.split_last_chunk::<SEAL_BYTES>()?;
        if blake3::Hash::from_bytes(*seal) != self.seal(&path, code) {
            tracing::warn!(path = %path.display(), "compiled module altered, compiling it again");
            return None;
        }
        let module = deserialize(engine, code).inspect_err(|error| tracing::debug!(%error, "compiled module unusable"));
        // The cache's order of age, not more: a failure costs nothing.
        let _ = File::open(&path).and_then(|file| file.set_modified(std::time::SystemTime::now()));
        module.ok()
    }

    fn save(&self, hash: BlobHash, module: &Module) -> io::Result<()> {
        let path = self.path(hash);
        let code = module.serialize().map_err(io::Error::other)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&code)?;
        file.write_all(&self.seal(&path, &code))?;
        file.persist(&path)?;
        self.evict()
    }

    /// Removes the longest unused files beyond the limit.
    fn evict(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == EXTENSION) {
                let metadata = entry.metadata()?;
                files.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in files {
            if total <= self.limit_bytes {
                break;
            }
            fs::remove_file(path)?;
            total -= length;
        }
        Ok(())
    }
}

fn read_or_make_key(folder: &Path) -> io::Result<[u8; 32]> {
    let path = folder.join("key");
    if let Some(key) = fs::read(&path).ok().and_then(|bytes| bytes.try_into().ok()) {
        return Ok(key);
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    // Created readable by us alone, and whole or not at all.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&key)?;
    file.persist(path)?;
    Ok(key)
}

/// Takes native code for what it says it is.
#[expect(unsafe_code, reason = "deserialising native code cannot be checked")]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Module> {
    // SAFETY: the caller has checked the code's seal, so these are bytes that `Module::serialize` gave to this
    // executor. wasmtime itself checks version and settings.
    unsafe { Module::deserialize(engine, code) }
}
