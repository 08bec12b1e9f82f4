//! How much memory a container holds: looked at while it runs, because nobody remembers it afterwards.
//!
//! On a machine of its own the node reads the kernel's files, often and at no cost to the engine. Elsewhere it asks the
//! engine now and then. What the kernel keeps of files that were read is not counted, since it gives that up for the
//! asking.

use std::convert::Infallible;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bollard::models::ContainerMemoryStats;
use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::StreamExt;

use super::run::{Container, LOOK_EVERY};

/// Pause before the second look; each is twice as long as the one before, so that short runs are seen as well.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Pause between two questions to an engine, which has other things to do.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How the kernel's two kinds of control groups call what they keep of files and would give up first.
const CACHES: [&str; 2] = ["inactive_file", "total_inactive_file"];

/// The most memory that was seen, in bytes.
#[derive(Debug, Default)]
pub(super) struct Peak(AtomicU64);

/// Where the kernel says how much memory a container holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Gauge {
    usage: PathBuf,
    details: PathBuf,
}

impl Peak {
    /// Zero if nobody could look.
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Looks at a running container until nobody waits for it any more.
    pub(super) async fn watch(&self, container: &Container) -> Infallible {
        let gauge = gauge(container).await;
        let longest = if gauge.is_some() { LOOK_EVERY } else { ASK_EVERY };
        let mut pause = FIRST_PAUSE.max(longest / 20);
        loop {
            let held = match &gauge {
                Some(gauge) => gauge.read().await,
                None => asked(container).await,
            };
            self.0.fetch_max(held.unwrap_or_default(), Ordering::Relaxed);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

/// The gauge of a container that runs on this machine.
async fn gauge(container: &Container) -> Option<Gauge> {
    let process = container.state().await.ok()?.pid.filter(|process| *process > 0)?;
    let gauge = Gauge::of(Path::new("/"), &container.id, process)?;
    gauge.read().await.is_some().then_some(gauge)
}

/// What the engine says. It answers for a container that has ended as well, with nothing.
async fn asked(container: &Container) -> Option<u64> {
    let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
    held(container.engine.client.stats(&container.id, Some(options)).next().await?.ok()?.memory_stats?)
}

fn held(told: ContainerMemoryStats) -> Option<u64> {
    let details = told.stats.unwrap_or_default();
    let cache = CACHES.iter().find_map(|name| details.get(*name)).copied().unwrap_or_default();
    Some(told.usage?.saturating_sub(cache))
}

impl Gauge {
    /// The files of the group that a process is in. The engine may be on another machine, where the process is another:
    /// only a group with the container's name is its own.
    fn of(root: &Path, container: &str, process: i64) -> Option<Self> {
        let groups = std::fs::read_to_string(root.join(format!("proc/{process}/cgroup"))).ok()?;
        groups.lines().find_map(|line| {
            let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>().try_into().ok()?;
            let path = Path::new(path).strip_prefix("/").ok()?;
            let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
            let is_its = is_plain && path.file_name()?.to_str()?.contains(container);
            let (mount, usage) = match controllers {
                "" => ("sys/fs/cgroup", "memory.current"),
                _ if controllers.split(',').any(|one| one == "memory") => {
                    ("sys/fs/cgroup/memory", "memory.usage_in_bytes")
                }
                _ => return None,
            };
            let folder = root.join(mount).join(path);
            let gauge = Self { usage: folder.join(usage), details: folder.join("memory.stat") };
            // Where both kinds are in use, only one of them has the memory.
            (is_its && gauge.usage.exists()).then_some(gauge)
        })
    }

    async fn read(&self) -> Option<u64> {
        let used: u64 = tokio::fs::read_to_string(&self.usage).await.ok()?.trim().parse().ok()?;
        let details = tokio::fs::read_to_string(&self.details).await.unwrap_or_default();
        Some(used.saturating_sub(cache(&details)))
    }
}

/// What the kernel keeps of files, as it lists it. The name with `total` counts groups below, and comes later.
fn cache(details: &str) -> u64 {
    let mut named = details.lines().filter_map(|line| line.split_once(' ')).filter(|(name, _)| CACHES.contains(name));
    named.next_back().and_then(|(_, bytes)| bytes.trim().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0a1b2c";

    /// A machine whose process 7 is in these groups, and the folder of a group.
    fn machine(groups: &str, folder: &str, usage: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/7/cgroup", groups);
        write(&format!("{folder}/{usage}"), "1000000\n");
        write(&format!("{folder}/memory.stat"), "anon 5\ninactive_file 300000\ntotal_inactive_file 400000\n");
        root
    }

    #[tokio::test]
    async fn both_kinds_of_control_groups_are_read_without_what_is_kept_of_files() {
        let v2 = format!("0::/system.slice/docker-{ID}.scope\n");
        let v1 = format!("5:pids:/docker/{ID}\n4:hugetlb,memory:/docker/{ID}\n0::/docker/{ID}\n");
        let table = [
            (v2, format!("sys/fs/cgroup/system.slice/docker-{ID}.scope"), "memory.current"),
            (v1, format!("sys/fs/cgroup/memory/docker/{ID}"), "memory.usage_in_bytes"),
        ];
        for (groups, folder, usage) in table {
            let machine = machine(&groups, &folder, usage);
            let gauge = Gauge::of(machine.path(), ID, 7).expect("it is there");
            assert_eq!(gauge.read().await, Some(600_000), "{groups}");
        }
    }

    #[test]
    fn an_engine_tells_the_same_of_either_kind() {
        let told = |text: &str| held(serde_json::from_str(text).unwrap());
        assert_eq!(told(r#"{"usage": 1000000, "stats": {"anon": 5, "inactive_file": 300000}}"#), Some(700_000));
        let v1 = r#"{"usage": 1000000, "max_usage": 2000000, "stats": {"cache": 5, "total_inactive_file": 400000}}"#;
        assert_eq!(told(v1), Some(600_000));
        assert_eq!(told("{}"), None, "it has ended");
    }

    #[test]
    fn a_group_that_is_not_the_containers_is_nobodys_gauge() {
        let folder = format!("sys/fs/cgroup/docker/{ID}");
        for groups in ["0::/user.slice", "0::/", "", "0::/docker/other", &format!("0::/../../docker/{ID}")] {
            let machine = machine(groups, &folder, "memory.current");
            assert_eq!(Gauge::of(machine.path(), ID, 7), None, "{groups}");
        }
        let machine = machine(&format!("0::/docker/{ID}"), &folder, "memory.current");
        assert_eq!(Gauge::of(machine.path(), ID, 8), None, "there is no such process");
    }
}
