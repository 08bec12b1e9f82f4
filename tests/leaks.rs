//! Many containers, one after the other: afterwards a node holds no more than before.

use std::path::Path;

use crate::docker::engine::{docker, image};
use crate::docker::{DOCKER, Nodes, detached, has_no_containers, label, work_of};
use crate::support::until;

/// Containers of one job.
const COUNT: u32 = 20;
/// Jobs before the first look, when everything has its usual size.
const WARM_UP: u32 = 2;
/// Jobs before the second, 200 containers all in all.
const JOBS: u32 = 8;
/// Open files and connections that come and go.
const SPARE_FILES: usize = 16;
/// What memory may differ by, in KiB: the allocator keeps some of what was freed.
const SPARE_KIB: u64 = 24 << 10;

#[test]
fn nothing_grows_with_the_number_of_containers() {
    let Some(image) = image("busybox", &[]) else { return };
    let mesh = Nodes::start(&[&DOCKER, &DOCKER]);
    let worker = &mesh.nodes[1];
    let count = COUNT.to_string();
    let run = |jobs: u32| {
        for _ in 0..jobs {
            let words = [
                "--queue-timeout",
                "300",
                "--count",
                &count,
                "-o",
                "out:/out",
                &image,
                "sh",
                "-c",
                "echo x | tee /out/x",
            ];
            let job = detached(&mesh.nodes[0], &words);
            let described = mesh.nodes[0].finished(&job);
            assert_eq!(described["State"], "Completed", "{:#}", described["StateReason"]);
        }
    };
    run(WARM_UP);
    let (files, memory) = (files(worker.process()), memory_kib(worker.process()));
    run(JOBS);
    has_no_containers(worker);
    let network = docker(&["network", "ls", "-q", "--filter", &format!("label={}", label(worker))]);
    assert_eq!(network.as_deref(), Some(""));
    until("no folder stays", || (work_of(&mesh.dir.path().join("1")) == 0).then_some(()));
    let closed = || (self::files(worker.process()) <= files + SPARE_FILES).then_some(());
    until("files are closed", closed);
    let grown = memory_kib(worker.process()).saturating_sub(memory);
    assert!(grown <= SPARE_KIB, "{grown} KiB more than {memory}");
}

fn files(process: u32) -> usize {
    std::fs::read_dir(Path::new("/proc").join(process.to_string()).join("fd")).unwrap().count()
}

fn memory_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
