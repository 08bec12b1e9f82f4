// A program that asks its world for everything a host could leak, and tries what it must not be able to do.
// Each argument is one question; the answers go to standard output.
use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn main() {
    for question in std::env::args().skip(1) {
        match question.as_str() {
            "arguments" => println!("{:?}", std::env::args().collect::<Vec<_>>()),
            "environment" => println!("{:?}", std::env::vars().collect::<Vec<_>>()),
            "clock" => clock(),
            "sleep" => sleep(),
            "random" => println!("{}", RandomState::new().build_hasher().finish()),
            "stdin" => println!("stdin {:?}", std::io::stdin().read(&mut [0; 8])),
            "edit" => edit().unwrap(),
            "escape" => escape(),
            "fill" => fill(),
            "exit" => std::process::exit(7),
            path if path.starts_with("list=") => list(&path[5..]),
            path if path.starts_with("read=") => println!("{:?}", fs::read_to_string(&path[5..])),
            path if path.starts_with("write=") => println!("{:?}", fs::write(&path[6..], "written\n")),
            other => panic!("unknown question {}", other),
        }
    }
}

fn clock() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let start = Instant::now();
    let mut readings = 1;
    while start.elapsed() < Duration::from_millis(1) {
        readings += 1;
    }
    println!("now {:?}, a millisecond takes {} readings", now, readings);
}

fn sleep() {
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(3600));
    println!("slept {:?}", start.elapsed());
}

fn list(path: &str) {
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let modified = metadata.modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
        println!("{:?} {} {:?} {}", entry.file_name(), metadata.len(), modified, metadata.is_dir());
        if metadata.is_dir() {
            list(entry.path().to_str().unwrap());
        }
    }
}

fn edit() -> std::io::Result<()> {
    fs::create_dir_all("/out/a/b")?;
    let mut file = File::create("/out/a/b/first")?;
    file.write_all(b"0123456789")?;
    file.seek(SeekFrom::Start(3))?;
    file.write_all(b"xyz")?;
    file.set_len(8)?;
    drop(file);
    OpenOptions::new().append(true).open("/out/a/b/first")?.write_all(b"end")?;
    fs::rename("/out/a/b/first", "/out/a/second")?;
    fs::remove_dir("/out/a/b")?;
    fs::write("/tmp/gone", "scratch")?;
    fs::copy("/out/a/second", "/out/third")?;
    fs::remove_file("/out/third")?;
    println!("{}", fs::read_to_string("/out/a/second")?);
    Ok(())
}

fn escape() {
    for path in ["/../etc/passwd", "../../etc/passwd", "/etc/passwd", "/in/../../etc/passwd", "/out/../../etc/hosts"] {
        println!("read {}: {}", path, fs::read(path).is_ok());
    }
    for path in ["/new", "/in/new", "/in/file", "/../new", "/out/../new"] {
        println!("write {}: {}", path, fs::write(path, "x").is_ok());
    }
    println!("remove input: {}", fs::remove_file("/in/file").is_ok());
    println!("rename input: {}", fs::rename("/in/file", "/out/file").is_ok());
    println!("remove result: {}", fs::remove_dir("/out").is_ok());
    println!("link: {}", fs::hard_link("/in/file", "/out/link").is_ok());
}

fn fill() {
    let mut file = File::create("/out/full").unwrap();
    let mut written = 0;
    let error = loop {
        match file.write(&[b'x'; 1000]) {
            Ok(bytes) => written += bytes,
            Err(error) => break error,
        }
    };
    drop(file);
    fs::remove_file("/out/full").unwrap();
    println!("{} bytes, then {:?}", written, error.raw_os_error());
}
