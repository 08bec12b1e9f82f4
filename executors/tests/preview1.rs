//! Preview 1 as its specification has it, call by call, where no C library leads: flags, rights, cookies, bounds.

mod support;

use shoal_protocol::task::Outcome;
use support::job;

const SUCCESS: i32 = 0;
const BADF: i32 = 8;
const EXIST: i32 = 20;
const FAULT: i32 = 21;
const FBIG: i32 = 22;
const ILSEQ: i32 = 25;
const INVAL: i32 = 28;
const ISDIR: i32 = 31;
const LOOP: i32 = 32;
const NAMETOOLONG: i32 = 37;
const NOENT: i32 = 44;
const NOSYS: i32 = 52;
const NOTDIR: i32 = 54;
const NOTSOCK: i32 = 57;
const PERM: i32 = 63;
const ROFS: i32 = 69;
const SPIPE: i32 = 70;
const NOTCAPABLE: i32 = 76;

/// Functions that the cases call, with their parameters.
const FUNCTIONS: &[(&str, &str)] = &[
    ("args_get", "i32 i32"),
    ("clock_time_get", "i32 i64 i32"),
    ("clock_res_get", "i32 i32"),
    ("fd_advise", "i32 i64 i64 i32"),
    ("fd_allocate", "i32 i64 i64"),
    ("fd_close", "i32"),
    ("fd_fdstat_get", "i32 i32"),
    ("fd_fdstat_set_flags", "i32 i32"),
    ("fd_fdstat_set_rights", "i32 i64 i64"),
    ("fd_filestat_set_size", "i32 i64"),
    ("fd_filestat_set_times", "i32 i64 i64 i32"),
    ("fd_pread", "i32 i32 i32 i64 i32"),
    ("fd_prestat_get", "i32 i32"),
    ("fd_prestat_dir_name", "i32 i32 i32"),
    ("fd_read", "i32 i32 i32 i32"),
    ("fd_readdir", "i32 i32 i32 i64 i32"),
    ("fd_renumber", "i32 i32"),
    ("fd_seek", "i32 i64 i32 i32"),
    ("fd_write", "i32 i32 i32 i32"),
    ("path_filestat_get", "i32 i32 i32 i32 i32"),
    ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
    ("path_symlink", "i32 i32 i32 i32 i32"),
    ("path_unlink_file", "i32 i32 i32"),
    ("poll_oneoff", "i32 i32 i32 i32"),
    ("proc_raise", "i32"),
    ("random_get", "i32 i32"),
    ("sched_yield", ""),
    ("sock_accept", "i32 i32 i32"),
    ("sock_shutdown", "i32 i32"),
];

/// Runs `body`, which leaves an error number. At 0 lie paths: "out" (3 bytes), at 16 "out/file" (8), at 32 "/out" (4),
/// at 48 "out/" (4), at 64 a byte that is no UTF-8; 1024 is free, 4 buffers of 16 bytes are described at 512.
async fn errno(body: &str) -> i32 {
    let imports: String = FUNCTIONS
        .iter()
        .map(|(name, parameters)| {
            format!(r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {parameters}) (result i32)))"#)
        })
        .collect();
    let module = format!(
        r#"(module {imports}
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "out") (data (i32.const 16) "out/file") (data (i32.const 32) "/out")
            (data (i32.const 48) "out/") (data (i32.const 64) "\ff")
            (data (i32.const 512) "\00\08\00\00\10\00\00\00\10\08\00\00\10\00\00\00\20\08\00\00\10\00\00\00")
            (func $open (param $oflags i32) (param $rights i64) (result i32)
                (call $path_open (i32.const 3) (i32.const 1) (i32.const 16) (i32.const 8) (local.get $oflags)
                    (local.get $rights) (i64.const -1) (i32.const 0) (i32.const 1024)))
            (func $fd (result i32) (i32.load (i32.const 1024)))
            (func $same (param i64 i64) (result i32) (if (result i32) (i64.eq (local.get 0) (local.get 1))
                (then (i32.const 0)) (else (i32.const 99))))
            (func (export "_start") (call $exit (block (result i32) {body}))))"#
    );
    match job(module).result("out", "/out").vote().await.outcome {
        Outcome::Exited(errno) => errno,
        trapped => panic!("{trapped}: {body}"),
    }
}

async fn check(cases: &[(&str, i32)]) {
    for (body, expected) in cases {
        assert_eq!(errno(body).await, *expected, "{body}");
    }
}

/// `path_open` of a path below the root, by place and length.
fn open(place: u32, length: u32, oflags: u32, fdflags: u32) -> String {
    format!(
        "(call $path_open (i32.const 3) (i32.const 1) (i32.const {place}) (i32.const {length}) (i32.const {oflags})
            (i64.const 66) (i64.const -1) (i32.const {fdflags}) (i32.const 1024))"
    )
}

#[tokio::test]
async fn paths_and_flags_of_opening() {
    check(&[
        (&open(16, 8, 1, 0), SUCCESS),
        (&open(16, 8, 0, 0), NOENT),
        (&open(32, 4, 0, 0), PERM),
        (&open(64, 1, 0, 0), ILSEQ),
        (&open(0, 0, 0, 0), NOENT),
        (&open(0, 2_000, 0, 0), NAMETOOLONG),
        (&open(0xffff_fff0, 8, 0, 0), FAULT),
        (&open(0, 4, 0, 0), ILSEQ),
        (&open(16, 8, 16, 0), INVAL),
        (&open(16, 8, 3, 0), INVAL),
        (&open(16, 8, 1, 32), INVAL),
        (&format!("(drop {}) {}", open(16, 8, 1, 0), open(16, 8, 5, 0)), EXIST),
        (&format!("(drop {}) {}", open(16, 8, 1, 0), open(16, 8, 2, 0)), NOTDIR),
        (
            "(call $path_open (i32.const 1) (i32.const 1) (i32.const 16) (i32.const 8) (i32.const 1) (i64.const 66)
            (i64.const -1) (i32.const 0) (i32.const 1024))",
            NOTDIR,
        ),
        (
            "(call $path_open (i32.const 9) (i32.const 1) (i32.const 16) (i32.const 8) (i32.const 1) (i64.const 66)
            (i64.const -1) (i32.const 0) (i32.const 1024))",
            BADF,
        ),
        (
            "(drop (call $path_symlink (i32.const 0) (i32.const 3) (i32.const 3) (i32.const 16) (i32.const 8)))
            (call $path_open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 8) (i32.const 0) (i64.const 2)
            (i64.const -1) (i32.const 0) (i32.const 1024))",
            LOOP,
        ),
        ("(call $path_symlink (i32.const 0) (i32.const 3) (i32.const 3) (i32.const 48) (i32.const 4))", NOENT),
        ("(call $path_unlink_file (i32.const 3) (i32.const 48) (i32.const 4))", ISDIR),
        ("(call $path_filestat_get (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 3) (i32.const 65500))", FAULT),
    ])
    .await;
}

#[tokio::test]
async fn descriptors_and_rights() {
    let opened = |then: &str| format!("(drop (call $open (i32.const 1) (i64.const 0x3fffffff))) {then}");
    check(&[
        (&opened("(call $fd_fdstat_set_rights (call $fd) (i64.const 2) (i64.const 0))"), SUCCESS),
        (&opened("(drop (call $fd_fdstat_set_rights (call $fd) (i64.const 2) (i64.const 0)))
            (call $fd_fdstat_set_rights (call $fd) (i64.const 66) (i64.const 0))"), NOTCAPABLE),
        (&opened("(drop (call $fd_fdstat_set_rights (call $fd) (i64.const 2) (i64.const 0)))
            (call $fd_write (call $fd) (i32.const 512) (i32.const 1) (i32.const 1028))"), BADF),
        (&opened("(call $fd_renumber (call $fd) (i32.const 77))"), BADF),
        (&opened("(call $fd_renumber (i32.const 77) (call $fd))"), BADF),
        (&opened("(drop (call $fd_renumber (call $fd) (i32.const 1))) (call $fd_close (call $fd))"), BADF),
        (&opened("(drop (call $fd_renumber (call $fd) (i32.const 1))) (call $fd_seek (i32.const 1) (i64.const 0) (i32.const 0) (i32.const 1028))"), SUCCESS),
        // The lowest free number is given out: 4, and again 4.
        (&opened("(drop (call $fd_close (call $fd))) (drop (call $open (i32.const 0) (i64.const 2)))
            (call $same (i64.extend_i32_u (call $fd)) (i64.const 4))"), SUCCESS),
        (&opened("(call $fd_fdstat_set_flags (call $fd) (i32.const 32))"), INVAL),
        (&opened("(call $fd_seek (call $fd) (i64.const -1) (i32.const 0) (i32.const 1028))"), INVAL),
        (&opened("(call $fd_filestat_set_size (call $fd) (i64.const -1))"), FBIG),
        (&opened("(call $fd_allocate (call $fd) (i64.const -1) (i64.const 2))"), FBIG),
        (&opened("(call $fd_advise (call $fd) (i64.const 0) (i64.const 0) (i32.const 6))"), INVAL),
        (&opened("(call $fd_filestat_set_times (call $fd) (i64.const 0) (i64.const 0) (i32.const 3))"), INVAL),
        (&opened("(call $fd_filestat_set_times (call $fd) (i64.const 0) (i64.const 0) (i32.const 16))"), INVAL),
        (&opened("(call $fd_pread (call $fd) (i32.const 512) (i32.const 1) (i64.const 0) (i32.const 65534))"), FAULT),
        (&opened("(call $fd_read (call $fd) (i32.const 512) (i32.const 5000) (i32.const 1028))"), INVAL),
        (&opened("(call $fd_prestat_get (call $fd) (i32.const 1028))"), BADF),
        ("(call $fd_prestat_get (i32.const 3) (i32.const 1028))", SUCCESS),
        ("(call $fd_prestat_dir_name (i32.const 3) (i32.const 1028) (i32.const 0))", NAMETOOLONG),
        ("(call $fd_seek (i32.const 1) (i64.const 0) (i32.const 1) (i32.const 1028))", SPIPE),
        ("(call $fd_filestat_set_size (i32.const 3) (i64.const 0))", ISDIR),
        ("(call $fd_filestat_set_times (i32.const 3) (i64.const 0) (i64.const 0) (i32.const 1))", ROFS),
    ])
    .await;
}

#[tokio::test]
async fn listings_by_cookie_and_in_small_buffers() {
    let read = |length: u32, cookie: u64| {
        format!(
            "(call $fd_readdir (i32.const 3) (i32.const 1040) (i32.const {length}) (i64.const {cookie}) (i32.const 1028))"
        )
    };
    // The root has ".", "..", "out" and "tmp": heads of 24 bytes, and names.
    let used = |call: &str, bytes: u32| {
        format!("(drop {call}) (call $same (i64.load32_u (i32.const 1028)) (i64.const {bytes}))")
    };
    check(&[
        (&used(&read(4_096, 0), 4 * 24 + 9), SUCCESS),
        (&used(&read(30, 0), 30), SUCCESS),
        (&used(&read(4_096, 2), 2 * 24 + 6), SUCCESS),
        (&used(&read(4_096, 4), 0), SUCCESS),
        (&used(&read(4_096, u64::MAX >> 1), 0), SUCCESS),
        // The third entry's cookie is the fourth's place.
        (&format!("(drop {}) (call $same (i64.load (i32.const 1040)) (i64.const 3))", read(4_096, 2)), SUCCESS),
        (&read(70_000, 0), FAULT),
        ("(call $fd_readdir (i32.const 1) (i32.const 1040) (i32.const 100) (i64.const 0) (i32.const 1028))", NOTDIR),
    ])
    .await;
}

#[tokio::test]
async fn clocks_chance_and_what_there_is_not() {
    check(&[
        ("(call $clock_time_get (i32.const 4) (i64.const 0) (i32.const 1028))", INVAL),
        ("(call $clock_res_get (i32.const 3) (i32.const 1028))", SUCCESS),
        ("(call $random_get (i32.const 65530) (i32.const 10))", FAULT),
        ("(call $args_get (i32.const 65534) (i32.const 1028))", FAULT),
        ("(call $sock_accept (i32.const 3) (i32.const 0) (i32.const 1028))", NOTSOCK),
        ("(call $sock_shutdown (i32.const 9) (i32.const 0))", BADF),
        ("(call $proc_raise (i32.const 6))", NOSYS),
        ("(call $sched_yield)", SUCCESS),
        ("(call $fd_fdstat_get (i32.const 1) (i32.const 65530))", FAULT),
    ])
    .await;
}

#[tokio::test]
async fn polling_files_takes_no_time_and_polling_clocks_takes_what_was_asked() {
    // A subscription of 48 bytes: user data, kind, clock 1, a timeout of 5 s; after it one of descriptor 0.
    let clock = "(i64.store (i32.const 2048) (i64.const 7)) (i32.store (i32.const 2064) (i32.const 1))
        (i64.store (i32.const 2072) (i64.const 5000000000))";
    let file = "(i64.store (i32.const 2096) (i64.const 8)) (i32.store8 (i32.const 2104) (i32.const 1))";
    let poll = |count: u32| {
        format!("(drop (call $poll_oneoff (i32.const 2048) (i32.const 3072) (i32.const {count}) (i32.const 1028)))")
    };
    let time = "(drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 1032)))";
    let shows = |ns: u64| format!("(call $same (i64.load (i32.const 1032)) (i64.const {ns}))");
    let event = |userdata: u64| format!("(call $same (i64.load (i32.const 3072)) (i64.const {userdata}))");
    check(&[
        (&format!("{clock} {} {time} {}", poll(1), shows(6_000_001_000)), SUCCESS),
        (&format!("{clock} {file} {} {time} {}", poll(2), shows(1_000_001_000)), SUCCESS),
        (&format!("{clock} {file} {} {}", poll(2), event(8)), SUCCESS),
        (&format!("{clock} {} {}", poll(1), event(7)), SUCCESS),
        ("(call $poll_oneoff (i32.const 2048) (i32.const 3072) (i32.const 0) (i32.const 1028))", INVAL),
        (
            "(i32.store8 (i32.const 2056) (i32.const 9))
            (call $poll_oneoff (i32.const 2048) (i32.const 3072) (i32.const 1) (i32.const 1028))",
            INVAL,
        ),
    ])
    .await;
}
