//! Large programs of others, as their authors ship them: each must run, twice alike.
//!
//! They are not kept in the repository: `tests/corpus/fetch.sh FOLDER` fetches them, `tests/corpus/build.sh FOLDER`
//! builds some from source, and `SHOAL_CORPUS=FOLDER` names the folder. What is not in it is skipped, and the test
//! says so.

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shoal_executors::{WasmConfig, WasmExecutor};
use shoal_protocol::limits::{DEFAULT_FUEL, DEFAULT_OUTPUT_BYTES};
use shoal_protocol::task::{Limits, Outcome};
use support::{Ended, job};

/// Names the folder with the modules.
const FOLDER: &str = "SHOAL_CORPUS";
/// How long compiling and running one of them may take in a debug build on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(3_600);

/// One program and what it is given.
struct Program<'a> {
    name: &'a str,
    arguments: &'a [&'a str],
    /// Files in `/in`.
    files: &'a [(&'a str, &'a str)],
}

fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Runs a program twice; nothing if it is not there. Its results come from `/out`.
async fn run(program: Program<'_>) -> Option<Ended> {
    let name = program.name;
    let folder = folder()?;
    let Ok(module) = std::fs::read(folder.join(name).with_extension("wasm")) else {
        skipped(&format!("{name}.wasm is not in {}", folder.display()));
        return None;
    };
    let executor = WasmExecutor::new(WasmConfig::default()).expect("an executor");
    let files = tempfile::tempdir().expect("a folder");
    for (file, text) in program.files {
        std::fs::write(files.path().join(file), text).expect("an input");
    }
    let first = once(&executor, &module, &program, files.path()).await;
    assert_eq!(once(&executor, &module, &program, files.path()).await, first, "{name} runs twice alike");
    Some(first)
}

async fn once(executor: &WasmExecutor, module: &[u8], program: &Program<'_>, files: &Path) -> Ended {
    let mut job = job(module).arguments(program.arguments).input("/in", files).result("out", "/out");
    job.timeout = TIMEOUT;
    let limits = Limits { memory_bytes: 2 << 30, fuel: DEFAULT_FUEL, output_bytes: DEFAULT_OUTPUT_BYTES };
    let ended = job.limits(|given| *given = limits).run_on(executor).await;
    ended.unwrap_or_else(|error| panic!("{}: {error}", program.name))
}

/// Says why nothing was tested, past the test runner, which shows only what failing tests print.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}; tests/corpus/fetch.sh and build.sh put programs there");
}

/// Asserts that a program that is there has exited with 0, and printed just this.
fn printed(ended: &Ended, stdout: &str) {
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!((ended.outcome, ended.stdout.as_str()), (Outcome::Exited(0), stdout), "{said}");
}

/// A result file as text.
fn file(ended: &Ended, name: &str) -> String {
    let said = format!("{:?}: {}{}", ended.outcome, ended.stdout, ended.stderr);
    let bytes = ended.results.get(name).unwrap_or_else(|| panic!("{name} was not written: {said}"));
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_folder_that_is_named_has_programs() {
    let Some(folder) = folder() else {
        skipped(&format!("{FOLDER} names no folder with large programs of others"));
        return;
    };
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let modules = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|kind| kind == "wasm"));
    assert_ne!(modules.count(), 0, "{} has no modules", folder.display());
}

#[tokio::test]
async fn python_reads_writes_and_queries() {
    let script = "
import hashlib, json, os, random, sqlite3, sys, time, zlib
rows = [(i, i * i / 7) for i in range(1000)]
db = sqlite3.connect('/tmp/squares.db')
db.execute('create table squares (number integer primary key, square real)')
db.executemany('insert into squares values (?, ?)', rows)
db.commit()
print(db.execute('select count(*), round(sum(square), 3) from squares where number % 3 = 0').fetchone())
os.makedirs('/out/deep/er')
with open('/out/deep/er/a.json', 'w') as out:
    json.dump({'b': [1, 2.5, None], 'a': 'é'}, out, sort_keys=True)
os.rename('/out/deep/er/a.json', '/out/a.json')
print(sorted(os.listdir('/out')), os.stat('/out/a.json').st_size)
print(hashlib.sha256(zlib.compress(b'x' * 100000)).hexdigest()[:16])
print(len({time.time() for _ in range(10)}) == 10, 0 <= random.random() < 1)
try:
    open('/in/new', 'w')
except OSError as error:
    print(type(error).__name__)
sys.exit(0)
";
    let program = Program { name: "python", arguments: &["/in/a.py"], files: &[("a.py", script)] };
    let Some(ended) = run(program).await else { return };
    printed(&ended, "(334, 15896801.571)\n['a.json', 'deep'] 36\n7ed2e5275386c53a\nTrue True\nOSError\n");
    assert_eq!(file(&ended, "out/a.json"), r#"{"a": "\u00e9", "b": [1, 2.5, null]}"#);
}

#[tokio::test]
async fn ruby_has_its_standard_library() {
    let script = "
require 'json'
require 'digest'
require 'set'
puts JSON.generate((1..10).to_h { |n| [n.to_s, n ** 20] })
puts Digest::SHA256.hexdigest('ruby')[0, 16]
puts [3, 1, 2].sort.inspect, Set.new([1, 1, 2]).size, (1..Float::INFINITY).lazy.select(&:even?).first(3).inspect
File.write('/out/ruby.txt', Dir.children('/in').sort.join(','))
begin
  raise ArgumentError, 'caught'
rescue => error
  puts error.message
end
";
    let program = Program { name: "ruby", arguments: &["/in/a.rb"], files: &[("a.rb", script)] };
    let Some(ended) = run(program).await else { return };
    let powers = (1..=10_u128).map(|n| format!("\"{n}\":{}", n.pow(20))).collect::<Vec<_>>().join(",");
    printed(&ended, &format!("{{{powers}}}\nb9138194ffe9e7c8\n[1, 2, 3]\n2\n[2, 4, 6]\ncaught\n"));
    assert_eq!(file(&ended, "out/ruby.txt"), "a.rb");
}

#[tokio::test]
async fn php_runs_a_script() {
    let script = "<?php
$numbers = array_map(fn($n) => $n ** 2, range(1, 100));
echo array_sum($numbers), ' ', md5('php'), ' ', json_encode(['a' => 1.5, 'b' => preg_split('/,/', 'x,y')]), \"\\n\";
file_put_contents('/out/php.txt', strrev(file_get_contents('/in/a.txt')));
";
    let files = [("a.php", script), ("a.txt", "olleh")];
    let program = Program { name: "php", arguments: &["-q", "/in/a.php"], files: &files };
    let Some(ended) = run(program).await else { return };
    printed(&ended, "338350 e1bfd762321e409cee4ac0b6e841963c {\"a\":1.5,\"b\":[\"x\",\"y\"]}\n");
    assert_eq!(file(&ended, "out/php.txt"), "hello");
}

#[tokio::test]
async fn esbuild_bundles_typescript() {
    let files = [
        ("a.ts", "import { answer } from './b';\ninterface Unused { a: string }\nconsole.log(answer as number);\n"),
        ("b.ts", "export const answer: number = 42;\nexport const unused = 1;\n"),
    ];
    let arguments = ["--bundle", "/in/a.ts", "--outfile=/out/a.js", "--minify", "--log-level=error"];
    let Some(ended) = run(Program { name: "esbuild", arguments: &arguments, files: &files }).await else { return };
    printed(&ended, "");
    assert_eq!(file(&ended, "out/a.js"), "(()=>{console.log(42);})();\n");
}

#[tokio::test]
async fn sqlite_keeps_a_database_in_a_file() {
    let script = "
create table words (word text primary key, seen integer);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
insert into words select printf('word-%05d', i), i * i % 97 from n;
create index seen on words (seen);
select count(*), sum(seen), max(word) from words where seen between 10 and 20;
begin; delete from words; rollback;
select count(*) from words;
vacuum;
pragma integrity_check;
";
    let program = Program {
        name: "sqlite",
        arguments: &["-batch", "-list", "/out/words.db", ".read /in/a.sql"],
        files: &[("a.sql", script)],
    };
    let Some(ended) = run(program).await else { return };
    printed(&ended, "1649|23500|word-19986\n20000\nok\n");
    assert!(file(&ended, "out/words.db").starts_with("SQLite format 3\0"));
}

#[tokio::test]
async fn quickjs_runs_a_script() {
    let script = "
class Point { constructor(x, y) { this.x = x; this.y = y; } get length() { return Math.hypot(this.x, this.y); } }
print(new Point(3, 4).length, [3, 1, 2].sort().join(), 2n ** 100n, /(\\d+)-(?<b>\\w)/.exec('12-x').groups.b);
function* fibonacci() { let [a, b] = [0, 1]; for (;;) { yield a; [a, b] = [b, a + b]; } }
const found = []; for (const n of fibonacci()) { if (n > 1000) break; found.push(n); }
print(JSON.stringify(found), Math.sin(1), 0.1 + 0.2, (1e21 + 1).toString());
";
    let program = Program { name: "quickjs", arguments: &["/in/a.js"], files: &[("a.js", script)] };
    let Some(ended) = run(program).await else { return };
    let (power, sine) = ("1267650600228229401496703205376", "0.8414709848078965");
    let fibonacci = "[0,1,1,2,3,5,8,13,21,34,55,89,144,233,377,610,987]";
    printed(&ended, &format!("5 1,2,3 {power} x\n{fibonacci} {sine} 0.30000000000000004 1e+21\n"));
}
