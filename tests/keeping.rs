//! What a node keeps on its disk, for how long, and what makes way.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Daemon, module, refused, skipped, text, until};

/// A node alone in a directory of its own.
struct Home {
    node: Daemon,
    dir: tempfile::TempDir,
}

impl Home {
    fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let node = Daemon::start(&dir.path().join("node"), options);
        Self { node, dir }
    }

    /// Writes a file and returns its path.
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Adds a file or folder and returns its hash.
    fn add(&self, path: &str, flags: &[&str]) -> String {
        let blob = self.node.json(&[&["blob", "add", path], flags].concat());
        blob["Hash"].as_str().unwrap().to_owned()
    }

    /// The pins of a blob; none if it is not here.
    fn pins(&self, hash: &str) -> Option<Vec<Value>> {
        let blobs = self.node.json(&["blob", "list"]);
        let blob = blobs.as_array().unwrap().iter().find(|blob| blob["Hash"] == hash)?.clone();
        Some(blob["Pins"].as_array().unwrap().clone())
    }

    fn gc(&self) {
        let output = self.node.run(&["blob", "gc"]);
        assert!(output.status.success(), "{}", text(&output));
    }
}

#[test]
fn what_is_pinned_for_a_while_stays_that_long_and_across_a_restart() {
    let mut home = Home::start(&[]);
    let week = home.add(&home.file("week", "for a week"), &["--for", "7d"]);
    let second = home.add(&home.file("second", "for a second"), &["--for", "1s"]);
    home.node = home.node.restart();

    until("the short pin has ended", || home.pins(&second).is_none_or(|pins| pins.is_empty()).then_some(()));
    home.gc();
    assert_eq!(home.pins(&second), None);
    let pins = home.pins(&week).expect("it stays");
    assert!(pins[0]["Until"].as_str().is_some_and(|until| until.ends_with('Z')), "{pins:?}");

    let wrong = home.node.run(&["blob", "pin", &week, "--for", "a week"]);
    refused(&wrong, &["--for", "a week"]);
}

#[test]
fn what_nobody_keeps_makes_way_and_what_is_pinned_does_not() {
    let home = Home::start(&["--max-disk", "4MiB"]);
    let mebibyte = |name: &str| home.file(name, name.repeat(1 << 20).as_bytes());
    let pinned = home.add(&mebibyte("a"), &[]);
    let oldest = home.add(&mebibyte("b"), &["--for", "1s"]);
    until("the pin has ended", || home.pins(&oldest).is_some_and(|pins| pins.is_empty()).then_some(()));
    home.add(&mebibyte("c"), &[]);
    home.add(&mebibyte("d"), &[]);
    home.add(&home.file("e", "e".repeat(1 << 19)), &[]);
    assert!(home.pins(&pinned).is_some());
    let large = home.node.run(&["blob", "add", &home.file("f", "f".repeat(2 << 20))]);
    refused(&large, &["no room", "4.0 MiB that --max-disk allows", "are pinned or in use", "blob du"]);
}

#[test]
fn a_folder_with_what_cannot_travel_is_refused_by_name_and_nothing_of_it_is_added() {
    use std::os::unix::ffi::OsStrExt;
    let home = Home::start(&[]);
    home.file("tree/a/file", "content");
    let tree = home.dir.path().join("tree");
    let odd = tree.join("a").join(std::ffi::OsStr::from_bytes(b"not-\xff-text"));
    let made: [(&str, &dyn Fn()); 3] = [
        ("not UTF-8", &|| std::fs::write(&odd, "x").unwrap()),
        ("symbolic link", &|| std::os::unix::fs::symlink("/etc/passwd", tree.join("a/link")).unwrap()),
        ("device, socket or pipe", &|| drop(std::os::unix::net::UnixListener::bind(tree.join("a/socket")).unwrap())),
    ];
    for (what, make) in made {
        make();
        refused(&home.node.run(&["blob", "add", tree.to_str().unwrap()]), &[what, "tree/a/"]);
        for entry in std::fs::read_dir(tree.join("a")).unwrap().map(|entry| entry.unwrap()) {
            if entry.file_name() != "file" {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }
    assert_eq!(home.node.json(&["blob", "list"]).as_array().unwrap().len(), 0);
    home.add(tree.to_str().unwrap(), &[]);
}

#[test]
fn the_list_comes_in_pages_and_du_says_what_keeps_what() {
    let home = Home::start(&[]);
    let tree: Vec<String> = (0..50).map(|n| home.file(&format!("tree/{n}"), n.to_string().repeat(20_000))).collect();
    let root = home.add(home.dir.path().join("tree").to_str().unwrap(), &["--name", "tree"]);
    home.add(&tree[0], &["--no-pin"]);
    let first = home.node.json(&["blob", "list", "--limit", "30"]);
    let last = first.as_array().unwrap().last().unwrap()["Hash"].as_str().unwrap().to_owned();
    let rest = home.node.json(&["blob", "list", "--after", &last]);
    // Fifty files, the list of their hashes and the list of their names.
    assert_eq!((first.as_array().unwrap().len(), rest.as_array().unwrap().len()), (30, 22));
    let usage = home.node.json(&["blob", "du"]);
    let bytes = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!(bytes("Used"), bytes("Pinned") + bytes("InUse") + bytes("Cache"), "{usage:#}");
    assert!(bytes("Pinned") > 50 * 20_000 && usage["Pins"][0]["Name"] == "user/tree", "{usage:#}");

    let unpin = home.node.run(&["blob", "unpin", "tree"]);
    assert!(unpin.status.success(), "{}", text(&unpin));
    home.gc();
    assert_eq!(home.pins(&root), None);
}

/// A disk of its own, in memory.
pub struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    /// Mounts it, where that is allowed.
    pub fn mount(at: &'a Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(at))
    }

    /// Leaves at most so many bytes free; with 0 it is full to the last.
    fn fill(&self, but: u64) {
        use std::io::Write;
        let free = rustix::fs::statvfs(self.0).map(|disk| disk.f_bavail * disk.f_frsize).unwrap();
        let mut file = std::fs::File::options().create(true).append(true).open(self.0.join("filler")).unwrap();
        let wanted = if but == 0 { u64::MAX } else { free.saturating_sub(but) };
        let piece = vec![1; 1 << 16];
        for _ in 0..wanted.div_ceil(piece.len() as u64) {
            if file.write_all(&piece).is_err() {
                break;
            }
        }
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

const HELLO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "hello\n")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 16))
        (i32.store (i32.const 4) (i32.const 6))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

#[test]
fn a_full_disk_takes_no_work_and_does_not_stop_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let small = dir.path().join("small");
    let Some(disk) = Disk::mount(&small, "192m") else { return skipped("a disk of its own needs the right to mount") };
    let requester = Daemon::start(&dir.path().join("requester"), &["--executors", "none"]);
    let worker = Daemon::start(&small.join("worker"), &["--join", &requester.ticket, "--max-disk", "10GB"]);
    requester.connected(1);
    let hello = module(dir.path(), "hello.wasm", HELLO);
    let run = ["wasm", "run", &hello, "--executions", "1", "--disk", "10MB"];
    let first = requester.json(&run);
    assert_eq!(first["State"], "Completed", "{first:#}");
    until("the reserve is set up", || small.join("worker/reserve").exists().then_some(()));

    // Nearly full: refused before the first byte, with the disk's name.
    disk.fill(30 << 20);
    let large = dir.path().join("large");
    std::fs::write(&large, vec![7; 20 << 20]).unwrap();
    refused(
        &worker.run(&["blob", "add", large.to_str().unwrap()]),
        &["the disk of the data directory is full", "20.0 MiB", "free"],
    );

    // Full: the node takes no work that has no room, and says why.
    disk.fill(0);
    let other = module(dir.path(), "other.wasm", &HELLO.replace("hello", "adieu"));
    let job =
        requester.submit(&["wasm", "run", &other, "--executions", "1", "--disk", "10MB", "--queue-timeout", "600"]);
    until("the worker refuses", || {
        let history = requester.json(&["job", "history", &job]).to_string();
        history.contains("disk: needs 9.5 MiB, 0 B free").then_some(())
    });

    // There is room again, and nothing is broken.
    disk.empty();
    let last = requester.finished(&job);
    assert_eq!(last["State"], "Completed", "{last:#}");
    let added = worker.json(&["blob", "add", large.to_str().unwrap()]);
    let worker = worker.restart();
    let listed = worker.json(&["blob", "list"]);
    assert!(listed.as_array().unwrap().iter().any(|blob| blob["Hash"] == added["Hash"] && blob["Complete"] == true));
}

#[test]
fn the_oldest_jobs_that_are_over_are_forgotten_with_their_results() {
    let home = Home::start(&["--executors", "none", "--job-history", "2"]);
    let worker = Daemon::start(&home.dir.path().join("worker"), &["--join", &home.node.ticket]);
    home.node.connected(1);
    let endless = crate::support::slow_module(home.dir.path(), 100_000);
    let running = home.node.submit(&["wasm", "run", "--executions", "1", &endless]);
    let short = module(home.dir.path(), "short.wasm", r#"(module (func (export "_start")))"#);
    let jobs: Vec<String> = ["one", "two", "three", "four"]
        .map(|argument| home.node.json(&["wasm", "run", "--executions", "1", &short, argument]))
        .map(|job| job["JobID"].as_str().unwrap().to_owned())
        .into();
    let expected = [&jobs[3], &jobs[2], &running];
    let remembered = |node: &Daemon| {
        let listed = node.json(&["job", "list"]);
        let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|job| job["JobID"].as_str().unwrap()).collect();
        (ids == expected).then_some(())
    };
    until("two jobs are forgotten", || remembered(&home.node));
    refused(&home.node.run(&["job", "describe", &jobs[0]]), &["this node has no job", &jobs[0]]);
    let pinned = |job: &str| {
        let blobs = home.node.json(&["blob", "list"]);
        blobs.to_string().contains(&format!("job/{job}/"))
    };
    assert!(pinned(&jobs[3]) && !pinned(&jobs[1]));
    let restarted = home.node.restart();
    until("they stay forgotten", || remembered(&restarted));
    drop(worker);
}
