//! GPUs: which ones this machine has, which run has them now, and how an engine is asked for them.
//!
//! They are found where the kernel shows them, under `/sys` and `/proc`. Each run has its own, and nobody else's.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bollard::models::{DeviceMapping, DeviceRequest, SystemInfo};

/// Of whom GPUs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vendor {
    /// Given by the engine's own runtime for them.
    Nvidia,
    /// Given as devices.
    Amd,
    /// Given as devices.
    Intel,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Of whom it is.
    pub vendor: Vendor,
    /// What names it: NVIDIA's own id, the place on the bus for others.
    pub id: String,
    /// What people call it; empty if nobody says.
    pub model: String,
    /// The devices that are it; none for NVIDIA's.
    devices: Vec<PathBuf>,
}

/// Which GPUs runs may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Allowed {
    /// All that there are.
    #[default]
    All,
    /// Those of these ids; perhaps none.
    Only(Vec<String>),
}

/// How an engine gives NVIDIA's GPUs to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NvidiaBy {
    /// The driver that comes with NVIDIA's runtime.
    Runtime,
    /// Descriptions of devices that the engine reads (CDI).
    Descriptions,
}

/// The GPUs of this machine, and who has them.
#[derive(Debug, Default)]
pub(super) struct Gpus {
    all: Vec<Gpu>,
    /// By id, the execution that has it.
    taken: Mutex<BTreeMap<String, String>>,
}

/// GPUs that are free again when this is dropped.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    gpus: &'a Gpus,
    execution: String,
    pub(super) mine: Vec<Gpu>,
}

/// What a container is told of its GPUs.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Given {
    pub(super) requests: Vec<DeviceRequest>,
    pub(super) devices: Vec<DeviceMapping>,
    /// Groups that may open the devices.
    pub(super) groups: Vec<String>,
}

/// The GPUs that the kernel shows below `root`, which is `/` but in tests.
pub fn find(root: &Path) -> Vec<Gpu> {
    let mut found = nvidia(root);
    found.extend(rendering(root));
    found.sort_by(|a, b| (a.vendor, &a.id).cmp(&(b.vendor, &b.id)));
    found
}

fn nvidia(root: &Path) -> Vec<Gpu> {
    let gpu = |folder: PathBuf| {
        let told = fs::read_to_string(folder.join("information")).ok()?;
        let value = |key: &str| {
            let line = told.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.trim() == key))?;
            Some(line.1.trim().to_owned())
        };
        // A driver that does not tell the id yet writes question marks.
        let id = value("GPU UUID").filter(|id| id.starts_with("GPU-") && !id.contains('?'))?;
        Some(Gpu { vendor: Vendor::Nvidia, id, model: value("Model").unwrap_or_default(), devices: Vec::new() })
    };
    entries(&root.join("proc/driver/nvidia/gpus")).into_iter().filter_map(gpu).collect()
}

/// GPUs that programs open themselves: those with a node for rendering.
fn rendering(root: &Path) -> Vec<Gpu> {
    let nodes = entries(&root.join("sys/class/drm"));
    let place = |node: &Path| Some(node.join("device").canonicalize().ok()?.file_name()?.to_str()?.to_owned());
    let named = |node: &Path, prefix: &str| {
        let name = node.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let gpu = |render: &PathBuf| {
        let vendor = match fs::read_to_string(render.join("device/vendor")).ok()?.trim() {
            "0x1002" if root.join("dev/kfd").exists() => Vendor::Amd,
            // Those on the first bus are a part of the processor, and draw the screen.
            "0x8086" if !place(render)?.starts_with("0000:00:") => Vendor::Intel,
            _ => return None,
        };
        let id = place(render)?;
        let same = |node: &&PathBuf| place(node).as_deref() == Some(id.as_str());
        let cards = nodes.iter().filter(|node| named(node, "card") || named(node, "renderD")).filter(same);
        let shared = (vendor == Vendor::Amd).then(|| PathBuf::from("/dev/kfd"));
        let mut devices: Vec<PathBuf> =
            cards.map(|node| Path::new("/dev/dri").join(node.file_name().unwrap_or_default())).collect();
        devices.sort();
        let model = fs::read_to_string(render.join("device/product_name")).unwrap_or_default().trim().to_owned();
        Some(Gpu { vendor, id, model, devices: shared.into_iter().chain(devices).collect() })
    };
    nodes.iter().filter(|node| named(node, "renderD")).filter_map(gpu).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

impl Allowed {
    /// Those of `found` that runs may have.
    pub fn of(&self, found: Vec<Gpu>) -> Vec<Gpu> {
        match self {
            Allowed::All => found,
            Allowed::Only(ids) => {
                let unknown = ids.iter().filter(|id| !found.iter().any(|gpu| gpu.id == **id));
                unknown.for_each(|id| tracing::warn!(id, "there is no such GPU here"));
                found.into_iter().filter(|gpu| ids.contains(&gpu.id)).collect()
            }
        }
    }
}

impl NvidiaBy {
    /// How this engine does it; none if it does not.
    pub(super) fn of(info: &SystemInfo) -> Option<Self> {
        let described = info.discovered_devices.iter().flatten();
        let described = described.filter_map(|device| device.id.as_deref()).any(|id| id.starts_with("nvidia.com/gpu"));
        let runtime = info.runtimes.as_ref().is_some_and(|runtimes| runtimes.contains_key("nvidia"));
        match (runtime, described) {
            (true, _) => Some(NvidiaBy::Runtime),
            (false, true) => Some(NvidiaBy::Descriptions),
            (false, false) => None,
        }
    }
}

impl Gpus {
    pub(super) fn new(all: Vec<Gpu>) -> Self {
        Self { all, taken: Mutex::default() }
    }

    /// Those that an engine can give to containers.
    pub(super) fn usable(&self, nvidia: Option<NvidiaBy>) -> impl Iterator<Item = &Gpu> {
        self.all.iter().filter(move |gpu| gpu.vendor != Vendor::Nvidia || nvidia.is_some())
    }

    /// Takes so many that are free, all of one vendor: programs are built for one.
    pub(super) fn take(&self, count: u16, nvidia: Option<NvidiaBy>, execution: &str) -> Option<Taken<'_>> {
        let mut taken = self.lock();
        let free = |vendor| {
            let of_vendor = self.usable(nvidia).filter(move |gpu| gpu.vendor == vendor);
            of_vendor.filter(|gpu| !taken.contains_key(&gpu.id)).take(count.into()).cloned().collect::<Vec<_>>()
        };
        let enough = |mine: &Vec<Gpu>| mine.len() == usize::from(count);
        let mine = [Vendor::Nvidia, Vendor::Amd, Vendor::Intel].map(free).into_iter().find(enough)?;
        taken.extend(mine.iter().map(|gpu| (gpu.id.clone(), execution.to_owned())));
        Some(Taken { gpus: self, execution: execution.to_owned(), mine })
    }

    /// What a run of before had is its own until it has ended.
    pub(super) fn retake(&self, ids: &str, execution: &str) {
        let ids = ids.split(',').filter(|id| self.all.iter().any(|gpu| gpu.id == *id));
        self.lock().extend(ids.map(|id| (id.to_owned(), execution.to_owned())));
    }

    /// The ones that a run of before had, to be free when they are dropped.
    pub(super) fn retaken(&self, execution: &str) -> Taken<'_> {
        Taken { gpus: self, execution: execution.to_owned(), mine: Vec::new() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.gpus.lock().retain(|_, execution| *execution != self.execution);
    }
}

impl Taken<'_> {
    /// Their ids in one word, for a label.
    pub(super) fn ids(&self) -> String {
        self.mine.iter().map(|gpu| gpu.id.as_str()).collect::<Vec<_>>().join(",")
    }

    /// What a container is told.
    pub(super) fn given(&self, nvidia: Option<NvidiaBy>) -> Given {
        let devices = self.mine.iter().flat_map(|gpu| &gpu.devices).map(PathBuf::as_path);
        let mut devices: Vec<&Path> = devices.collect();
        devices.sort_unstable();
        devices.dedup();
        let ids = self.mine.iter().filter(|gpu| gpu.vendor == Vendor::Nvidia).map(|gpu| gpu.id.clone());
        let ids: Vec<String> = ids.collect();
        let mut groups: Vec<String> =
            devices.iter().filter_map(|path| fs::metadata(path).ok()).map(|device| device.gid().to_string()).collect();
        groups.sort_unstable();
        groups.dedup();
        Given {
            requests: nvidia.filter(|_| !ids.is_empty()).map(|by| request(by, ids)).into_iter().collect(),
            devices: devices.into_iter().map(mapping).collect(),
            groups,
        }
    }
}

fn request(by: NvidiaBy, ids: Vec<String>) -> DeviceRequest {
    match by {
        NvidiaBy::Runtime => DeviceRequest {
            driver: Some("nvidia".into()),
            device_ids: Some(ids),
            capabilities: Some(vec![vec!["gpu".into(), "compute".into(), "utility".into()]]),
            ..DeviceRequest::default()
        },
        NvidiaBy::Descriptions => DeviceRequest {
            driver: Some("cdi".into()),
            device_ids: Some(ids.into_iter().map(|id| format!("nvidia.com/gpu={id}")).collect()),
            ..DeviceRequest::default()
        },
    }
}

/// To be read and written, and not to be made anew elsewhere.
fn mapping(path: &Path) -> DeviceMapping {
    let path = path.display().to_string();
    DeviceMapping {
        path_on_host: Some(path.clone()),
        path_in_container: Some(path),
        cgroup_permissions: Some("rw".into()),
    }
}

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Vendor::Nvidia => "NVIDIA",
            Vendor::Amd => "AMD",
            Vendor::Intel => "Intel",
        })
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.model.trim_start_matches("NVIDIA ") {
            "" => write!(f, "{} ({})", self.vendor, self.id),
            model => write!(f, "{} {model} ({})", self.vendor, self.id),
        }
    }
}

#[cfg(test)]
mod tests;
