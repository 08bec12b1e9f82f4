//! Containers on a real engine: what programs get, what they cannot do, and that nothing of them stays.
//!
//! Where no engine runs these tests say so and are skipped.

#[path = "support/containers.rs"]
mod bench;
mod support;

use std::fs;
use std::time::Duration;

use bench::engine::{containers, docker};
use bench::{Bench, MIB, config, executor};
use shoal_executors::docker::look_through;
use shoal_executors::{DockerConfig, DockerExecutor, RunError, StagedInput};
use shoal_protocol::id::BlobHash;
use shoal_protocol::task::{Image, ImageOrigin, Outcome, Trap};
use support::Memory;

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_its_words_and_variables_and_its_streams_and_code_come_back() {
    let Some(bench) = Bench::new("busybox", &[]).await else { return };
    let ended = bench.sh("echo \"$GREETING from $(pwd)\"; echo oh >&2; exit 7").await.unwrap().exits(7);
    assert_eq!((ended.stdout().as_str(), ended.stderr().as_str()), ("hello there from /tmp\n", "oh\n"));
    let silent = bench.run(&["true"]).await.unwrap().exits(0);
    assert_eq!((&silent.0.outputs.stdout, &silent.0.outputs.stderr), (&None, &None));
    let nowhere = bench.run(&["no-such-program"]).await.unwrap().exits(127);
    assert!(nowhere.stderr().contains("no-such-program"), "{}", nowhere.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_are_read_and_not_written_and_results_come_back() {
    let Some(mut bench) = Bench::new("busybox", &[]).await else { return };
    let input = bench.dir.path().join("words");
    fs::write(&input, "one two three\n").unwrap();
    bench.inputs.push(StagedInput { target: "/in/words".into(), path: input.clone(), writable: false });
    let bench = bench.result("counts", "/out/counts").result("empty", "/out/empty");
    let script = "wc -w </in/words >/out/counts/words && ! echo more >/in/words && ! rm /in/words";
    let ended = bench.sh(script).await.unwrap().exits(0);
    assert_eq!(fs::read_to_string(ended.result("counts").join("words")).unwrap().trim(), "3");
    assert_eq!(fs::read_dir(ended.result("empty")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(input).unwrap(), "one two three\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_nobody_and_may_do_nothing_special() {
    let Some(bench) = Bench::new("of-root", &["USER root"]).await else { return };
    let ended = bench.sh("id -u; grep -E 'Cap(Eff|Prm|Bnd|Amb)|NoNewPrivs|Seccomp:' /proc/self/status").await.unwrap();
    let told = ended.exits(0).stdout();
    let node = rustix::process::geteuid().as_raw();
    assert_eq!(told.lines().next(), Some(if node == 0 { "65534".into() } else { node.to_string() }).as_deref());
    assert_eq!(told.matches("0000000000000000").count(), 4, "{told}");
    assert!(told.contains("NoNewPrivs:\t1") && told.contains("Seccomp:\t2"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn root_is_root_where_the_operator_allows_it_and_still_has_no_capability() {
    let Some(bench) = Bench::with("of-root", &["USER root"], true).await else { return };
    if rustix::process::geteuid().is_root() {
        let told = bench.sh("id -u; grep CapEff /proc/self/status").await.unwrap().exits(0).stdout();
        assert_eq!(told, "0\nCapEff:\t0000000000000000\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_harms_a_host_fails_inside() {
    let Some(bench) = Bench::with("of-root", &["USER root"], true).await else { return };
    let forbidden = [
        "mount -t tmpfs none /tmp",
        "umount /proc",
        "mknod /tmp/disk b 8 0",
        "chown 1000 /tmp/mine",
        "chroot /tmp /bin/true",
        "hostname other",
        "ping -c 1 127.0.0.1",
        "insmod /bin/busybox",
        "echo 1 >/proc/sys/kernel/panic",
        "echo b >/proc/sysrq-trigger",
        "echo x >/etc/passwd",
        "touch /new",
        "date -s 2001-01-01 && date | grep 2001",
        "reboot -f",
        "unshare -m true",
        "nsenter -t 1 -m true",
        "cat /proc/1/root/etc/shadow",
        "cat /proc/kcore",
        "test -e /var/run/docker.sock",
        "test -e /dev/mem",
        "test -e /dev/kmsg",
        "dmesg",
    ];
    let script: String =
        forbidden.iter().map(|words| format!("({words}) >/dev/null 2>&1 && echo '{words}'\n")).collect();
    let ended = bench.sh(&format!("touch /tmp/mine\n{script}true")).await.unwrap().exits(0);
    assert_eq!(ended.stdout(), "", "all of these must fail");
}

/// A program for Linux that attaches to process `pid` as a debugger does, and exits with the error: 0 if it could.
#[cfg(target_arch = "x86_64")]
fn attaches_to(pid: u32) -> Vec<u8> {
    const AT: u64 = 0x40_0000;
    let [a, b, c, d] = pid.to_le_bytes();
    #[rustfmt::skip]
    let code = [
        0xb8, 101, 0, 0, 0,     // mov eax, ptrace
        0xbf, 16, 0, 0, 0,      // mov edi, PTRACE_ATTACH
        0xbe, a, b, c, d,       // mov esi, pid
        0x31, 0xd2,             // xor edx, edx
        0x45, 0x31, 0xd2,       // xor r10d, r10d
        0x0f, 0x05,             // syscall
        0xf7, 0xd8,             // neg eax
        0x89, 0xc7,             // mov edi, eax
        0xb8, 60, 0, 0, 0,      // mov eax, exit
        0x0f, 0x05,             // syscall
    ];
    let (header, segment) = (64_u16, 56_u16);
    let (start, length) = (u64::from(header + segment), u64::from(header + segment) + code.len() as u64);
    let mut file = [0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
    [2_u16, 62].iter().for_each(|half| file.extend(half.to_le_bytes()));
    file.extend(1_u32.to_le_bytes());
    [AT + start, u64::from(header), 0].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    [header, segment, 1, 0, 0, 0].iter().for_each(|half| file.extend(half.to_le_bytes()));
    // One segment, to be read and executed.
    [1_u32, 5].iter().for_each(|word| file.extend(word.to_le_bytes()));
    [0, AT, AT, length, length, 0x1000].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend(code);
    file
}

#[cfg(target_arch = "x86_64")]
#[tokio::test(flavor = "multi_thread")]
async fn a_program_debugs_none_of_the_hosts_processes() {
    use std::os::unix::fs::PermissionsExt;
    let Some(mut bench) = Bench::with("of-root", &["USER root"], true).await else { return };
    // A process that could be debugged by whoever has the right.
    let mut victim = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let mut script = String::new();
    for (name, pid) in [("victim", victim.id()), ("test", std::process::id())] {
        let path = bench.dir.path().join(name);
        fs::write(&path, attaches_to(pid)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        bench.inputs.push(StagedInput { target: format!("/in/{name}"), path, writable: false });
        script += &format!("/in/{name}; echo {name} $?; cat /proc/{pid}/mem /proc/{pid}/environ && echo read {name};");
    }
    let told = bench.sh(&format!("{script} true")).await.unwrap().exits(0).stdout();
    let no_such_process = 3;
    assert_eq!(told, format!("victim {no_such_process}\ntest {no_such_process}\n"));
    let status = fs::read_to_string(format!("/proc/{}/status", victim.id())).unwrap();
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(status.contains("TracerPid:\t0\n"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_reaches_nobody() {
    let Some(bench) = Bench::new("busybox", &[]).await else { return };
    let script = "ls /sys/class/net; for host in 172.17.0.1 169.254.169.254 1.1.1.1; do \
                  echo | nc -w 3 $host 80 && echo reached $host; done; nslookup example.org && echo resolved; true";
    assert_eq!(bench.sh(script).await.unwrap().exits(0).stdout(), "lo\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_much_memory_a_program_held_is_told() {
    let Some(bench) = Bench::new("busybox", &[]).await else { return };
    let write = "for i in 1 2 3; do dd if=/dev/zero of=/tmp/$i bs=1M count=7 2>/dev/null || exit 1; done";
    let script = format!("{write}; sleep 2; rm /tmp/*; cat /bin/* >/dev/null");
    let peak = bench.sh(&script).await.unwrap().exits(0).0.peak_memory_bytes;
    assert!((21 * MIB..40 * MIB).contains(&peak), "{peak}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_memory_than_allowed_ends_the_program_and_says_so() {
    let Some(bench) = Bench::new("busybox", &[]).await else { return };
    let full = bench.run(&["tail", "/dev/zero"]).await.unwrap().stopped_by(Trap::OutOfMemory);
    assert_eq!(full.0.peak_memory_bytes, 64 * MIB);
    let full = "dd if=/dev/zero of=/tmp/x bs=1M count=100 2>/dev/null || echo full; rm -f /tmp/x; echo goes on";
    assert_eq!(bench.sh(full).await.unwrap().exits(0).stdout(), "full\ngoes on\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_ends_with_its_time() {
    let Some(mut bench) = Bench::new("busybox", &[]).await else { return };
    bench.timeout = Duration::from_secs(2);
    let ended = bench.sh("b() { b | b & }; b; while true; do sleep 1; done").await;
    // The shell may give up for want of processes before its time is over.
    match ended {
        Err(RunError::TimedOut(_)) => {}
        other => assert!(matches!(other.unwrap().0.outcome, Outcome::Exited(_) | Outcome::Trapped(Trap::OutOfMemory))),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_too_much_is_stopped() {
    let Some(bench) = Bench::new("busybox", &[]).await else { return };
    let bench = bench.result("out", "/out");
    let one_file = bench.sh("dd if=/dev/zero of=/out/x bs=1M count=64 2>&1; ls -l /out/x").await.unwrap();
    assert!(one_file.stdout().contains(&format!(" {} ", 8 * MIB)), "the kernel stops it there: {}", one_file.stdout());
    let many = "i=0; while true; do i=$((i+1)); dd if=/dev/zero of=/out/$i bs=64k count=16 2>/dev/null; done";
    let ended = bench.sh(many).await.unwrap().stopped_by(Trap::OutOfDisk);
    assert_eq!(fs::read_dir(ended.result("out")).unwrap().count(), 0);
    let deep = "cd /out; while mkdir d && cd d; do :; done; sleep 100";
    bench.sh(deep).await.unwrap().stopped_by(Trap::OutOfDisk);
    let sparse = "for i in 1 2 3; do truncate -s 4M /out/$i; done; sleep 100";
    bench.sh(sparse).await.unwrap().stopped_by(Trap::OutOfDisk);
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_output_is_cut_where_the_limit_is() {
    let Some(bench) = Bench::new("busybox", &[]).await else { return };
    let ended = bench.run(&["yes"]).await.unwrap().stopped_by(Trap::OutOfDisk);
    assert_eq!(fs::metadata(ended.0.outputs.stdout.unwrap()).unwrap().len(), 8 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_asked_to_end_when_its_time_is_over_and_then_made_to() {
    let Some(mut bench) = Bench::new("busybox", &[]).await else { return };
    bench.timeout = Duration::from_secs(1);
    let polite = bench.sh("trap 'exit 0' TERM; while true; do sleep 1; done").await.unwrap_err();
    assert!(matches!(polite, RunError::TimedOut(_)), "{polite}");
    let stubborn = bench.sh("trap '' TERM; while true; do sleep 1; done").await.unwrap_err();
    assert!(matches!(stubborn, RunError::TimedOut(_)), "{stubborn}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_ends() {
    let Some(bench) = Bench::new("busybox", &[]).await else { return };
    let cancel = bench.cancel.clone();
    let label = format!("shoal.node={}", bench.node);
    let (ended, ()) = tokio::join!(bench.run(&["sleep", "1000"]), async {
        while containers(&label).is_empty() {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    });
    assert!(matches!(ended.unwrap_err(), RunError::Cancelled));
}

#[tokio::test(flavor = "multi_thread")]
async fn results_hold_files_only_whatever_the_program_made() {
    let Some(bench) = Bench::new("busybox", &[]).await else { return };
    let bench = bench.result("out", "/out");
    let script = "cd /out; echo code >so.1; ln -s so.1 so; ln -s /etc/passwd passwd; ln -s / root; mkfifo pipe; \
                  cp /bin/busybox tool; chmod 6755 tool";
    let ended = bench.sh(script).await.unwrap().exits(0);
    let out = ended.result("out");
    let mut names: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["so", "so.1", "tool"]);
    assert_eq!(fs::read_to_string(out.join("so")).unwrap(), "code\n");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(out.join("tool")).unwrap().permissions());
    assert_eq!(mode & 0o7000, 0, "nothing is setuid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_the_image_is_memory_and_leaves_nothing() {
    let Some(bench) = Bench::new("of-volume", &["VOLUME /data"]).await else { return };
    let before = docker(&["volume", "ls", "-q"]);
    let told =
        bench.sh("echo x >/data/x && grep ' /data ' /proc/mounts | cut -d' ' -f3").await.unwrap().exits(0).stdout();
    assert_eq!(told, "tmpfs\n");
    assert_eq!(docker(&["volume", "ls", "-q"]), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_as_a_blob_under_a_name_of_ours_and_is_loaded_once() {
    let Some(mut bench) = Bench::new("of-blob", &["ENV FROM=blob"]).await else { return };
    let archive = save("shoal-test/of-blob:1");
    let saved = look_through(std::io::Cursor::new(archive.clone())).await.unwrap();
    assert_eq!((saved.id, saved.platform.as_str()), (bench.image.id, bench.platform.as_str()));
    let hash = bench.blobs.add(archive);
    docker(&["rmi", "shoal-test/of-blob:1"]).expect("it goes");
    bench.image.origin = ImageOrigin::Blob(hash);
    for _ in 0..2 {
        assert_eq!(bench.sh("echo $FROM").await.unwrap().exits(0).stdout(), "blob\n");
        bench.blobs = Memory::default();
    }
    let tags = docker(&["image", "inspect", "--format", "{{.RepoTags}}", &bench.image.id.to_string()]).unwrap();
    assert!(tags.starts_with("[shoal/") && tags.ends_with(&format!(":{hash}]")), "{tags}");
    docker(&["rmi", tags.trim_matches(['[', ']'])]).expect("it goes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_not_the_image_is_declined() {
    let Some(mut bench) = Bench::new("busybox", &[]).await else { return };
    let hash: BlobHash = bench.blobs.add(save("shoal-test/busybox:1"));
    bench.image = Image { id: shoal_protocol::id::ImageId([7; 32]), origin: ImageOrigin::Blob(hash) };
    let error = bench.run(&["true"]).await.unwrap_err().to_string();
    assert!(error.contains("the job names sha256:0707"), "{error}");
    bench.image.origin = ImageOrigin::Engine;
    let error = bench.run(&["true"]).await.unwrap_err().to_string();
    assert!(error.contains("push-image"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_comes_back_is_rid_of_what_was_left_and_of_nothing_else() {
    let Some(bench) = Bench::new("busybox", &[]).await else { return };
    let start = |node: &str| {
        let label = format!("shoal.node={node}");
        docker(&["run", "-d", "--network=none", "--label", &label, "shoal-test/busybox:1", "sleep", "1000"]).unwrap()
    };
    let other = format!("{}-other", bench.node);
    let (_, foreign) = (start(&bench.node), start(&other));
    executor(&bench.node, false).look().await.unwrap();
    assert_eq!(containers(&format!("shoal.node={}", bench.node)), Vec::<String>::new());
    assert_eq!(containers(&format!("shoal.node={other}")).len(), 1);
    docker(&["rm", "-f", &foreign]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_not_there_is_named() {
    let config = DockerConfig { host: "unix:///nowhere/docker.sock".into(), ..config() };
    let error = DockerExecutor::new(config).look().await.unwrap_err().to_string();
    assert!(error.contains("/nowhere/docker.sock") && error.contains("DOCKER_HOST"), "{error}");
}

fn save(name: &str) -> Vec<u8> {
    std::process::Command::new("docker").args(["save", name]).output().expect("it is saved").stdout
}
